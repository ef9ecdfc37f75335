"""The encoder that ships with nstbench: trained on procedural textures alone, without photographs."""
