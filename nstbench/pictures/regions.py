"""Masks that need no file: regions of some built-in pictures, for guides (``docs/controls.md``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw


@dataclass(frozen=True)
class Region:
    """A region of a built-in picture, in pixels of it.

    Attributes:
        size: Width and height of the picture.
        ellipses: Left, top, right and bottom of each ellipse.
        polygons: Corners of each polygon, x and y in turn.
        outside: Whether the region is the outside of these shapes.
    """

    size: tuple[int, int]
    ellipses: Sequence[tuple[int, int, int, int]] = ()
    polygons: Sequence[Sequence[int]] = ()
    outside: bool = False

    def mask(self) -> Image.Image:
        """Draw the region in white on black."""
        ink = 0 if self.outside else 255
        drawn = Image.new("L", self.size, 255 - ink)
        pen = ImageDraw.Draw(drawn)
        for ellipse in self.ellipses:
            pen.ellipse(ellipse, fill=ink)
        for polygon in self.polygons:
            pen.polygon(list(polygon), fill=ink)
        return drawn


_SAUCER, _RIM = (76, 66, 479, 389), (172, 17, 409, 208)
_SPOON = (398, 70, 408, 66, 420, 67, 424, 78, 418, 105, 412, 130, 396, 130)
_BACK_OF_SAUCER = (76, 226, 80, 180, 92, 142, 112, 112, 140, 87, 165, 73, 182, 66, 300, 60, 200, 200)
# The hills of the painting lie lower to the left; the cypress stands in front of both.
_HILLS = (0, 372, 120, 368, 200, 348, 280, 336, 340, 332, 420, 338, 512, 350, 512, 512, 0, 512)
_CYPRESS = (408, 64, 420, 72, 412, 118, 430, 190, 444, 300, 470, 430, 470, 512, 345, 512, 350, 300, 372, 170)

REGIONS: Mapping[str, Mapping[str, Region]] = {
    "sample:coffee": {
        "cup": Region((600, 400), (_SAUCER, _RIM), (_BACK_OF_SAUCER, _SPOON)),
        "table": Region((600, 400), (_SAUCER, _RIM), (_BACK_OF_SAUCER, _SPOON), outside=True),
    },
    "procedural:strokes": {
        "sky": Region((512, 512), polygons=(_HILLS, _CYPRESS), outside=True),
        "hills": Region((512, 512), polygons=(_HILLS,)),
    },
}
"""Regions by picture and name: ``sample:coffee/cup`` is the first. Procedural pictures have seed 0."""
