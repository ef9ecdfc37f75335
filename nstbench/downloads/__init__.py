"""Fetching, verifying and storing files that a registry names: weights and paper pictures."""
