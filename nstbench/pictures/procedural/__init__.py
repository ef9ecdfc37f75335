"""Procedural style pictures, which need no painting and no download.

Each style has large forms, a fine structure of its own and a strong palette. A name and a seed define
one composition; the size is its resolution only. Importing this package loads numpy and
nothing heavier, so that the styles can be listed quickly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nstbench.errors import UserError, did_you_mean
from nstbench.pictures.procedural import (
    batik,
    cubist,
    expressionist,
    glass,
    gold,
    hatching,
    mosaic,
    pointillism,
    strokes,
    watercolour,
    woodcut,
)
from nstbench.pictures.procedural.field import reduce

if TYPE_CHECKING:
    import torch

__all__ = ["STYLES", "Style", "generate"]

# Below this size a stroke is thinner than a pixel: smaller pictures are painted larger and averaged.
_LEAST = 256


@dataclass(frozen=True)
class Style:
    """A way of painting: ``paint(size, rng)`` returns ``(size, size, 3)`` sRGB, about in [0, 1]."""

    name: str
    description: str
    paint: Callable[[int, np.random.Generator], np.ndarray]


STYLES: dict[str, Style] = {
    s.name: s
    for s in (
        Style("strokes", "thick oil strokes along a whirling night sky, after van Gogh", strokes.paint),
        Style("glass", "stained glass: leaded cells of saturated colour, a sun over a lake", glass.paint),
        Style("mosaic", "Roman floor mosaic: tesserae in courses around fish and a frame", mosaic.paint),
        Style("hatching", "pen and ink: a cross-hatched still life on cream paper", hatching.paint),
        Style(
            "pointillism", "dots of pure complementary colours, a river bank after Seurat", pointillism.paint
        ),
        Style("woodcut", "colour woodcut: carved waves in flat blue inks, after Hokusai", woodcut.paint),
        Style(
            "watercolour", "transparent washes: flowers with blooms and dark pigment edges", watercolour.paint
        ),
        Style(
            "expressionist",
            "long wavering bands of hot colour over a fjord, after Munch",
            expressionist.paint,
        ),
        Style("cubist", "a still life with guitar broken into shaded planes, after Gris", cubist.paint),
        Style("gold", "gold leaf and ornament: spirals, blocks and discs, after Klimt", gold.paint),
        Style("batik", "wax-resist cloth: flowers, paisleys, rows of dots, crackle veins", batik.paint),
    )
}


def generate(name: str, *, size: int = 512, seed: int = 0) -> torch.Tensor:
    """Paint a procedural style picture.

    Args:
        name: Key of `STYLES`.
        size: Pixels on a side. The composition does not depend on it.
        seed: Seed of the composition and the colours.

    Returns:
        Picture ``(1, 3, size, size)``, sRGB float32 in [0, 1], rounded to 256 levels, so that it equals
        the PNG it is saved as.

    Raises:
        UserError: If no style has that name, the size is less than 1, or the seed is negative.
    """
    if name not in STYLES:
        hint = did_you_mean(name, STYLES, what="procedural styles")
        raise UserError("picture", f"procedural:{name}", "there is no such procedural style", hint)
    if size < 1:
        raise UserError("size", size, "a picture has at least one pixel", "Type a number such as 512.")
    if seed < 0:
        raise UserError("seed", seed, "a seed is not negative", "Type 0, 1, 2, …")
    import torch

    finer = -(-_LEAST // size)
    painted = STYLES[name].paint(size * finer, np.random.default_rng(seed))
    levels = np.rint(np.clip(reduce(painted, finer), 0, 1) * 255).astype(np.uint8)
    return torch.from_numpy(levels).permute(2, 0, 1)[None].float().div(255).contiguous()
