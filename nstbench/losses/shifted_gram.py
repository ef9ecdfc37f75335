"""The Gram loss of shifted activations, of Novak & Nikulin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nstbench.losses.base import AdditiveLoss, Loss
from nstbench.losses.functional.maps import at_least_float32, per_canvas, weighted_mean
from nstbench.losses.functional.moments import outer
from nstbench.losses.functional.sums import Sums, sums
from nstbench.losses.gram import Normalization, factor_of


@dataclass(frozen=True)
class ShiftedMoments:
    """Moments of a picture's features, from which the Gram matrix of shifted features follows.

    Attributes:
        mean: Mean μ, ``(1 or B, N)``.
        covariance: Covariance C, ``(1 or B, N, N)``, divided by the number of positions.
        positions: Number of positions.
    """

    mean: Tensor
    covariance: Tensor
    positions: int


class ShiftedGram(AdditiveLoss[Tensor], Loss):
    """Squared distance of Gram matrices of shifted features: ``G = (F + s)(F + s)ᵀ/M``, s = -1.

    After a ReLU most activations are 0, and with them most products in a Gram matrix: it does not
    distinguish two channels that are 0 at the same positions from two that are never active together.
    Shifted by s, the product is s² where both are 0, every position counts, and the means enter too:
    ``G = FFᵀ/M + s(μ1ᵀ + 1μᵀ) + s²``. Features ``(B, N, h, w)``, Gram matrices ``(B, N, N)``.

    The matrices themselves are never formed: where features are small beside s, their differences
    would be lost in rounding. With the covariance C and the mean μ, ``G = C + (μ + s)(μ + s)ᵀ``, and

    ``G - A = C - Ĉ + ½[d eᵀ + e dᵀ]``, ``d = μ - μ̂``, ``e = μ + μ̂ + 2s``.

    Novak & Nikulin, "Improving the Neural Algorithm of Artistic Style" (2016), section 3.3. The
    paper's s = -1 is in the units of its encoder; its constants are those of Gatys et al. (2016).

    Args:
        shift: Shift s, in the units of the features; 0 is the plain Gram loss.
        normalization: Name of the constant, as for `nstbench.losses.gram.Gram`.
    """

    stackable = True

    def __init__(self, shift: float = -1.0, normalization: Normalization = "paper") -> None:
        super().__init__()
        self.shift, self.normalization = shift, normalization

    def statistic(self, features: Tensor, guide: Tensor | None = None, centre: Tensor | None = None) -> Sums:
        """Return the sums of the features and of their products, about a centre."""
        return sums(at_least_float32(features), guide, centre)

    def summary(self, statistic: Sums) -> ShiftedMoments:
        """Return the mean, the covariance and the number of positions."""
        positions = max(1, round(float(statistic.count.sum())))
        return ShiftedMoments(statistic.mean, statistic.covariance, positions)

    def compare(self, statistic: Sums, target: ShiftedMoments) -> Tensor:
        """Return the distance per canvas, ``(B,)``."""
        return self._distance(statistic.mean, statistic.covariance, target)

    def unit(self, target: ShiftedMoments) -> Tensor:
        """Return the value at F = 0, whose Gram matrix is s² everywhere."""
        return self._distance(torch.zeros_like(target.mean), torch.zeros_like(target.covariance), target)

    def blend(self, targets: Sequence[ShiftedMoments], weights: Sequence[float]) -> ShiftedMoments:
        """Average the Gram matrices: mean and covariance of all the pictures' features together."""
        mean = weighted_mean([t.mean for t in targets], weights)
        covariances = [t.covariance + outer(t.mean - mean) for t in targets]
        positions = round(sum(w * t.positions for w, t in zip(weights, targets, strict=True)))
        return ShiftedMoments(mean, weighted_mean(covariances, weights), positions)

    def _distance(self, mean: Tensor, covariance: Tensor, target: ShiftedMoments) -> Tensor:
        d, e = mean - target.mean, mean + target.mean + 2 * self.shift
        cross = d[:, :, None] * e[:, None, :]
        difference = (covariance - target.covariance) + 0.5 * (cross + cross.transpose(1, 2))
        factor = factor_of(self.normalization, difference.shape[1], target.positions)
        return factor * per_canvas(difference**2)
