"""Exact gradients in bounded memory: the objective computed block by block."""
