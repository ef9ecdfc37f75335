"""The Loss contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

Target = Any
"""What a loss remembers of a content or style picture: its own business, usually a tensor."""


class Loss(nn.Module):
    """One formulation, applied to one feature map at a time. It holds settings, never pictures.

    A new formulation is one subclass in one file: `target` says what to remember of a picture's
    feature map, `forward` how far a canvas's feature map is from it. Computation is in float32 (or
    float64) whatever the encoder's precision, and each feature map is normalised by its own number
    of positions, so that the canvas and the pictures may differ in size.
    """

    def target(self, features: Tensor, guide: Tensor | None = None) -> Target:
        """Return what to remember of feature maps ``(1 or B, C, h, w)``."""
        raise NotImplementedError

    def forward(self, features: Tensor, target: Target, guide: Tensor | None = None) -> Tensor:
        """Return one value per canvas, ``(B,)``, for feature maps ``(B, C, h, w)``."""
        raise NotImplementedError

    def unit(self, target: Target) -> Tensor:
        """Return what one unit of this loss is, ``(1 or B,)``, for ``weights.unit=unit``.

        It is the value that a canvas without any features would have: for a squared error, the
        target's own mean square under the same constants. A loss that remembers nothing has no
        unit other than its published one, 1.
        """
        return torch.ones(1)

    def blend(self, targets: Sequence[Target], weights: Sequence[float]) -> Target:
        """Return the target for several style pictures together; ``weights`` sum to 1.

        Raises:
            NotImplementedError: if the formulation is not defined for more than one picture.
        """
        raise NotImplementedError(f"{type(self).__name__} is defined for one picture only")


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` in float32, or in float64 if it is that already."""
    return x if x.dtype == torch.float64 else x.float()


def per_canvas(x: Tensor) -> Tensor:
    """Sum over everything but the batch: ``(B, …)`` to ``(B,)``."""
    return x.flatten(1).sum(1)


def weighted_mean(targets: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return Σ wᵢ·targetᵢ, the blend of targets that are averages over positions."""
    return torch.stack([w * t for w, t in zip(weights, targets, strict=True)]).sum(0)
