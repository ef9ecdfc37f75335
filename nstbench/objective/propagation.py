"""Guides of feature maps from masks of pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from nstbench.encoders.base import LayerInfo
from nstbench.pictures.shape import Shape

Propagation = Literal["simple", "inside", "all"]

_PIXELS = LayerInfo(channels=3, stride=1, receptive_field=1, first=0.0)


def propagate(
    mask: Tensor,
    layers: Sequence[LayerInfo | None],
    shapes: Sequence[Shape],
    how: Propagation,
    reach: int = 0,
) -> Tensor:
    """Return how much each position of a layer belongs to a region of the picture, ``(1, 1, h, w)``.

    ===========  ==================================================================================
    ``how``      the weight of a position
    ===========  ==================================================================================
    ``simple``   the mean of the mask over the position's share of the picture (downsampling by area)
    ``inside``   the minimum of the mask over its receptive field: 0 unless all of it is in the region
    ``all``      the maximum of the mask over its receptive field: above 0 if any of it is in the region
    ===========  ==================================================================================

    These are the three methods of Gatys et al. (2017, supplement; their code: simple, inside, all). Pixels
    outside the picture belong to no region and are left out of the minimum. For several layers that are
    compared together, the positions are those of the finest map, and the receptive field is the largest of
    theirs, enlarged by the distance from the position at which the coarser maps may be read.

    Args:
        mask: Mask ``(1, 1, H, W)`` in [0, 1], at the size of the picture.
        layers: Layers that are compared together; None: the pixels themselves.
        shapes: Height and width of the layers' maps, for this picture.
        how: Method of propagation, one of the three above.
        reach: Number of neighbours on each side that a loss compares together with a position, as in patches.
    """
    infos = [info or _PIXELS for info in layers]
    finest = max(range(len(shapes)), key=lambda i: shapes[i][0] * shapes[i][1])
    shape = shapes[finest]
    if how == "simple":
        return _mean_of_shares(mask, shape, infos[finest])
    own, sign = infos[finest], -1.0 if how == "inside" else 1.0
    if any(info.receptive_field is None for info in infos):  # a position depends on the whole picture
        return (sign * mask).amax().mul(sign).expand(1, 1, *shape).clone()
    field = max(
        (info.receptive_field or 1) + (2 * info.stride if info.stride > own.stride else 0) for info in infos
    )
    field += 2 * reach * own.stride
    exact = all(info.first is not None for info in infos)
    x = sign * mask
    for axis, positions in enumerate(shape):
        x = _window_maximum(x, 2 + axis, positions, own, field, exact=exact)
    return sign * x


def _mean_of_shares(mask: Tensor, shape: Shape, info: LayerInfo) -> Tensor:
    """Return the mean of a mask over the ``stride``×``stride`` pixels around the centre of each position."""
    if info.first is None:
        return functional.interpolate(mask, shape, mode="area")
    begin, s = round(info.first - (info.stride - 1) / 2), info.stride
    rows, columns = (
        torch.arange(begin, begin + positions * s).clamp(0, length - 1).to(mask.device)
        for positions, length in zip(shape, mask.shape[2:], strict=True)
    )
    return functional.avg_pool2d(mask[..., rows, :][..., columns], s)


def _window_maximum(
    x: Tensor, axis: int, positions: int, info: LayerInfo, field: int, *, exact: bool
) -> Tensor:
    """Return the maximum over each position's window along one axis, without pixels outside the picture."""
    length = x.shape[axis]
    first = info.first
    if first is None or not exact:  # assume a centred grid, and enlarge the window by its largest error
        first, field = (length - 1 - (positions - 1) * info.stride) / 2, field + 2 * info.stride
    begin, end = math.floor(first - (field - 1) / 2), math.ceil(first + (field - 1) / 2)
    window = end - begin + 1
    after = begin + (positions - 1) * info.stride + window - length
    pads = [0, 0, -begin, after] if axis == 2 else [-begin, after, 0, 0]
    kernel, stride = ((window, 1), (info.stride, 1)) if axis == 2 else ((1, window), (1, info.stride))
    return functional.max_pool2d(functional.pad(x, pads, value=-torch.inf), kernel, stride)
