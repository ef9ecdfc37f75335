"""Gram matrices between the features of neighbouring layers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from nstbench.losses.base import AdditiveLoss, JointLoss
from nstbench.losses.functional.maps import at_least_float32, per_canvas, weighted_mean
from nstbench.losses.functional.sums import Sums


class CrossLayerGram(AdditiveLoss[Sequence[Tensor]], JointLoss):
    """Squared distance of Gram matrices between layers: ``Σ (G - A)² / (4 N_a N_b)``, ``G = F_a up(F_b)ᵀ/M``.

    F_a ``(B, N_a, h, w)`` is the finer of two neighbouring layers, with M positions, and ``up`` repeats
    each position of the coarser over the block of finer ones that it came from (nearest). The loss
    compares which features of two layers occur at the same place; Gram matrices of single layers do not.

    Summing ``f_m g_block(m)`` over a block is the block's mean of f times g: G is computed from the finer
    map averaged over blocks, at the coarser's positions, which is exact and costs a quarter or less.
    Rows and columns that a pooling dropped (the last of an odd size) are left out. Sizes that no whole
    factor relates (a pooling that rounds up) are upsampled.

    Novak & Nikulin, "Improving the Neural Algorithm of Artistic Style" (2016): the
    chain of neighbouring layers; they shift the activations too. Yeh & Tang, "Improved Style Transfer
    by Respecting Inter-layer Correlations" (2018), match cross-layer Gram matrices alone.

    With a shift s, ``G - A`` is that of the features as they are and ``s`` times the differences of the
    two layers' means: s², beside which small features would be lost, cancels before it is formed.

    Args:
        shift: Constant s added to all features, as in `nstbench.losses.shifted_gram.ShiftedGram`, where it
            is -1.
    """

    stackable = True

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = shift

    def views(self, layers: Sequence[str]) -> list[str]:
        """Return every pair of neighbours in the list of layers.

        Raises:
            ValueError: If there is one layer only.
        """
        if len(layers) < 2:
            raise ValueError(f"a Gram matrix between layers needs two layers or more, not {list(layers)}")
        return [f"{a}+{b}" for a, b in pairwise(layers)]

    def statistic(
        self, features: Sequence[Tensor], guide: Tensor | None = None, centre: Tensor | None = None
    ) -> Sums:
        """Return the sum of the products between the two layers, ``(B, N_a, N_b)``.

        With a shift, each layer has one more channel, whose value is 1: ``(B, N_a + 1, N_b + 1)`` holds
        the sums of the channels too.

        A guide ``(1 or B, 1, h, w)`` is resized to the finer map's size, if it has another.
        """
        a, b = (at_least_float32(f) for f in features)
        if a.shape[2] * a.shape[3] >= b.shape[2] * b.shape[3]:
            return self._products_between(a, b, guide)
        sums = self._products_between(b, a, guide)
        assert sums.second is not None
        return Sums(sums.count, second=sums.second.transpose(1, 2))

    def summary(self, statistic: Sums) -> Tensor:
        """Return the Gram matrix between the two layers, with the channels of ones if there is a shift."""
        return statistic.products

    def compare(self, statistic: Sums, target: Tensor) -> Tensor:
        """Return the distance per canvas, ``(B,)``."""
        return self._distance(statistic.products, target)

    def unit(self, target: Tensor) -> Tensor:
        """Return the value at F = 0, whose Gram matrix is s² everywhere."""
        return self._distance(torch.zeros_like(target), target)

    def blend(self, targets: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """Average the Gram matrices."""
        return weighted_mean(targets, weights)

    def _distance(self, G: Tensor, A: Tensor) -> Tensor:
        difference = G - A
        if self.shift:
            means = difference[:, :-1, -1:] + difference[:, -1:, :-1]
            difference = difference[:, :-1, :-1] + self.shift * means
        return per_canvas(difference**2) / (4 * difference.shape[1] * difference.shape[2])

    def _products_between(self, finer: Tensor, coarser: Tensor, guide: Tensor | None) -> Sums:
        if self.shift:
            finer, coarser = (torch.cat([f, torch.ones_like(f[:, :1])], dim=1) for f in (finer, coarser))
        if guide is None:
            weights = finer.new_ones(1, 1, *finer.shape[2:])
        else:
            weights = interpolate(guide.to(finer), size=finer.shape[2:], mode="nearest")
            finer = finer * weights
        factors = whole_factors(finer.shape[2:], coarser.shape[2:])
        if factors is None:
            coarser = interpolate(coarser, size=finer.shape[2:], mode="nearest")
        elif factors != (1, 1):
            # A position of every whole block; an incomplete last one is dropped.
            finer, weights = avg_pool2d(finer, factors), avg_pool2d(weights, factors)
        total = weights.flatten(1).sum(dim=1, keepdim=True)
        if guide is not None and not bool((total > 0).all()):
            raise ValueError("the guide is 0 everywhere: its region has no position at this layer")
        return Sums(total, second=finer.flatten(2) @ coarser.flatten(2).transpose(1, 2))


def whole_factors(finer: Sequence[int], coarser: Sequence[int]) -> tuple[int, int] | None:
    """Return the integer factors between two maps' heights and widths; None if no pooling explains them."""
    (h, w), (m, n) = finer, coarser
    vertical, horizontal = h // m, w // n
    rounded_down = h - vertical * m < vertical and w - horizontal * n < horizontal
    return (vertical, horizontal) if rounded_down else None
