"""Loss formulations: what a canvas is asked to have in common with the content and style pictures."""
