"""Means and covariances of feature maps, plain and of a region."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def share(guide: Tensor) -> Tensor:
    """Return each position's share of a region, ``(1 or B, 1, M)``: the guide divided by its sum.

    Raises:
        ValueError: If the guide is 0 everywhere.
    """
    g = guide.flatten(2)
    total = g.sum(dim=2, keepdim=True)
    if not bool((total > 0).all()):
        raise ValueError("the guide is 0 everywhere: its region has no position at this layer")
    return g / total


def channel_means(features: Tensor, guide: Tensor | None = None) -> Tensor:
    """Return the mean of every channel, ``(B, N)``, of feature maps ``(B, N, h, w)``."""
    F = features.flatten(2)
    return F.mean(dim=2) if guide is None else (F * share(guide)).sum(dim=2)


def mean_and_factor(features: Tensor, guide: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the mean μ, ``(B, N)``, and X, ``(B, N, M)``, with ``XXᵀ`` the covariance: ``(F - μ)/√M``."""
    mean = channel_means(features, guide)
    # The mean here is a constant for the gradient: Σ (f - μ) = 0, so it has no first derivative.
    centred = features.flatten(2) - mean.detach()[..., None]
    return mean, centred * (centred.shape[2] ** -0.5 if guide is None else share(guide).sqrt())


def outer(mean: Tensor) -> Tensor:
    """Return ``μμᵀ``, ``(B, N, N)``."""
    return mean[:, :, None] * mean[:, None, :]


def in_double(x: Tensor) -> Tensor:
    """Return ``x`` in float64; on the CPU where the device does not support it."""
    return (x.cpu() if x.device.type == "mps" else x).double()


class ScatterInDouble(torch.autograd.Function):
    """``XXᵀ`` in float64 for X ``(B, N, M)`` of any precision, whose gradient stays in X's own.

    Only one block of X at a time is in float64.
    """

    @staticmethod
    def forward(ctx: Any, X: Tensor) -> Tensor:
        """Return XXᵀ."""
        ctx.save_for_backward(X)
        blocks = (in_double(block) for block in torch.split(X, 16384, dim=2))
        return torch.stack([block @ block.transpose(1, 2) for block in blocks]).sum(0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return ``(Ḡ + Ḡᵀ)X``."""
        (X,) = ctx.saved_tensors
        result: Tensor = (gradient + gradient.transpose(1, 2)).to(X) @ X
        return result
