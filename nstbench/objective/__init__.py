"""Terms, their weighted sum, units of weights, guides."""
