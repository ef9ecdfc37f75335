"""The Wasserstein-2 distance between Gaussians fitted to the features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from nstbench.losses.base import AdditiveLoss, Loss
from nstbench.losses.functional.maps import at_least_float32, weighted_mean
from nstbench.losses.functional.moments import in_double, mean_and_factor, outer
from nstbench.losses.functional.sums import Sums, sums

Normalization = Literal["sum", "mean"]


@dataclass(frozen=True)
class Gaussian:
    """The style's features as a normal distribution, in float64.

    Attributes:
        mean: Mean μ̂, ``(1 or B, N)``.
        covariance: Covariance Σ̂, ``(1 or B, N, N)``.
        factor: Factor Y with ``Σ̂ = YYᵀ``, ``(1 or B, N, r)`` for rank r: fewer columns than channels
            where the style has fewer positions than channels.
    """

    mean: Tensor
    covariance: Tensor
    factor: Tensor


class GaussianWasserstein(AdditiveLoss[Tensor], Loss):
    """Squared Wasserstein-2 distance of normal distributions with the features' means and covariances.

    ``W² = ‖μ - μ̂‖² + tr Σ + tr Σ̂ - 2 tr (Σ̂^½ Σ Σ̂^½)^½``; the part of the covariances is the squared Bures
    distance. For feature maps ``(B, N, h, w)``; covariances divide by the number of positions.

    The last trace is the nuclear norm of ``Z = YᵀX`` for any factors ``Σ̂ = YYᵀ``, ``Σ = XXᵀ``: the sum of
    the roots of the eigenvalues of ``ZZᵀ`` or ``ZᵀZ``, whichever is smaller: a matrix whose size is the
    lesser of the style's rank and the canvas's number of positions. It is computed in float64: a square
    root halves the number of correct digits of small eigenvalues, and float32 would leave noise of
    3·10⁻⁴ of the largest eigenvalue in each of hundreds of small ones. Its gradient,
    ``½ (ZZᵀ)^-½`` for ZZᵀ, is written out, as that of an eigendecomposition is infinite
    where two eigenvalues are equal. Singular values below ``eps`` times the largest, here or at the style
    picture, count for less than they are, as the norm is not differentiable where one is 0.

    ============= =========== ==============================================================
    normalization value       source
    ============= =========== ==============================================================
    sum           W²          the distance itself (Dowson & Landau 1982)
    mean          W²/N        means over channels, as Crowson's style-transfer-pytorch
    ============= =========== ==============================================================

    Args:
        normalization: One of the names above.
        eps: Smallest singular value of Z that counts in full, as a fraction of the largest.
    """

    stackable = True

    def __init__(self, normalization: Normalization = "mean", eps: float = 1e-6) -> None:
        super().__init__()
        if eps <= 0:
            raise ValueError(f"eps must be above 0, not {eps}")
        self.normalization, self.eps = normalization, eps

    def statistic(self, features: Tensor, guide: Tensor | None = None, centre: Tensor | None = None) -> Sums:
        """Return the sums of the features and of their products, about a centre; in float64."""
        F = at_least_float32(features)
        if F[0, 0].numel() < 4 * F.shape[1]:
            # In directions that hardly vary, the gradient is large times small: it needs the digits of F.
            F, guide = in_double(F), None if guide is None else in_double(guide)
            centre = None if centre is None else in_double(centre)
        return sums(F, guide, centre, second="products in double").double()

    def summary(self, statistic: Sums) -> Gaussian:
        """Return the mean, the covariance and a factor of the covariance."""
        return _gaussian(statistic.mean, statistic.covariance)

    def compare(self, statistic: Sums, target: Gaussian) -> Tensor:
        """Return the squared distance per canvas, ``(B,)``, in float64."""
        mean, covariance, Y = statistic.mean, statistic.covariance, target.factor
        return self._assemble(mean, _trace(covariance), Y.transpose(1, 2) @ covariance @ Y, target)

    def forward(self, features: Tensor, target: Gaussian, guide: Tensor | None = None) -> Tensor:
        """Return the squared distance per canvas, ``(B,)``."""
        F = at_least_float32(features)
        if F[0, 0].numel() >= target.factor.shape[2]:
            return super().forward(F, target, guide).to(F)
        # Fewer positions than columns of Y: the smaller of the two products, of the same eigenvalues.
        mean, X = mean_and_factor(in_double(F), None if guide is None else in_double(guide))
        Z = target.factor.transpose(1, 2) @ X
        trace = X.square().sum(dim=(1, 2))
        return self._assemble(mean, trace, Z.transpose(1, 2) @ Z, target).to(F)

    def unit(self, target: Gaussian) -> Tensor:
        """Return the value at F = 0: ``‖μ̂‖² + tr Σ̂``, under the same constant."""
        return (target.mean.square().sum(dim=1) + _trace(target.covariance)) / self._divisor(target)

    def blend(self, targets: Sequence[Gaussian], weights: Sequence[float]) -> Gaussian:
        """Average the raw moments: the normal distribution of all the pictures' features together."""
        mean = weighted_mean([t.mean for t in targets], weights)
        second = weighted_mean([t.covariance + outer(t.mean) for t in targets], weights)
        return _gaussian(mean, second - outer(mean))

    def _assemble(self, mean: Tensor, trace: Tensor, squared: Tensor, target: Gaussian) -> Tensor:
        largest = target.factor[..., -1].square().sum(dim=1)  # variance of the style in any direction
        fidelity: Tensor = _TraceOfRoot.apply(squared, largest, self.eps)
        shifted = (in_double(mean) - target.mean).square().sum(dim=1)
        return (shifted + trace + _trace(target.covariance) - 2 * fidelity) / self._divisor(target)

    def _divisor(self, target: Gaussian) -> int:
        return target.mean.shape[1] if self.normalization == "mean" else 1


