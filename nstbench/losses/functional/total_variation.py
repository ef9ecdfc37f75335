"""Total variation of pictures."""

from __future__ import annotations

import torch
from torch import Tensor


def total_variation(pictures: Tensor, *, exponent: float, isotropic: bool) -> Tensor:
    """Return the total variation, summed over positions and channels, ``(B,)``.

    With differences dx, dy to the right and lower neighbour:

    - isotropic: ``Σ (dx² + dy²)^(exponent/2)`` over positions that have both neighbours
      (Mahendran & Vedaldi 2015; exponent is their β);
    - otherwise: ``Σ |dx|^exponent + Σ |dy|^exponent``.

    Where an isotropic position has no differences (both below some 1e-19), value and gradient are 0.

    Args:
        pictures: Pictures ``(B, C, H, W)``.
        exponent: Exponent of the differences: 2 penalises steps, 1 keeps edges.
        isotropic: Whether the two differences of a position are taken together.
    """
    dx = pictures[..., :, 1:] - pictures[..., :, :-1]
    dy = pictures[..., 1:, :] - pictures[..., :-1, :]
    if not isotropic:
        return (dx.abs() ** exponent).flatten(1).sum(1) + (dy.abs() ** exponent).flatten(1).sum(1)
    squared = dx[..., :-1, :] ** 2 + dy[..., :, :-1] ** 2
    if exponent >= 2:
        return (squared ** (exponent / 2)).flatten(1).sum(1)
    # x^(β/2) has no finite slope at 0 for β < 2: flat areas, which count 0, would turn the gradient into NaN.
    varies = squared >= torch.finfo(squared.dtype).tiny
    powers = torch.where(varies, squared, 1.0) ** (exponent / 2)
    return torch.where(varies, powers, 0.0 * squared).flatten(1).sum(1)  # NaN stays NaN
