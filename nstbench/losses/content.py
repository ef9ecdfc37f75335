"""Content losses: feature reconstruction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from torch import Tensor

from nstbench.losses.base import PositionwiseLoss
from nstbench.losses.functional.maps import at_least_float32, per_canvas

Normalization = Literal["paper", "mean", "root"]

# Factors of Σ(F - P)², for N channels at M positions.
_FACTORS: dict[str, Callable[[int, int], float]] = {
    "paper": lambda N, M: 1 / 2,
    "mean": lambda N, M: 1 / (N * M),
    "root": lambda N, M: 1 / (2 * (N * M) ** 0.5),
}
assert set(_FACTORS) == set(get_args(Normalization))


class FeatureReconstruction(PositionwiseLoss):
    """Squared error between feature maps: ``factor · Σ (F - P)²``.

    Gatys et al. (2016, eq. 1) print ½Σ(F-P)²; the authors' code, and all known implementations,
    take the mean, which is 2/(N·M) times the paper's. The published ratios α/β agree with the mean.

    With a guide ``(1 or B, 1, h, w)``, each position's error is multiplied by its weight.

    Args:
        normalization: Name of the factor: ``paper`` ½, ``mean`` 1/(N·M), or ``root`` 1/(2√(N·M)) (a
            variant of neural-style-tf).

    Raises:
        ValueError: If the canvas's map has another size than the picture's.
    """

    stackable = True

    def __init__(self, normalization: Normalization = "mean") -> None:
        super().__init__()
        self.normalization = normalization

    def errors(self, features: Tensor, target: Tensor, guide: Tensor | None = None) -> Tensor:
        """Return ``Σ (F - P)²`` per canvas, ``(B,)``."""
        squared = (at_least_float32(features) - target) ** 2
        return per_canvas(squared if guide is None else guide * squared)

    def factor(self, channels: int, positions: int) -> float:
        """Return the factor of ``Σ (F - P)²``."""
        return _FACTORS[self.normalization](channels, positions)
