"""The Gram loss of shifted activations, of Novak & Nikulin."""

from __future__ import annotations

import torch
from torch import Tensor

from nstbench.losses.base import at_least_float32
from nstbench.losses.gram import Gram, Normalization
from nstbench.losses.sums import Sums


class ShiftedGram(Gram):
    """Squared distance of Gram matrices of shifted features: ``G = (F + s)(F + s)ᵀ/M``, s = -1.

    After a ReLU most activations are 0, and with them most products in a Gram matrix: two channels
    that are silent together look like two that never meet. Shifted by s, a silent channel says so
    (s² where both are silent), every position counts, and the means enter next to the products:
    ``G = FFᵀ/M + s(μ1ᵀ + 1μᵀ) + s²``. Features ``(B, N, h, w)``, Gram matrices ``(B, N, N)``.

    Novak & Nikulin, "Improving the Neural Algorithm of Artistic Style" (2016), section 3.3. The
    paper's s = -1 is in the units of its encoder; its constants are those of Gatys et al. (2016).

    Args:
        shift: s, in the units of the features; 0 is the plain Gram loss.
        normalization: as for `nstbench.losses.gram.Gram`.
    """

    def __init__(self, shift: float = -1.0, normalization: Normalization = "paper") -> None:
        super().__init__(normalization)
        self.shift = shift

    def statistic(self, features: Tensor, guide: Tensor | None = None, centre: Tensor | None = None) -> Sums:
        """Return the sum ``(F + s)(F + s)ᵀ``."""
        return super().statistic(at_least_float32(features) + self.shift, guide)

    def unit(self, target: tuple[Tensor, int]) -> Tensor:
        """Return the value at F = 0, whose Gram matrix is s² everywhere."""
        return self._distance(torch.full_like(target[0], self.shift**2), *target)
