"""STROTSS' style loss: relaxed earth mover's distance of hypercolumns, moments and palette."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nstbench.losses.base import CANVAS, JointLoss
from nstbench.losses.functional.gram import gram_matrix
from nstbench.losses.functional.hypercolumn import relaxed_emd, sample_hypercolumns, shortest, unite

# Colours are directions from mid-grey, as in the authors' code; nearer to it than 1/255 they have none.
_GREY, _NO_HUE = 0.5, 1 / 255


class StyleColumns(NamedTuple):
    """Hypercolumns of a style picture, with their moments.

    Attributes:
        columns: Hypercolumns at sampled positions, ``(1 or B, D, m)``; the first three channels are colours.
        mean: Mean of the hypercolumns, ``(1 or B, D, 1)``.
        covariance: Covariance of the hypercolumns, ``(1 or B, D, D)``; empty if moments are not compared.
    """

    columns: Tensor
    mean: Tensor
    covariance: Tensor


class RelaxedEMD(JointLoss):
    """Style of STROTSS: ``ℓ_r + moments · ℓ_m + palette · ℓ_p`` on hypercolumns at sampled positions.

    With hypercolumns x_i of the canvas (n positions, D channels) and y_j of the style picture (m positions):

    - ``ℓ_r = max(mean_i min_j C_ij, mean_j min_i C_ij)``, ``C_ij = 1 - cos(x_i, y_j)``
    - ``ℓ_m = Σ|μ_x - μ_y|/D + Σ|Σ_x - Σ_y|/D²``, which also matches the features' magnitude
    - ``ℓ_p``: as ``ℓ_r`` on colours, with ``‖x_i - y_j‖/√3`` added to ``C_ij``, as in the authors' code;
      in the paper, to our knowledge, the Euclidean distance replaces ``C_ij``

    Kolkin, Salavon & Shakhnarovich (2019), "Style Transfer by Relaxed Optimal Transport and
    Self-Similarity", minimise ``(α·ℓ_C + ℓ_m + ℓ_r + ℓ_p/α) / (2 + α + 1/α)``; their code divides by
    2 + α and takes 1/max(α, 1). α starts at 16 and halves with each of four scales: 2 at the last,
    so ``palette=0.5``. The common divisor is left to the term's weight here.

    The paper compares colours in a decorrelated space. The matrix of its code is a rotation, which
    changes neither a cosine nor a length, and is left out here. Its code also shifts the origin to
    mid-grey: here for ``ℓ_p`` only; the pixels in the hypercolumns are in [0, 1].

    The value is 0 at the style picture itself, if both are sampled at the same positions (one size,
    the first draw, ``samples = style_samples``), or at all positions. The unit is the
    value of a black canvas with features 0.

    Args:
        samples: Number of positions of the canvas (authors: 32²).
        style_samples: Number of positions of the style picture, drawn once (authors: five draws of 1000).
        moments: Weight of ℓ_m.
        palette: Weight of ℓ_p.
        redraw_every: Steps between draws of the canvas's positions; 0: one draw (authors: 1).
    """

    def __init__(
        self,
        samples: int = 1024,
        style_samples: int = 1024,
        moments: float = 1.0,
        palette: float = 0.5,
        redraw_every: int = 0,
    ) -> None:
        super().__init__()
        if min(samples, style_samples) < 1 or min(moments, palette, redraw_every) < 0:
            raise ValueError(
                "samples and style_samples must be at least 1; moments, palette and redraw_every at least 0"
            )
        self.samples, self.style_samples = samples, style_samples
        self.moments, self.palette = moments, palette
        self.redraw_every = redraw_every

    def views(self, layers: Sequence[str]) -> list[str]:
        """Return all layers together, after the pixels themselves."""
        return ["+".join([CANVAS, *(layer for layer in layers if layer != CANVAS)])]

    def target(self, features: Sequence[Tensor], guide: Tensor | None = None) -> StyleColumns:
        """Return hypercolumns at sampled positions, and their moments."""
        return self._with_moments(self._columns(features, self.style_samples, guide))

    def forward(
        self, features: Sequence[Tensor], target: StyleColumns, guide: Tensor | None = None
    ) -> Tensor:
        """Return the distance per canvas, ``(B,)``."""
        return self._distance(self._columns(features, self.samples, guide), target)

    def unit(self, target: StyleColumns) -> Tensor:
        """Return the value at F = 0."""
        return self._distance(torch.zeros_like(target.columns[..., :1]), target)

    def blend(self, targets: Sequence[StyleColumns], weights: Sequence[float]) -> StyleColumns:
        """Concatenate the sampled positions of the pictures, in proportion to the weights."""
        return self._with_moments(unite([t.columns for t in targets], weights, self.generator()))

    def _columns(self, features: Sequence[Tensor], samples: int, guide: Tensor | None) -> Tensor:
        if features[0].shape[1] != 3:
            raise ValueError(f"the first feature map must be the picture, not {tuple(features[0].shape)}")
        return sample_hypercolumns(features, samples, self.generator(), guide)

    def _with_moments(self, columns: Tensor) -> StyleColumns:
        mean = columns.mean(2, keepdim=True)
        return StyleColumns(columns, mean, _covariance(columns - mean) if self.moments else columns[:0])

    def _distance(self, columns: Tensor, target: StyleColumns) -> Tensor:
        value = relaxed_emd(columns, target.columns, shortest(target.columns))
        if self.moments:
            mean = columns.mean(2, keepdim=True)
            first = (mean - target.mean).abs().mean((1, 2))
            second = (_covariance(columns - mean) - target.covariance).abs().mean((1, 2))
            value = value + self.moments * (first + second)
        if self.palette:
            colours, style_colours = columns[:, :3] - _GREY, target.columns[:, :3] - _GREY
            value = value + self.palette * relaxed_emd(colours, style_colours, _NO_HUE, euclidean=True)
        return value


def _covariance(centred: Tensor) -> Tensor:
    return gram_matrix(centred.unsqueeze(3))
