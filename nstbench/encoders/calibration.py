"""The pictures on which encoders are normalised: fixed, so that an encoder is the same in every run."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from nstbench.pictures import procedural
from nstbench.pictures.io import read_picture
from nstbench.pictures.resize import resize
from nstbench.pictures.samples import SAMPLES

# A face, fur, a still life, sky, points of light and stones, all shipped with scikit-image.
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "hubble", "gravel")

# What is in paintings and not in these photographs: bright and pure colours, hard and soft edges, dots.
PAINTINGS = ("glass", "mosaic", "pointillism", "woodcut", "watercolour", "gold")

PICTURES = len(PHOTOGRAPHS) + len(PAINTINGS)
"""Number of calibration pictures."""


def calibration_photographs(size: int) -> Tensor:
    """Return the calibration photographs ``(6, 3, size, size)``, cropped to their middle square."""
    squares = []
    for name in PHOTOGRAPHS:
        picture = read_picture(SAMPLES[name].path)
        side = min(picture.shape[-2:])
        top, left = ((n - side) // 2 for n in picture.shape[-2:])
        squares.append(resize(picture[..., top : top + side, left : left + side], (size, size)))
    return torch.cat(squares)


@lru_cache(maxsize=1)
def calibration_pictures(size: int) -> Tensor:
    """Return the calibration photographs, and six procedural paintings, ``(12, 3, size, size)``.

    They are painted once in a process, which takes some seconds.
    """
    paintings = [procedural.generate(name, size=size) for name in PAINTINGS]
    return torch.cat([calibration_photographs(size), *paintings])
