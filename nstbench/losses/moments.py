"""Means and standard deviations of channels: the statistics of batch normalisation and AdaIN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from nstbench.losses.base import Loss, at_least_float32, per_canvas, weighted_mean
from nstbench.losses.second_order import mean_and_factor

Normalization = Literal["mmd", "adain"]

# ε in σ = √(var + ε), and what is taken off the number of positions in the variance.
_VARIANTS: dict[str, tuple[float, int]] = {"mmd": (0.0, 0), "adain": (1e-5, 1)}
assert set(_VARIANTS) == set(get_args(Normalization))


@dataclass(frozen=True)
class Statistics:
    """Of every channel; over M positions, or a region whose guide sums to M.

    Attributes:
        mean: ``(1 or B, N)``.
        variance: divided by M, ``(1 or B, N)``.
        positions: M, ``(1 or B, 1)``.
    """

    mean: Tensor
    variance: Tensor
    positions: Tensor


class Moments(Loss):
    """Squared distance of channel means and standard deviations: ``Σ_c [(μ - μ̂)² + (σ - σ̂)²] / N``.

    For feature maps ``(B, N, h, w)`` of N channels at M positions:

    =============  ========================  ===================================================
    normalization  σ                         whose
    =============  ========================  ===================================================
    mmd            √(Σ(f-μ)²/M)              Li, Wang, Liu & Hou (2017), "BN statistics"
    adain          √(Σ(f-μ)²/(M-1) + 1e-5)   Huang & Belongie (2017), as mean squared errors
    =============  ========================  ===================================================

    Where all of a channel is one value, √ has no slope: ``mmd`` takes 0 there (the published code
    divides by 0).

    Args:
        normalization: one of the names above.
    """

    stackable = True

    def __init__(self, normalization: Normalization = "mmd") -> None:
        super().__init__()
        self.normalization = normalization

    def target(self, features: Tensor, guide: Tensor | None = None) -> Statistics:
        """Remember mean and variance of every channel."""
        F = at_least_float32(features)
        mean, X = mean_and_factor(F, guide)
        variance = torch.einsum("bnm,bnm->bn", X, X)
        g = F.new_ones(1, 1, *F.shape[2:]) if guide is None else guide.to(F)
        return Statistics(mean, variance, g.flatten(1).sum(dim=1, keepdim=True))

    def forward(self, features: Tensor, target: Statistics, guide: Tensor | None = None) -> Tensor:
        """Return the distance per canvas, ``(B,)``."""
        return self._distance(self.target(features, guide), target)

    def statistic(self, features: Tensor) -> Tensor:
        """Return ``Σf`` and ``Σf²`` of every channel, ``(B, N, 2)``; it may be added up over blocks."""
        F = at_least_float32(features).flatten(2)
        return torch.stack([F.sum(dim=2), (F**2).sum(dim=2)], dim=2)

    def compare(self, statistic: Tensor, positions: int, target: Statistics) -> Tensor:
        """Return `forward`'s value, ``(B,)``, from the statistic of all ``positions``."""
        mean, second = (statistic / positions).unbind(dim=2)
        variance = (second - mean**2).clamp(min=0)
        return self._distance(Statistics(mean, variance, mean.new_full((1, 1), positions)), target)

    def unit(self, target: Statistics) -> Tensor:
        """Return the value at F = 0."""
        nothing = torch.zeros_like(target.mean)
        return self._distance(Statistics(nothing, nothing, target.positions), target)

    def blend(self, targets: Sequence[Statistics], weights: Sequence[float]) -> Statistics:
        """Average the raw moments: the statistics of all the pictures' features together."""
        mean = weighted_mean([t.mean for t in targets], weights)
        second = weighted_mean([t.variance + t.mean**2 for t in targets], weights)
        positions = weighted_mean([t.positions for t in targets], weights)
        return Statistics(mean, (second - mean**2).clamp(min=0), positions)

    def _distance(self, canvas: Statistics, style: Statistics) -> Tensor:
        squared = (canvas.mean - style.mean) ** 2 + (self._deviation(canvas) - self._deviation(style)) ** 2
        return per_canvas(squared) / squared.shape[1]

    def _deviation(self, of: Statistics) -> Tensor:
        epsilon, taken_off = _VARIANTS[self.normalization]
        variance = of.variance * of.positions / (of.positions - taken_off).clamp(min=1) + epsilon
        varies = variance > torch.finfo(variance.dtype).tiny
        return torch.where(varies, variance, 1.0).sqrt() * varies
