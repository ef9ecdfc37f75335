"""The photographs on which encoders are normalised: fixed, so that an encoder is the same in every run."""

from __future__ import annotations

import torch
from torch import Tensor

from nstbench.pictures.io import read_picture
from nstbench.pictures.resize import resize
from nstbench.pictures.samples import SAMPLES

# A face, fur, a still life, sky, points of light and stones, all shipped with scikit-image.
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "hubble", "gravel")


def calibration_pictures(size: int) -> Tensor:
    """Return the calibration photographs ``(B, 3, size, size)``, cropped to their middle square."""
    squares = []
    for name in PHOTOGRAPHS:
        picture = read_picture(SAMPLES[name].path)
        side = min(picture.shape[-2:])
        top, left = ((n - side) // 2 for n in picture.shape[-2:])
        squares.append(resize(picture[..., top : top + side, left : left + side], (size, size)))
    return torch.cat(squares)
