"""Keeping the content picture's colours: luminance alone, or the style picture in the content's colours.

Gatys, Bethge, Hertzmann & Shechtman, "Preserving Color in Neural Artistic Style Transfer" (2016),
and Gatys, Ecker, Bethge, Hertzmann & Shechtman, "Controlling Perceptual Factors in Neural Style
Transfer" (CVPR 2017). Pictures are sRGB ``(1, 3, H, W)``; computations are in float64, on the
encoded (not linear) values, as the authors do. Results keep the dtype and device of their first
argument and are not clamped: they may lie outside [0, 1].
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

Root = Literal["cholesky", "pca", "symmetric"]

_YIQ = (0.299, 0.587, 0.114)
# A direction in which a picture varies by less than a level of 8 bits holds noise, no colours, and is
# not stretched.
_LEAST_VARIANCE = (1 / 255) ** 2


def luminance(picture: Tensor) -> Tensor:
    """Return Y of YIQ, ``0.299 R + 0.587 G + 0.114 B``, as a grey picture: ``(B, 3, H, W)``.

    It is differentiable.
    """
    weights = picture.new_tensor(_YIQ).view(1, 3, 1, 1)
    return (picture * weights).sum(dim=1, keepdim=True).expand(-1, 3, -1, -1)


def matched_luminance(style: Tensor, content: Tensor) -> Tensor:
    """Return the style's luminance with the mean and standard deviation of the content's, in grey.

    ``Y' = σ_C/σ_S · (Y_S - μ_S) + μ_C`` (Gatys et al. 2016, after Hertzmann et al. 2001). A
    style of constant luminance becomes the content's mean.
    """
    y, content_y = luminance(style.double())[:, :1], luminance(content.double())[:, :1]
    deviation = y.std(correction=0)
    gain = content_y.std(correction=0) / deviation if deviation**2 > _LEAST_VARIANCE else 0.0
    matched = gain * (y - y.mean()) + content_y.mean()
    return matched.expand(-1, 3, -1, -1).to(style)


def with_luminance(content: Tensor, picture: Tensor) -> Tensor:
    """Return the content's I and Q with the picture's luminance, as colours in [0, 1].

    From YIQ to RGB, Y is added to all three channels, so that the colours are
    ``Y_picture + (RGB_content - Y_content)``. Where a channel would lie outside [0, 1], I and Q are
    both divided by the factor that brings it back: clipping would change the hue and the stylised
    luminance. So the luminance is the picture's everywhere.

    Args:
        content: Picture whose hues are kept.
        picture: Picture whose luminance is kept, of the same size; clamped to [0, 1] first.
    """
    content, y = content.double(), luminance(picture.double().clamp(0, 1))
    chroma = content - luminance(content)
    largest_factor = torch.where(chroma > 0, 1 - y, y) / chroma.abs().clamp_min(1e-12)
    factor = largest_factor.amin(dim=1, keepdim=True).clamp(max=1)
    return (y + factor * chroma).to(picture)


def match_histogram(style: Tensor, content: Tensor) -> Tensor:
    """Return the style with exactly the content's histogram in each of red, green and blue.

    The k-th smallest of M values becomes the content's quantile at level (k + ½)/M (Gatys et al. 2017
    compare it with the linear maps below). Equal values stay equal, and become the mean of their
    quantiles: flat areas stay flat.
    """
    source, wanted = (p.detach().double().cpu().flatten(2).numpy()[0] for p in (style, content))
    matched = np.empty_like(source)
    for channel in range(3):
        _, where, counts = np.unique(source[channel], return_inverse=True, return_counts=True)
        ascending = np.sort(wanted[channel])
        levels = (np.arange(source.shape[1]) + 0.5) / source.shape[1]
        content_levels = (np.arange(len(ascending)) + 0.5) / len(ascending)
        quantiles = np.interp(levels, content_levels, ascending)
        starts = np.cumsum(counts) - counts
        matched[channel] = (np.add.reduceat(quantiles, starts) / counts)[where]
    return torch.from_numpy(matched).view(style.shape).to(style)


def match_moments(style: Tensor, content: Tensor, root: Root) -> Tensor:
    """Return the style with the content's mean and covariance of colours: ``x' = A(x - μ_S) + μ_C``.

    All A with ``A Σ_S Aᵀ = Σ_C`` do that; they differ by a rotation, which changes hues.

    =========  ==============================================  =====================================
    ``root``   A                                               source
    =========  ==============================================  =====================================
    cholesky   ``L_C L_S⁻¹``, L the Cholesky factors           Gatys et al. 2016
    pca        ``Σ_C^½ Σ_S^-½``, the symmetric square roots    Hertzmann's thesis (2001), "image
               ``U Λ^½ Uᵀ`` from the eigenvectors              analogies"; Gatys et al. 2016
    symmetric  ``Σ_S^-½ (Σ_S^½ Σ_C Σ_S^½)^½ Σ_S^-½``           Monge's transport of Gaussians: of all
                                                               A the one that moves colours least
                                                               (Pitié & Kokaram 2007)
    =========  ==============================================  =====================================

    Reinhard et al. (2001) match each channel alone, in a space that decorrelates natural colours.
    Directions in which the style varies by less than a level of 8 bits (as in a grey picture) are not
    stretched: the result has the content's mean, but varies in fewer directions.
    """
    source, wanted = (p.detach().double().cpu().flatten(2)[0] for p in (style, content))
    mean, mean_wanted = source.mean(1, keepdim=True), wanted.mean(1, keepdim=True)
    S, C = _covariance(source), _covariance(wanted)
    if root == "cholesky":
        A = _cholesky(C, 0.0)[0] @ _cholesky(S, _LEAST_VARIANCE)[1]
    elif root == "pca":
        A = _power(C, 0.5) @ _power(S, -0.5)
    else:
        half, inverse = _power(S, 0.5), _power(S, -0.5)
        A = inverse @ _power(half @ C @ half, 0.5) @ inverse
    return (A @ (source - mean) + mean_wanted).view(style.shape).to(style)


def _covariance(colours: Tensor) -> Tensor:
    centred = colours - colours.mean(1, keepdim=True)
    return centred @ centred.T / colours.shape[1]


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Return a power of a covariance matrix; variances below the least are not inverted."""
    values, vectors = torch.linalg.eigh(matrix)
    least = _LEAST_VARIANCE if exponent < 0 else 0.0
    powers = torch.where(values > least, values.clamp_min(1e-300) ** exponent, 0.0)
    result: Tensor = vectors @ torch.diag(powers) @ vectors.T
    return result


def _cholesky(matrix: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Return L with ``LLᵀ`` the matrix, and its inverse; both 0 for variances of at most ``least``."""
    n = len(matrix)
    L, K, kept = torch.zeros_like(matrix), torch.eye(n).to(matrix), torch.zeros_like(matrix)
    for j in range(n):
        rest = matrix[j:, j] - L[j:, :j] @ L[j, :j]
        if rest[0] > max(least, 1e-12 * float(matrix[j, j])):
            L[j:, j] = K[j:, j] = rest / rest[0].sqrt()
            kept[j, j] = 1.0
    return L, kept @ torch.linalg.inv(K)
