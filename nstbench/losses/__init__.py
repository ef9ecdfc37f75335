"""Loss formulations: distances between a canvas and the content and style pictures."""
