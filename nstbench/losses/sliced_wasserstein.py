"""The sliced Wasserstein loss: the distribution of features, projected on random directions."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nstbench.losses.base import Loss
from nstbench.losses.functional.maps import inside, weighted_mean
from nstbench.losses.functional.quantiles import ascending, remap, resampled


@dataclass
class Samples:
    """The features of one or several style pictures, to be projected on the directions of any draw.

    Attributes:
        features: Features of each picture, ``(1 or B, C, M)``.
        weights: Weights of the pictures; they sum to 1.
        latest: Key and sorted projections of the latest draw, a cache: all evaluations between two
            draws use the same ones.
    """

    features: Sequence[Tensor]
    weights: Sequence[float] = (1.0,)
    latest: tuple[Hashable, Tensor] | None = field(default=None, repr=False)

    def sorted_projections(self, V: Tensor, positions: int, draw: Hashable) -> Tensor:
        """Return the sorted projections on directions ``(D, C)``, ``(1 or B, D, positions)``."""
        key = (draw, V.shape, V.dtype, V.device, positions)
        if self.latest is None or self.latest[0] != key:
            projections = [resampled(ascending(V @ F.to(V)), positions) for F in self.features]
            self.latest = key, weighted_mean(projections, self.weights)
        return self.latest[1]


class SlicedWasserstein(Loss):
    """Mean squared difference of sorted projections: ``mean_v mean_k (sort(vᵀF)_k - sort(vᵀF̂)_k)²``.

    The mean is over random unit vectors v, the directions, and over positions k. If the maps differ in
    their number of positions, the style's quantiles are interpolated at the canvas's. Over all
    directions it is zero only where the distributions of the two pictures' features are the same.
    The gradient takes the assignment of canvas to style positions as fixed, which is exact where no
    two projections are equal.

    Heitz, Vanhoey, Chambon & Belcour, "A Sliced Wasserstein Loss for Neural Texture Synthesis" (2021):
    as many directions as channels, new ones at every evaluation, and 12 layers of VGG-19.

    Args:
        directions: Number of directions; None: as many as the layer has channels, as published.
        redraw_every: Steps between draws of the directions. L-BFGS needs the same ones for some
            steps; 1 draws at every step, as published; 0 keeps the first for the whole run.
    """

    def __init__(self, directions: int | None = None, redraw_every: int = 100) -> None:
        super().__init__()
        if directions is not None and directions < 1:
            raise ValueError(f"at least one direction is needed, not {directions}")
        if redraw_every < 0:
            raise ValueError(f"redraw_every must be at least 0, not {redraw_every}")
        self.directions, self.redraw_every = directions, redraw_every

    def target(self, features: Tensor, guide: Tensor | None = None) -> Samples:
        """Return the features themselves: new directions need them."""
        return Samples([inside(features, guide)])

    def forward(self, features: Tensor, target: Samples, guide: Tensor | None = None) -> Tensor:
        """Return the squared distance per canvas, ``(B,)``."""
        values = inside(features, guide)
        generator = self.generator()
        V = self._directions(values, generator)
        projected = V @ values
        with torch.no_grad():
            style = target.sorted_projections(V, values.shape[-1], draw=self.seed)
            moved = remap(projected, style, generator)
        return (projected - moved).square().flatten(1).mean(1)

    def unit(self, target: Samples) -> Tensor:
        """Return the value at F = 0, over all directions: the mean square of the style's features.

        For several pictures it is the mean of theirs; that of their barycentre is a little less.
        """
        return weighted_mean([F.square().flatten(1).mean(1) for F in target.features], target.weights)

    def blend(self, targets: Sequence[Samples], weights: Sequence[float]) -> Samples:
        """Average the sorted projections on every direction: their Wasserstein barycentre."""
        return Samples(
            [F for t in targets for F in t.features],
            [w * own for w, t in zip(weights, targets, strict=True) for own in t.weights],
        )

    def _directions(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Return unit vectors, ``(directions, C)``, of the present draw."""
        channels = features.shape[1]
        V = torch.randn(self.directions or channels, channels, generator=generator)
        V /= V.norm(dim=1, keepdim=True)
        return V.to(features)
