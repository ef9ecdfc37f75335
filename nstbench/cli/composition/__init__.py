"""Composition of a configuration from a command's arguments, with Hydra."""
