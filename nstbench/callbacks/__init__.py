"""Callbacks of a run: curves, snapshots, checkpoints, progress."""
