"""How much of the content picture's structure is left: SSIM, MS-SSIM, PSNR."""

from __future__ import annotations

from typing import ClassVar, Literal

from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from nstbench.metrics.base import Metric, Subject, Unavailable, content_of


class _WithContent(Metric):
    higher_is_better: ClassVar[bool] = True
    compares_with: ClassVar[Literal["content", "style", "nothing"]] = "content"

    smallest: ClassVar[int] = 1

    def _check(self, subject: Subject) -> None:
        height, width = subject.picture.shape[-2:]
        if min(height, width) < self.smallest:
            need = f"{self.smallest} pixels on both edges"
            raise Unavailable(f"the picture is too small: {width}×{height}, it needs {need}")


class SSIM(_WithContent):
    """Structural similarity (Wang et al. 2004), 11×11 Gaussian window of σ 1.5, in [-1, 1]."""

    smallest = 11

    def __call__(self, subject: Subject) -> float:
        """Return the mean over positions and channels."""
        self._check(subject)
        value = structural_similarity_index_measure(subject.picture, content_of(subject), data_range=1.0)
        return float(value)  # type: ignore[arg-type]


class MultiScaleSSIM(_WithContent):
    """Multi-scale structural similarity (Wang et al. 2003), five scales with the paper's exponents."""

    # Four halvings must leave the 11×11 window its place: torchmetrics refuses up to (11-1)·2⁴ pixels.
    smallest = 161

    def __call__(self, subject: Subject) -> float:
        """Return the product over scales."""
        self._check(subject)
        # "relu": a negative contrast term, common in strong stylisations, would give NaN.
        return float(
            multiscale_structural_similarity_index_measure(
                subject.picture, content_of(subject), data_range=1.0, normalize="relu"
            )
        )


class PSNR(_WithContent):
    """Peak signal-to-noise ratio in dB: ``-10·log10(mean squared error)`` for values in [0, 1]."""

    def __call__(self, subject: Subject) -> float:
        """Return the ratio; it is infinite, so unavailable, for identical pictures."""
        return float(peak_signal_noise_ratio(subject.picture, content_of(subject), data_range=1.0))
