"""STROTSS' content loss: distances between the canvas's self-similarities and the content picture's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nstbench.losses.base import JointLoss
from nstbench.losses.functional.gram import gram_matrix
from nstbench.losses.functional.hypercolumn import directions, sample_hypercolumns, shortest
from nstbench.losses.functional.maps import at_least_float32

_CONSTANT = 1e-5
"""Mean cosine distance to all other positions below which a position counts as equal to them."""


class ContentMaps(NamedTuple):
    """The feature maps of a content picture.

    Attributes:
        maps: Feature maps ``(1 or B, C, h, w)``.
        floor: Floor for the `directions` of its hypercolumns.
    """

    maps: Sequence[Tensor]
    floor: Tensor


class SelfSimilarity(JointLoss):
    """Content of STROTSS: cosine self-distances of hypercolumns, normalised to column sums of 1.

    ``(1/n) · Σ_ij |D_ij(x)/Σ_k D_kj(x) - D_ij(c)/Σ_k D_kj(c)|`` with ``D_ij = 1 - cos(x_i, x_j)``
    for the hypercolumns of canvas x and content c at the same n sampled positions: for each
    position the total variation (twice) between two distributions over the others, so between 0
    and 2. Kolkin, Salavon & Shakhnarovich (2019) print 1/n²; their code multiplies by n.
    The value is 0 at the content picture, and has no scale: the unit is 1.

    Distances between positions, not features, are compared: a change of colours and features that is
    the same everywhere costs little.

    Args:
        samples: Number of positions (authors: 32²). The cost grows with its square.
        redraw_every: Steps between draws of the positions; 0: one draw (authors: 1).

    Raises:
        ValueError: If the canvas's maps have another size than the picture's.
    """

    def __init__(self, samples: int = 1024, redraw_every: int = 0) -> None:
        super().__init__()
        if samples < 2 or redraw_every < 0:
            raise ValueError("samples must be at least 2, redraw_every at least 0")
        self.samples = samples
        self.redraw_every = redraw_every

    def target(self, features: Sequence[Tensor], guide: Tensor | None = None) -> ContentMaps:
        """Return the feature maps themselves."""
        maps = [at_least_float32(m) for m in features]
        return ContentMaps(maps, shortest(sample_hypercolumns(maps, self.samples, self.generator(), guide)))

    def forward(self, features: Sequence[Tensor], target: ContentMaps, guide: Tensor | None = None) -> Tensor:
        """Return the distance per canvas, ``(B,)``."""
        sizes, expected = ([tuple(m.shape[1:]) for m in maps] for maps in (features, target.maps))
        if sizes != expected:
            raise ValueError(f"content needs one size: canvas {sizes}, target {expected}")
        with torch.no_grad():
            content = self._distances(target.maps, target.floor, guide)
        canvas = self._distances(features, target.floor, guide)
        return (canvas - content).abs().sum(1).mean(1)

    def _distances(self, maps: Sequence[Tensor], floor: Tensor, guide: Tensor | None) -> Tensor:
        """Return ``D_ij/Σ_k D_kj``, ``(B, n, n)``."""
        u = directions(sample_hypercolumns(maps, self.samples, self.generator(), guide), floor)
        # gram_matrix divides by the "positions" of its maps, which are the channels here.
        products = u.shape[1] * gram_matrix(u.transpose(1, 2).unsqueeze(3))
        squares = 0.5 * products.diagonal(dim1=1, dim2=2)
        D = (squares.unsqueeze(1) + squares.unsqueeze(2) - products).clamp_min(0)
        # Where all features are equal, D is rounding error: divided by its own sum, it would be noise near 1.
        return D / D.sum(1, keepdim=True).clamp_min(_CONSTANT * D.shape[1])
