"""Trials of bad luck: kills, damaged checkpoints and records, full disks."""
