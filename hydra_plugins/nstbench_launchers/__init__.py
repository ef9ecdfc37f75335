"""Launchers of nstbench's own, where Hydra looks for plugins; it imports every module here at its start."""
