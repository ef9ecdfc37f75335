"""Means and standard deviations of channels: the statistics of batch normalisation and AdaIN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from nstbench.losses.base import AdditiveLoss, Loss
from nstbench.losses.functional.maps import at_least_float32, per_canvas, weighted_mean
from nstbench.losses.functional.sums import Sums, sums

Normalization = Literal["mmd", "adain"]

# ε in σ = √(var + ε), and what is subtracted from the number of positions in the variance.
_VARIANTS: dict[str, tuple[float, int]] = {"mmd": (0.0, 0), "adain": (1e-5, 1)}
assert set(_VARIANTS) == set(get_args(Normalization))


@dataclass(frozen=True)
class Statistics:
    """Mean and variance of every channel, over M positions or a region whose guide sums to M.

    Attributes:
        mean: Means, ``(1 or B, N)``.
        variance: Variances, divided by M, ``(1 or B, N)``.
        positions: Number of positions M, ``(1 or B, 1)``.
    """

    mean: Tensor
    variance: Tensor
    positions: Tensor


class Moments(AdditiveLoss[Tensor], Loss):
    """Squared distance of channel means and standard deviations: ``Σ_c [(μ - μ̂)² + (σ - σ̂)²] / N``.

    For feature maps ``(B, N, h, w)`` of N channels at M positions:

    =============  ========================  ===================================================
    normalization  σ                         source
    =============  ========================  ===================================================
    mmd            √(Σ(f-μ)²/M)              Li, Wang, Liu & Hou (2017), "BN statistics"
    adain          √(Σ(f-μ)²/(M-1) + 1e-5)   Huang & Belongie (2017), as mean squared errors
    =============  ========================  ===================================================

    Where a channel is constant, √ has no finite slope: ``mmd`` has the gradient 0 there (the published
    code divides by 0).

    Args:
        normalization: One of the names above.
    """

    stackable = True

    def __init__(self, normalization: Normalization = "mmd") -> None:
        super().__init__()
        self.normalization = normalization

    def statistic(self, features: Tensor, guide: Tensor | None = None, centre: Tensor | None = None) -> Sums:
        """Return the sums of every channel and of its squares, about a centre."""
        return sums(at_least_float32(features), guide, centre, second="squares")

    def summary(self, statistic: Sums) -> Statistics:
        """Return the mean and the variance of every channel."""
        return Statistics(statistic.mean, statistic.variance, statistic.count)

    def compare(self, statistic: Sums, target: Statistics) -> Tensor:
        """Return the distance per canvas, ``(B,)``."""
        return self._distance(self.summary(statistic), target)

    def unit(self, target: Statistics) -> Tensor:
        """Return the value at F = 0."""
        zeros = torch.zeros_like(target.mean)
        return self._distance(Statistics(zeros, zeros, target.positions), target)

    def blend(self, targets: Sequence[Statistics], weights: Sequence[float]) -> Statistics:
        """Average the raw moments: the statistics of all the pictures' features together."""
        mean = weighted_mean([t.mean for t in targets], weights)
        second = weighted_mean([t.variance + t.mean**2 for t in targets], weights)
        positions = weighted_mean([t.positions for t in targets], weights)
        return Statistics(mean, (second - mean**2).clamp(min=0), positions)

    def _distance(self, canvas: Statistics, style: Statistics) -> Tensor:
        squared = (canvas.mean - style.mean) ** 2 + (self._deviation(canvas) - self._deviation(style)) ** 2
        return per_canvas(squared) / squared.shape[1]

    def _deviation(self, statistics: Statistics) -> Tensor:
        epsilon, correction = _VARIANTS[self.normalization]
        positions = statistics.positions
        variance = statistics.variance * positions / (positions - correction).clamp(min=1) + epsilon
        varies = variance > torch.finfo(variance.dtype).tiny
        return torch.where(varies, variance, 1.0).sqrt() * varies
