"""What happens during a run: curves, snapshots, checkpoints, progress."""
