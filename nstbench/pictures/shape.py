"""The type of a picture's shape, in a module that does not load torch."""

Shape = tuple[int, int]
"""Height and width in pixels."""
