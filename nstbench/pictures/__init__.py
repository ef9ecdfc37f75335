"""Pictures: reading and writing, sizes, samples, procedural styles, contact sheets."""
