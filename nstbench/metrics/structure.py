"""Similarity to the content picture: SSIM, MS-SSIM, PSNR."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from nstbench.metrics.base import Metric, Subject, Unavailable, content_of

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
"""A picture ``(3, H, W)`` in float64: a variance as E[x²] - E[x]² loses half of its digits in float32."""

# The Gaussian window of σ 1.5 that both papers use, along one axis; and their constants for [0, 1].
_WINDOW = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
_WINDOW /= _WINDOW.sum()
_C1, _C2 = 0.01**2, 0.03**2
# Exponents of the five scales, the finest first (Wang et al. 2003, §3.2).
_EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


class _WithContent(Metric):
    higher_is_better: ClassVar[bool] = True
    compares_with: ClassVar[Literal["content", "style", "nothing"]] = "content"

    smallest: ClassVar[int] = 1

    def _pair(self, subject: Subject) -> tuple[Pixels, Pixels]:
        picture, content = _pixels(subject.picture), _pixels(content_of(subject))
        height, width = picture.shape[-2:]
        if min(height, width) < self.smallest:
            needed = f"{self.smallest} pixels in width and height are needed"
            raise Unavailable(f"the picture is too small: {width}×{height}; {needed}")
        return picture, content


class SSIM(_WithContent):
    """Structural similarity (Wang et al. 2004), 11×11 Gaussian window of σ 1.5, in [-1, 1].

    ``(2μxμy + C1)(2σxy + C2) / ((μx² + μy² + C1)(σx² + σy² + C2))``, C1 = 0.01², C2 = 0.03²: the mean
    over channels, and over the positions where the whole window fits. The paper compares luminance
    alone; here R, G and B count.
    """

    smallest = len(_WINDOW)

    def __call__(self, subject: Subject) -> float:
        """Return the mean over positions and channels."""
        return _similarity(*self._pair(subject))[0]


class MultiScaleSSIM(_WithContent):
    """Multi-scale structural similarity (Wang, Simoncelli & Bovik 2003), in [0, 1].

    ``∏_j max(0, cs_j)^β_j · max(0, ssim_5)^β_5``, j = 1 … 4: the contrast and structure terms
    ``(2σxy + C2) / (σx² + σy² + C2)`` of the picture and of its halvings (means of 2×2 pixels), and
    SSIM of the fourth halving; each is a mean as in `SSIM`. A negative mean, which strong
    stylisations have at fine scales, has no real power: it counts as 0, and so does the product.
    """

    # The window must fit after four halvings.
    smallest = len(_WINDOW) * 2 ** (len(_EXPONENTS) - 1)

    def __call__(self, subject: Subject) -> float:
        """Return the product over scales."""
        x, y = self._pair(subject)
        product = 1.0
        for exponent in _EXPONENTS[:-1]:
            product *= max(0.0, _similarity(x, y)[1]) ** exponent
            x, y = _halved(x), _halved(y)
        return float(product * max(0.0, _similarity(x, y)[0]) ** _EXPONENTS[-1])


class PSNR(_WithContent):
    """Peak signal-to-noise ratio in dB: ``-10·log10(mean squared error)`` for values in [0, 1]."""

    def __call__(self, subject: Subject) -> float:
        """Return the ratio.

        Raises:
            Unavailable: If the pictures are identical, so that the ratio is infinite.
        """
        picture, content = self._pair(subject)
        error = float(np.mean((picture - content) ** 2))
        if error == 0:
            raise Unavailable("it is infinite: the picture is the content picture, unchanged")
        return float(-10 * np.log10(error))


def _similarity(x: Pixels, y: Pixels) -> tuple[float, float]:
    """Return the mean SSIM, and the mean of its contrast and structure terms alone."""
    means = [_channel_similarity(a, b) for a, b in zip(x, y, strict=True)]  # one by one, to save memory
    ssim, contrast = np.mean(means, axis=0)
    return float(ssim), float(contrast)


def _channel_similarity(x: Pixels, y: Pixels) -> tuple[float, float]:
    mean_x, mean_y = _local_mean(x), _local_mean(y)
    variances = _local_mean(x * x) - mean_x**2 + _local_mean(y * y) - mean_y**2
    covariance = _local_mean(x * y) - mean_x * mean_y
    contrast = (2 * covariance + _C2) / (variances + _C2)
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return float((luminance * contrast).mean()), float(contrast.mean())


def _local_mean(x: Pixels) -> Pixels:
    """Return the mean under the window at every position where it fits: ``(H - 10, W - 10)``."""
    from scipy.ndimage import correlate1d  # slow to import, needed only at the end of a run

    edge = len(_WINDOW) // 2
    rows = correlate1d(x, _WINDOW, axis=0)[edge:-edge]
    means: Pixels = correlate1d(rows, _WINDOW, axis=1)[:, edge:-edge]
    return means


def _halved(x: Pixels) -> Pixels:
    """Return the means of 2×2 pixels; a last odd row or column is left out."""
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def _pixels(picture: Tensor) -> Pixels:
    pixels: Pixels = picture[0].double().numpy()
    return pixels
