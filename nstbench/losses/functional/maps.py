"""Operations on feature maps that several losses share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` in float32, or in float64 if it is that already."""
    return x if x.dtype == torch.float64 else x.float()


def per_canvas(x: Tensor) -> Tensor:
    """Sum over everything but the batch: ``(B, …)`` to ``(B,)``."""
    return x.flatten(1).sum(1)


def weighted_mean(targets: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return Σ wᵢ·targetᵢ, the blend of targets that are averages over positions."""
    return torch.stack([w * t for w, t in zip(weights, targets, strict=True)]).sum(0)


def inside(features: Tensor, guide: Tensor | None = None) -> Tensor:
    """Return the features at the positions of a region, ``(B, C, m)``; without a guide, at all of them.

    For losses that compare or sort single positions, which have no weights. A position is in the region
    where the guide is at least half of its largest value.

    Args:
        features: Feature maps ``(B, C, h, w)``.
        guide: Guide of one region for the whole batch, ``(1, 1, h, w)``.

    Raises:
        ValueError: If each canvas of the batch has a guide of its own, or the guide is 0 everywhere.
    """
    flat = at_least_float32(features).flatten(2)
    if guide is None:
        return flat
    if guide.shape[0] != 1:
        raise ValueError(f"one guide for the whole batch is needed, not {guide.shape[0]}")
    g = guide.flatten()
    if not g.max() > 0:
        raise ValueError("the guide is 0 everywhere: its region has no position at this layer")
    return flat[..., g >= g.max() / 2]
