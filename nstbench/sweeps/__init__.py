"""Sweeps: jobs, launchers, the live view, search and its results."""
