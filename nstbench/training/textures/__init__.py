"""Texture programs: each number is a texture, of which any number of pictures can be drawn.

A program fixes marks, scales, large structure and palette of a texture; everything else is drawn
at random for each picture. Programs use only arithmetic and a random number generator: no
photographs and no paintings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nstbench.training.textures.fields import Array, pick
from nstbench.training.textures.marks import Leaves, Strokes
from nstbench.training.textures.patterns import Cells, Clouds, Fractal, Lattice, Waves

__all__ = ["FAMILIES", "Texture", "texture"]

Family = Callable[[np.random.Generator, int], Array]

FAMILIES: dict[str, Callable[[np.random.Generator], Family]] = {
    "strokes": Strokes.draw,
    "leaves": Leaves.draw,
    "waves": Waves.draw,
    "cells": Cells.draw,
    "lattice": Lattice.draw,
    "clouds": Clouds.draw,
    "fractal": Fractal.draw,
}
_SHARES = dict(zip(FAMILIES, (0.36, 0.20, 0.14, 0.10, 0.08, 0.08, 0.04), strict=True))
_STREAM = 20_16  # separates these seeds from other uses of the same small numbers


@dataclass(frozen=True)
class Texture:
    """A texture program.

    Attributes:
        family: Key of `FAMILIES`.
        program: Function that draws pictures.
        soft: Whether pictures are blurred by a pixel.
        grain: Deviation of white noise, as of paper or film.
        relief: Depth of raised paint lit from the upper left.
    """

    family: str
    program: Family
    soft: bool
    grain: float
    relief: float

    def picture(self, seed: int | tuple[int, ...], size: int) -> Array:
        """Return one picture of the texture: ``(size, size, 3)``, sRGB, uint8."""
        rng = np.random.default_rng(seed)
        picture = self.program(rng, size).astype(np.float32)
        if self.soft:
            for axis in (0, 1):
                picture = 0.5 * picture + 0.25 * (np.roll(picture, 1, axis) + np.roll(picture, -1, axis))
        if self.relief:
            light = picture.mean(axis=2)
            slope = np.gradient(light, axis=0) + np.gradient(light, axis=1)
            picture = picture + (self.relief * np.tanh(3 * slope))[..., None]
        if self.grain:
            picture = picture + self.grain * rng.standard_normal(picture.shape, np.float32)
        picture = (picture - 0.5) * rng.uniform(0.85, 1.1) + 0.5 + rng.uniform(-0.06, 0.06)
        return np.asarray((np.clip(picture, 0, 1) * 255).round(), np.uint8)


def texture(number: int) -> Texture:
    """Return the texture program of a number; it depends on nothing else."""
    rng = np.random.default_rng((_STREAM, number))
    family = pick(rng, _SHARES)
    return Texture(
        family=family,
        program=FAMILIES[family](rng),
        soft=bool(rng.random() < 0.25),
        grain=float(rng.choice([0, 0, 0.02, 0.05])),
        relief=float(rng.choice([0, 0, 0, 0.25])),
    )
