"""The cost of a run in seconds and memory, before it begins."""
