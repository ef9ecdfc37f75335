"""Sizes of pictures, apart from all that loads torch."""

Shape = tuple[int, int]
"""Height and width in pixels."""