def _gaussian(mean: Tensor, covariance: Tensor) -> Gaussian:
    """Return the Gaussian with the covariance's factor, less the directions without variance."""
    variances, directions = torch.linalg.eigh(covariance)
    N = variances.shape[1]
    least = N * torch.finfo(variances.dtype).eps * variances[:, -1:]
    variances = torch.where(variances > least, variances, 0.0)
    rank = max(1, int((variances > 0).sum(dim=1).max()))
    factor = directions[..., N - rank :] * variances[:, None, N - rank :].sqrt()
    return Gaussian(mean, covariance, factor)


def _trace(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=1, dim2=2).sum(dim=1)


class _TraceOfRoot(torch.autograd.Function):
    """``tr S^½`` of positive matrices, ``(B,)``: the sum of the roots s of the eigenvalues.

    Below a floor the root, whose slope is infinite at 0, is replaced by ``s²(2 floor - s)/floor²``, of the
    same value and slope at the floor and of finite slope at 0. A matrix that is not finite has the value
    NaN and does not affect the others of the batch: LAPACK would raise an error for all.
    """

    @staticmethod
    def forward(ctx: Any, S: Tensor, scale: Tensor, eps: float) -> Tensor:
        """Return the sum of roots; the floor is ``eps`` of the largest, or of ``scale``, ``(1 or B,)``."""
        finite = torch.isfinite(S).all(dim=2).all(dim=1)
        undefined = torch.where(finite, 0.0, torch.nan).to(S)
        eigenvalues, vectors = torch.linalg.eigh(torch.where(finite[:, None, None], S, 0.0))
        roots: Tensor = eigenvalues.clamp(min=0).sqrt()
        floor = eps * roots[:, -1:].maximum(scale[:, None])
        # Where the style has no variance the floor would be 0: no division by it.
        floor = torch.where(floor > 0, floor, 1.0)
        above = roots >= floor
        slopes = 0.5 * torch.where(above, 1 / roots.maximum(floor), (4 - 3 * roots / floor) / floor)
        ctx.save_for_backward(
            (vectors * slopes[:, None]) @ vectors.transpose(1, 2) + undefined[:, None, None]
        )
        return torch.where(above, roots, roots**2 * (2 - roots / floor) / floor).sum(dim=1) + undefined

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient for S, ``½ S^-½`` above the floor."""
        (slope,) = ctx.saved_tensors
        result: Tensor = gradient[:, None, None] * slope
        return result, None, None
