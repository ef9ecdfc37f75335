"""The pure mathematics of the losses."""
