"""Covariance matrices of features, with or without their means."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nstbench.losses.base import AdditiveLoss, Loss
from nstbench.losses.functional.maps import at_least_float32, per_canvas, weighted_mean
from nstbench.losses.functional.moments import outer
from nstbench.losses.functional.sums import Sums, sums

Moments = tuple[Tensor, Tensor]
"""The mean ``(1 or B, N)`` and the covariance ``(1 or B, N, N)``."""


class Covariance(AdditiveLoss[Tensor], Loss):
    """Squared distance of covariance matrices: ``Σ (C - Ĉ)² / (4N²)`` with ``C = (F-μ)(F-μ)ᵀ/M``.

    A Gram matrix is the covariance and the means' products together, ``G = C + μμᵀ``. Here they are
    separate: with ``means``, ``Σ (μμᵀ - μ̂μ̂ᵀ)² / (4N²)`` is added, of the same degree as the rest, so that
    the ratio of the two does not depend on the scale of the encoder's features. Without ``means``,
    they follow only after a ReLU, where a channel that varies has a mean too.

    Features ``(B, N, h, w)`` of N channels at M positions; covariances divide by M.
    The constant is that of CORAL (Sun & Saenko 2016, eq. 1; they divide by M - 1) and of Gatys et al.

    Args:
        means: Whether the means' products are matched too.
    """

    stackable = True

    def __init__(self, means: bool = False) -> None:
        super().__init__()
        self.means = means

    def statistic(self, features: Tensor, guide: Tensor | None = None, centre: Tensor | None = None) -> Sums:
        """Return the sums of the features and of their products, about a centre."""
        return sums(at_least_float32(features), guide, centre)

    def summary(self, statistic: Sums) -> Moments:
        """Return the mean and the covariance."""
        return statistic.mean, statistic.covariance

    def compare(self, statistic: Sums, target: Moments) -> Tensor:
        """Return the distance per canvas, ``(B,)``."""
        return self._distance(self.summary(statistic), target)

    def unit(self, target: Moments) -> Tensor:
        """Return the value at F = 0."""
        return self._distance((torch.zeros_like(target[0]), torch.zeros_like(target[1])), target)

    def blend(self, targets: Sequence[Moments], weights: Sequence[float]) -> Moments:
        """Average the raw moments: the covariance of all the pictures' features together."""
        mean = weighted_mean([m for m, _ in targets], weights)
        return mean, weighted_mean([C + outer(m) for m, C in targets], weights) - outer(mean)

    def _distance(self, canvas: Moments, style: Moments) -> Tensor:
        (mean, C), (style_mean, style_C) = canvas, style
        value = per_canvas((C - style_C) ** 2)
        if self.means:
            value = value + per_canvas((outer(mean) - outer(style_mean)) ** 2)
        return value / (4 * C.shape[1] ** 2)
