"""STROTSS' style loss: relaxed earth mover's distance of hypercolumns, moments and palette."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nstbench.losses.base import CANVAS, JointLoss
from nstbench.losses.functional.gram import gram_matrix
from nstbench.losses.functional.hypercolumn import relaxed_emd, sample_hypercolumns, shortest, unite

# Colours are directions from mid-grey, as in the authors' code, and this near to it they are none.
_GREY, _NO_HUE = 0.5, 1 / 255


class StyleColumns(NamedTuple):
    """What is remembered of a style picture.

    Attributes:
        columns: hypercolumns at sampled positions, ``(1 or B, D, m)``; the first three channels are colours.
        mean: of them, ``(1 or B, D, 1)``.
        covariance: of them, ``(1 or B, D, D)``; empty if moments are not compared.
    """

    columns: Tensor
    mean: Tensor
    covariance: Tensor


class RelaxedEMD(JointLoss):
    """Style of STROTSS: ``ℓ_r + moments · ℓ_m + palette · ℓ_p`` on hypercolumns at sampled positions.

    With hypercolumns x_i of the canvas (n positions, D channels) and y_j of the style picture (m positions):

    - ``ℓ_r = max(mean_i min_j C_ij, mean_j min_i C_ij)``, ``C_ij = 1 - cos(x_i, y_j)``
    - ``ℓ_m = Σ|μ_x - μ_y|/D + Σ|Σ_x - Σ_y|/D²``, which also ties the features' magnitude
    - ``ℓ_p``: as ``ℓ_r`` on colours, with ``‖x_i - y_j‖/√3`` added to ``C_ij``, as in the authors' code;
      in the paper, to our knowledge, the Euclidean distance alone takes the place of ``C_ij``

    Kolkin, Salavon & Shakhnarovich (2019), "Style Transfer by Relaxed Optimal Transport and
    Self-Similarity", minimise ``(α·ℓ_C + ℓ_m + ℓ_r + ℓ_p/α) / (2 + α + 1/α)``; their code divides by
    2 + α and takes 1/max(α, 1). α starts at 16 and halves with each of four scales: 2 at the last,
    so ``palette=0.5``. Divisions that are one constant are left to the weights here.

    The paper compares colours in a decorrelated space. The matrix of its code is a rotation, which
    changes neither a cosine nor a length: there is none here. What the code does change is the
    origin, which is mid-grey: here for ``ℓ_p``. In the code the pixels of the hypercolumns are less mid-grey
    too; here they are in [0, 1].

    The value is 0 at the style picture itself, where both are sampled at the same positions (one size,
    the first draw, ``samples = style_samples``), or at all. The unit is the
    value of a black canvas with features 0.

    Args:
        samples: positions of the canvas (authors: 32²).
        style_samples: positions of the style picture, drawn once (authors: five draws of 1000).
        moments: weight of ℓ_m.
        palette: weight of ℓ_p.
        redraw_every: steps between draws of the canvas's positions; 0: one draw (authors: 1).
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
            raise ValueError("samples are at least 1; moments, palette and redraw_every at least 0")
        self.samples, self.style_samples = samples, style_samples
        self.moments, self.palette = moments, palette
        self.redraw_every = redraw_every

    def views(self, layers: Sequence[str]) -> list[str]:
        """Return all layers together, after the pixels themselves."""
        return ["+".join([CANVAS, *(layer for layer in layers if layer != CANVAS)])]

    def target(self, features: Sequence[Tensor], guide: Tensor | None = None) -> StyleColumns:
        """Remember hypercolumns at sampled positions, and their moments."""
        return self._remember(self._columns(features, self.style_samples, guide))

    def forward(
        self, features: Sequence[Tensor], target: StyleColumns, guide: Tensor | None = None
    ) -> Tensor:
        """Return the distance per canvas, ``(B,)``."""
        return self._distance(self._columns(features, self.samples, guide), target)

    def unit(self, target: StyleColumns) -> Tensor:
        """Return the value at F = 0."""
        return self._distance(torch.zeros_like(target.columns[..., :1]), target)

    def blend(self, targets: Sequence[StyleColumns], weights: Sequence[float]) -> StyleColumns:
        """Unite the sampled positions, as many of each picture as its weight says."""
        return self._remember(unite([t.columns for t in targets], weights, self.generator()))

    def _columns(self, features: Sequence[Tensor], samples: int, guide: Tensor | None) -> Tensor:
        if features[0].shape[1] != 3:
            raise ValueError(f"the first feature map must be the picture, not {tuple(features[0].shape)}")
        return sample_hypercolumns(features, samples, self.generator(), guide)

    def _remember(self, columns: Tensor) -> StyleColumns:
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
            colours, theirs = columns[:, :3] - _GREY, target.columns[:, :3] - _GREY
            value = value + self.palette * relaxed_emd(colours, theirs, _NO_HUE, euclidean=True)
        return value


def _covariance(centred: Tensor) -> Tensor:
    return gram_matrix(centred.unsqueeze(3))
