"""Gram matrices of feature maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def gram_matrix(features: Tensor, guide: Tensor | None = None) -> Tensor:
    """Return the Gram matrix ``FFᵀ/M``, ``(B, N, N)``, of feature maps ``(B, N, h, w)``.

    F is the map as an N×M matrix of N channels at M = h·w positions. Gatys et al. (2016, eq. 3)
    define G = FFᵀ and divide by M² in the loss (eq. 4); dividing G by its own M is the same if the
    picture and the canvas have one size, and does not depend on their sizes otherwise.

    With a guide ``(1 or B, 1, h, w)`` of weights in [0, 1], positions count by their weight and M is
    the guide's sum, so that the Gram matrix does not depend on the size of the region.
    """
    if guide is None:
        return products(features) / (features.shape[2] * features.shape[3])
    return products(features, guide) / guide.flatten(2).sum(dim=2, keepdim=True)


def products(features: Tensor, guide: Tensor | None = None) -> Tensor:
    """Return ``FFᵀ``, ``(B, N, N)``: `gram_matrix` before it is divided by the number of positions."""
    F = features.flatten(2)
    if guide is None:
        product: Tensor = _ScatterMatrix.apply(F)
        return product
    return (F * guide.flatten(2)) @ F.transpose(1, 2)


class _ScatterMatrix(torch.autograd.Function):
    """``FFᵀ``, whose gradient ``(Ḡ + Ḡᵀ)F`` is one product; autograd would make it two and add them."""

    @staticmethod
    def forward(ctx: Any, F: Tensor) -> Tensor:
        """Return FFᵀ."""
        ctx.save_for_backward(F)
        return F @ F.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the gradient for F; it can be differentiated again."""
        (F,) = ctx.saved_tensors
        result: Tensor = (gradient + gradient.transpose(1, 2)) @ F
        return result
