"""The Gram loss of Gatys et al., under every published normalisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from nstbench.losses.base import AdditiveLoss, Loss
from nstbench.losses.functional.gram import products
from nstbench.losses.functional.maps import at_least_float32, per_canvas, weighted_mean
from nstbench.losses.functional.sums import Sums, count

Normalization = Literal[
    "paper", "authors", "neural_style", "johnson", "pystiche", "gordicaleksa", "unnormalized"
]

# Factors of Σ(G - A)² when G = FFᵀ/M, for N channels at M positions of the style picture.
_FACTORS: dict[str, Callable[[int, int], float]] = {
    "paper": lambda N, M: 1 / (4 * N**2),
    "authors": lambda N, M: 1 / N**4,
    "neural_style": lambda N, M: 1 / N**4,
    "johnson": lambda N, M: 1 / N**4,
    "pystiche": lambda N, M: 1 / N**2,
    "gordicaleksa": lambda N, M: 1 / N**2,
    "unnormalized": lambda N, M: M**2 / N**2,
}
assert set(_FACTORS) == set(get_args(Normalization))


class Gram(AdditiveLoss[Tensor], Loss):
    """Squared distance of Gram matrices: ``factor(N, M) · Σ (G - A)²`` with ``G = FFᵀ/M``.

    Gatys, Ecker & Bethge (2016, eq. 4) is ``paper``. Other code's values, in its unit E:

    ==============  ==========================  ========  ==============================================
    normalization   value                       in E      source
    ==============  ==========================  ========  ==============================================
    paper           Σ(FFᵀ-…)²/(4N²M²)           E         Gatys et al. 2015, 2016; DeepTextures
    authors         mean((G-A)²)/N²             4E/N²     Gatys' PyTorch and Torch7 code, weight 1e3
    neural_style    mean(((G-A)/N)²)            4E/N²     neural-style (Lua and PyTorch), weight 1e2
    johnson         mean(((G-A)/N)²)            4E/N²     Johnson's code, PyTorch's example (the paper sums)
    pystiche        mean((G-A)²)                4E        pystiche
    gordicaleksa    Σ((G-A)/N)²                 4E        pytorch-neural-style-transfer; mean over layers
    unnormalized    mean((FFᵀ-…)²)              4M²E      Risser et al.'s published code
    ==============  ==========================  ========  ==============================================

    Each Gram matrix is divided by its own number of positions. ``unnormalized`` multiplies by M² of
    the style picture again: its value grows with the picture, as that code's does.

    Args:
        normalization: One of the names above. Names that share a formula differ in the weight
            their authors give it.
    """

    stackable = True

    def __init__(self, normalization: Normalization = "paper") -> None:
        super().__init__()
        self.normalization = normalization

    def statistic(self, features: Tensor, guide: Tensor | None = None, centre: Tensor | None = None) -> Sums:
        """Return the sum ``FFᵀ``; the centre is not used."""
        F = at_least_float32(features)
        return Sums(count(F, guide), second=products(F, guide))

    def summary(self, statistic: Sums) -> tuple[Tensor, int]:
        """Return the Gram matrix and its number of positions."""
        return statistic.products, max(1, round(float(statistic.count.sum())))

    def compare(self, statistic: Sums, target: tuple[Tensor, int]) -> Tensor:
        """Return the distance per canvas, ``(B,)``."""
        return self._distance(statistic.products, *target)

    def _distance(self, G: Tensor, A: Tensor, positions: int) -> Tensor:
        return factor_of(self.normalization, A.shape[1], positions) * per_canvas((G - A) ** 2)

    def unit(self, target: tuple[Tensor, int]) -> Tensor:
        """Return the value at F = 0."""
        return self._distance(torch.zeros_like(target[0]), *target)

    def blend(self, targets: Sequence[tuple[Tensor, int]], weights: Sequence[float]) -> tuple[Tensor, int]:
        """Average the Gram matrices, as neural-style does: the gradient is that of the weighted losses."""
        matrices, positions = zip(*targets, strict=True)
        return weighted_mean(matrices, weights), round(
            sum(w * m for w, m in zip(weights, positions, strict=True))
        )


def factor_of(normalization: Normalization, channels: int, positions: int) -> float:
    """Return the factor of ``Σ (G - A)²`` for the style picture's numbers of channels and positions."""
    return _FACTORS[normalization](channels, positions)
