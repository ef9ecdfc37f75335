"""Sizes of pictures and resizing."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from nstbench.errors import UserError, did_you_mean

SizeIs = Literal["long_edge", "short_edge", "area"]
Resample = Literal["bicubic", "pillow"]


def shape_for(height: int, width: int, size: int, size_is: SizeIs) -> tuple[int, int]:
    """Return the (height, width) of a picture resized to ``size`` with its aspect ratio kept.

    =============  ============================  =====================================================
    ``size_is``    scale factor                  source
    =============  ============================  =====================================================
    long_edge      size / max(height, width)     Li & Wand's MRF code (384)
    short_edge     size / min(height, width)     Gatys' PyTorch notebook (512)
    area           sqrt(size² / (height·width))  Gatys et al.'s Torch notebooks: 512² pixels in all
    =============  ============================  =====================================================

    Each side is multiplied by the factor and rounded to the nearest whole number (halves up), and is
    at least 1. The side that ``size`` names is exactly ``size``.

    Raises:
        UserError: If ``size`` is below 1, or ``size_is`` is not one of the three.
    """
    if size < 1:
        raise UserError(
            "size", size, "a picture has at least one pixel a side", "Type a whole number such as 512."
        )
    if size_is == "long_edge":
        scale = size / max(height, width)
    elif size_is == "short_edge":
        scale = size / min(height, width)
    elif size_is == "area":
        scale = size / math.sqrt(height * width)
    else:
        raise UserError(
            "size_is", size_is, "there is no such measure", did_you_mean(size_is, get_args(SizeIs))
        )
    return max(1, math.floor(height * scale + 0.5)), max(1, math.floor(width * scale + 0.5))


@torch.no_grad()
def resize(pictures: Tensor, shape: tuple[int, int], resample: Resample = "bicubic") -> Tensor:
    """Resize (B, 3, H, W) pictures to ``shape`` = (height, width), antialiased, within [0, 1].

    Bicubic overshoots at edges, so the result is clamped. ``pillow`` equals Pillow's bilinear filter, and
    so torchvision's ``Resize``, on an 8-bit picture to within a level: blurred more, and rounded.
    Pictures of that shape are returned unchanged. It is not differentiable.
    """
    if tuple(pictures.shape[-2:]) == tuple(shape):
        return pictures
    kernel = "bicubic" if resample == "bicubic" else "bilinear"
    resized = F.interpolate(pictures, size=tuple(shape), mode=kernel, antialias=True, align_corners=False)
    resized = resized.clamp_(0, 1)
    return resized if resample == "bicubic" else (resized * 255).round_() / 255
