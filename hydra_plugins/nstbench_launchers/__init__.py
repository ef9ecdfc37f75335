"""nstbench's launchers, where Hydra looks for plugins: it imports every module here when it starts."""
