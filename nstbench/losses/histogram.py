"""Histogram losses: the distribution of every channel is matched to the style picture's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from nstbench.losses.base import Loss
from nstbench.losses.functional.maps import inside, weighted_mean
from nstbench.losses.functional.quantiles import ascending, remap, resampled


class Distribution(NamedTuple):
    """The distribution of each channel of a picture.

    Attributes:
        quantiles: Values of the channel in ascending order, ``(1 or B, C, M)``.
        low: Smallest value, ``(1 or B, C, 1)``.
        high: Largest value, ``(1 or B, C, 1)``.
    """

    quantiles: Tensor
    low: Tensor
    high: Tensor


class Histogram(Loss):
    """Squared distance to the features with the style's histograms: ``mean((F - R(F))²)``.

    R maps every channel of F monotonically to the distribution of the style picture's channel: the k-th
    smallest of its M values becomes the k-th smallest of the style's (if the style has another number of
    positions, its quantile at (k + ½)/M). R is computed again at every evaluation and is a constant of the
    gradient, 2(F - R)/(C·M). Without bins, the value is the squared Wasserstein distance between the
    histograms, averaged over channels, and this gradient is exact.

    Risser, Wilmot & Barnes, "Stable and Controllable Neural Texture Synthesis and Style Transfer Using
    Histogram Losses" (2017); they sum where the published code, and ours, take the mean.

    Equal values, such as the many zeros after a ReLU, are ranked at random. At a layer read right after
    its ReLU that changes nothing: a zero passes no gradient back.

    Args:
        bins: Number of bins between the smallest and the largest value of the style's channel; None: exact
            quantiles. With bins, values within a bin are ranked at random, and the style's quantiles are
            read from its binned histogram, linearly within a bin: the published code, with 256.
        redraw_every: Steps between draws of the random ranks of equal values; 0: one draw.
    """

    def __init__(self, bins: int | None = None, redraw_every: int = 0) -> None:
        super().__init__()
        if bins is not None and bins < 1:
            raise ValueError(f"a histogram needs at least one bin, not {bins}")
        if redraw_every < 0:
            raise ValueError(f"redraw_every must be at least 0, not {redraw_every}")
        self.bins, self.redraw_every = bins, redraw_every

    def target(self, features: Tensor, guide: Tensor | None = None) -> Distribution:
        """Return every channel's values in ascending order: as much memory as the features."""
        values = ascending(inside(features, guide))
        low, high = values[..., :1], values[..., -1:]
        if self.bins is None:
            return Distribution(values, low, high)
        bin_ = _bin(values, low, high, self.bins)
        # The values of a bin are spread evenly over it.
        first, end = torch.searchsorted(bin_, bin_), torch.searchsorted(bin_, bin_, right=True)
        within = (torch.arange(bin_.shape[-1], device=bin_.device) - first + 0.5) / (end - first)
        return Distribution(low + (bin_ + within.to(bin_)) * (high - low) / self.bins, low, high)

    def forward(self, features: Tensor, target: Distribution, guide: Tensor | None = None) -> Tensor:
        """Return the squared distance per canvas, ``(B,)``."""
        values = inside(features, guide)
        with torch.no_grad():
            ranked = values if self.bins is None else _bin(values, target.low, target.high, self.bins)
            moved = remap(ranked, resampled(target.quantiles, values.shape[-1]), self.generator())
        return (values - moved).square().flatten(1).mean(1)

    def unit(self, target: Distribution) -> Tensor:
        """Return the value at F = 0: the style's mean square."""
        return target.quantiles.square().flatten(1).mean(1)

    def blend(self, targets: Sequence[Distribution], weights: Sequence[float]) -> Distribution:
        """Average the quantile functions: the Wasserstein barycentre of each channel's histograms."""
        positions = max(t.quantiles.shape[-1] for t in targets)
        quantiles = [resampled(t.quantiles, positions) for t in targets]
        return Distribution(
            weighted_mean(quantiles, weights),
            weighted_mean([t.low for t in targets], weights),
            weighted_mean([t.high for t in targets], weights),
        )


class PixelHistogram(Histogram):
    """The histogram loss of the canvas's own pixels: red, green and blue against the style picture's.

    ``mean((x - R(x))²)`` over sRGB values; see `Histogram`. It matches the style picture's brightness and
    contrast per channel, which feature losses do not fix.

    Args:
        bins: Number of bins, as for `Histogram`.
        redraw_every: Steps between draws, as for `Histogram`; pixels have equal values in flat areas.
    """

    target_picture: ClassVar[Literal["content", "style"]] = "style"

    def unit(self, target: Distribution) -> Tensor:
        """Return the value of a canvas of mid-grey, the neutral canvas for pixels."""
        return (target.quantiles - 0.5).square().flatten(1).mean(1)


def _bin(values: Tensor, low: Tensor, high: Tensor, bins: int) -> Tensor:
    """Return the number of each value's bin, 0 … bins - 1, as floats; those outside go to the last."""
    width = (high - low) / bins
    number = ((values - low) / torch.where(width > 0, width, torch.ones_like(width))).floor()
    return number.clamp(0, bins - 1)
