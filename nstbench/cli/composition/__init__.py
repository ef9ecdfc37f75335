"""From what is typed to a configuration, through Hydra."""
