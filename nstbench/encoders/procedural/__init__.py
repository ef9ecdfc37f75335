"""The encoder that ships with nstbench: trained on procedural textures alone, no photograph seen."""
