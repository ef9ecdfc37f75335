"""Keeping the content picture's colours: luminance alone, or the style picture in the content's colours.

Gatys, Bethge, Hertzmann & Shechtman, "Preserving Color in Neural Artistic Style Transfer" (2016),
and Gatys, Ecker, Bethge, Hertzmann & Shechtman, "Controlling Perceptual Factors in Neural Style
Transfer" (CVPR 2017). Pictures are sRGB ``(1, 3, H, W)``; all is computed in float64, on the
values as they are encoded, as the authors do. Results keep the dtype and device of their first
argument, and nothing is clamped: what is asked for may lie outside [0, 1].
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

Root = Literal["cholesky", "pca", "symmetric"]

_YIQ = (0.299, 0.587, 0.114)
# A direction in which a picture varies by less than a level of 8 bits holds noise, no colours:
# nothing is stretched there.
_LEAST_VARIANCE = (1 / 255) ** 2


def luminance(picture: Tensor) -> Tensor:
    """Return Y of YIQ, ``0.299 R + 0.587 G + 0.114 B``, as a grey picture: ``(B, 3, H, W)``.

    Differentiable: of three channels only their luminance remains.
    """
    weights = picture.new_tensor(_YIQ).view(1, 3, 1, 1)
    return (picture * weights).sum(dim=1, keepdim=True).expand(-1, 3, -1, -1)


def matched_luminance(style: Tensor, content: Tensor) -> Tensor:
    """Return the style's luminance with the mean and standard deviation of the content's, in grey.

    ``Y' = σ_C/σ_S · (Y_S - μ_S) + μ_C`` (Gatys et al. 2016, after Hertzmann et al. 2001). A
    style of one luminance becomes the content's mean.
    """
    y, of_content = luminance(style.double())[:, :1], luminance(content.double())[:, :1]
    deviation = y.std(correction=0)
    gain = of_content.std(correction=0) / deviation if deviation**2 > _LEAST_VARIANCE else 0.0
    matched = gain * (y - y.mean()) + of_content.mean()
    return matched.expand(-1, 3, -1, -1).to(style)


def with_luminance(content: Tensor, picture: Tensor) -> Tensor:
    """Return the content's I and Q with the picture's luminance, as colours that can be shown.

    From YIQ to RGB, Y is added to all three channels alike, so that the colours are
    ``Y_picture + (RGB_content - Y_content)``. Where one of them would lie outside [0, 1], I and Q are
    both divided by what brings it back: clipping would change the hue, and the luminance, which is
    what was stylised. So the luminance is the picture's everywhere.

    Args:
        content: whose hues are kept.
        picture: whose luminance is kept, of the same size; clamped to [0, 1] first.
    """
    content, y = content.double(), luminance(picture.double().clamp(0, 1))
    chroma = content - luminance(content)
    room = torch.where(chroma > 0, 1 - y, y) / chroma.abs().clamp_min(1e-12)
    share = room.amin(dim=1, keepdim=True).clamp(max=1)
    return (y + share * chroma).to(picture)


def match_histogram(style: Tensor, content: Tensor) -> Tensor:
    """Return the style with the content's histogram in each of red, green and blue, exactly.

    The k-th smallest of M values becomes the content's quantile at level (k + ½)/M (Gatys et al. 2017
    compare it with the linear maps below). Equal values stay equal, and become the mean of the
    quantiles that they would share: flat areas stay flat.
    """
    source, wanted = (p.detach().double().cpu().flatten(2).numpy()[0] for p in (style, content))
    matched = np.empty_like(source)
    for channel in range(3):
        _, where, counts = np.unique(source[channel], return_inverse=True, return_counts=True)
        ascending = np.sort(wanted[channel])
        levels = (np.arange(source.shape[1]) + 0.5) / source.shape[1]
        theirs = (np.arange(len(ascending)) + 0.5) / len(ascending)
        quantiles = np.interp(levels, theirs, ascending)
        starts = np.cumsum(counts) - counts
        matched[channel] = (np.add.reduceat(quantiles, starts) / counts)[where]
    return torch.from_numpy(matched).view(style.shape).to(style)


def match_moments(style: Tensor, content: Tensor, root: Root) -> Tensor:
    """Return the style with the content's mean and covariance of colours: ``x' = A(x - μ_S) + μ_C``.

    All A with ``A Σ_S Aᵀ = Σ_C`` do that; they differ by a rotation, which exchanges hues.

    =========  ==============================================  =====================================
    ``root``   A                                               whose
    =========  ==============================================  =====================================
    cholesky   ``L_C L_S⁻¹``, L the Cholesky factors           Gatys et al. 2016
    pca        ``Σ_C^½ Σ_S^-½``, the symmetric square roots    Hertzmann's thesis (2001), "image
               ``U Λ^½ Uᵀ`` from the eigenvectors              analogies"; Gatys et al. 2016
    symmetric  ``Σ_S^-½ (Σ_S^½ Σ_C Σ_S^½)^½ Σ_S^-½``           Monge's transport of Gaussians: of all
                                                               A the one that moves colours least
                                                               (Pitié & Kokaram 2007)
    =========  ==============================================  =====================================

    Reinhard et al. (2001) match each channel alone, in a space that decorrelates natural colours.
    Where the style varies by less than a level of 8 bits in some direction (a grey picture), no A
    makes it vary: the result then has the content's mean, and varies in fewer directions.
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
    """Return a power of a covariance matrix; what varies by next to nothing is not inverted."""
    values, vectors = torch.linalg.eigh(matrix)
    least = _LEAST_VARIANCE if exponent < 0 else 0.0
    powers = torch.where(values > least, values.clamp_min(1e-300) ** exponent, 0.0)
    result: Tensor = vectors @ torch.diag(powers) @ vectors.T
    return result


def _cholesky(matrix: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Return L with ``LLᵀ`` the matrix, and its inverse; 0 along what varies by no more than ``least``."""
    n = len(matrix)
    L, K, kept = torch.zeros_like(matrix), torch.eye(n).to(matrix), torch.zeros_like(matrix)
    for j in range(n):
        rest = matrix[j:, j] - L[j:, :j] @ L[j, :j]
        if rest[0] > max(least, 1e-12 * float(matrix[j, j])):
            L[j:, j] = K[j:, j] = rest / rest[0].sqrt()
            kept[j, j] = 1.0
    return L, kept @ torch.linalg.inv(K)
