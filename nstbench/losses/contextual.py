"""The contextual loss: each feature of the style picture should be the best match of one of the canvas."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nstbench.losses.base import Loss
from nstbench.losses.functional.hypercolumn import cosine_distances, directions, draw, shortest, unite
from nstbench.losses.functional.maps import inside

_EPSILON = 1e-5  # the paper's and the official code's


class Contextual(Loss):
    """Contextual similarity of features: ``-log mean_j max_i CX_ij``.

    For features x_i of the canvas and y_j of the style picture, both less the mean of y over all
    positions (the official code samples first, and takes the mean of the sample):

    - ``d_ij = (1 - cos(x_i, y_j)) / 2``
    - ``d̃_ij = d_ij / (min_k d_ik + 1e-5)``: relative to the best match of x_i
    - ``w_ij = exp((1 - d̃_ij) / bandwidth)``, ``CX_ij = w_ij / Σ_k w_ik``

    i counts the canvas's positions and j, k the style picture's: CX_ij is normalised over the style
    features, and the maximum is over the canvas features. These are the axes of the paper and of the
    official code; ports that exchange them do not penalise style features that no canvas feature matches.

    Mechrez, Talmi & Zelnik-Manor (2018), "The Contextual Loss for Image Transformation with
    Non-Aligned Data". The value is between 0 and log of the number of style features, and has no
    scale: the unit is 1. At the style picture itself it is -log mean_j CX_jj, which is 0 (to
    some exp(-1000)) if no two of its features are equal; if each occurs r times, it is log r.

    Args:
        bandwidth: Bandwidth h. 0.5 in the official code's settings for single pictures and style; 0.1 is
            the default of its class.
        samples: Number of positions drawn of the canvas and of the style picture, where a map has more
            (official: 65² = 4225). Time and memory grow with its square.
        redraw_every: Steps between draws; 0: one draw (official: every evaluation).
    """

    def __init__(self, bandwidth: float = 0.1, samples: int = 1024, redraw_every: int = 0) -> None:
        super().__init__()
        if bandwidth <= 0 or samples < 1 or redraw_every < 0:
            raise ValueError("bandwidth must be above 0, samples at least 1, redraw_every at least 0")
        self.bandwidth, self.samples = bandwidth, samples
        self.redraw_every = redraw_every

    def target(self, features: Tensor, guide: Tensor | None = None) -> Tensor:
        """Return the features at all positions, ``(1 or B, C, M)``."""
        return inside(features, guide)

    def forward(self, features: Tensor, target: Tensor, guide: Tensor | None = None) -> Tensor:
        """Return the distance per canvas, ``(B,)``."""
        mean = target.mean(2, keepdim=True)
        x, y = self._sampled(inside(features, guide)) - mean, self._sampled(target) - mean
        floor = shortest(y)
        d = cosine_distances(directions(x, floor), directions(y, floor)) / 2
        relative = d / (d.min(dim=2, keepdim=True).values + _EPSILON)
        # The softmax over k: exp(1/h) cancels, and nothing overflows for any h.
        CX = torch.softmax(-relative / self.bandwidth, dim=2)
        return -CX.max(dim=1).values.mean(1).log()

    def blend(self, targets: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """Concatenate the positions of the pictures, in proportion to the weights."""
        return unite(targets, weights, self.generator())

    def _sampled(self, columns: Tensor) -> Tensor:
        # One draw for both maps: of equal size, they are sampled at the same positions.
        chosen = draw(columns.shape[2], self.samples, self.generator())
        return columns.index_select(2, chosen.to(columns.device))
