"""Lightning modules, and the canvas they optimise."""
