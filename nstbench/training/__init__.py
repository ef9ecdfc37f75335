"""Training of the texture encoder."""
