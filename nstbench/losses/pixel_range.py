"""Regularisers that keep the canvas's values in the range of pictures."""

from __future__ import annotations

from torch import Tensor

from nstbench.losses.base import Loss
from nstbench.losses.functional.maps import at_least_float32


class PixelRange(Loss):
    """Mean squared excess of the values outside [0, 1]: ``mean(max(0, -x, x - 1)²)``.

    While it is optimised, a canvas may leave the range of pictures; what is written is clamped. This
    soft wall makes the two agree. A picture has no excess, so the loss has no unit but its own: 1 is an
    excess of one whole range everywhere, so useful weights are large: 1e4 and more.
    """

    stackable = True

    def target(self, features: Tensor, guide: Tensor | None = None) -> None:
        """Remember nothing."""

    def forward(self, features: Tensor, target: None, guide: Tensor | None = None) -> Tensor:
        """Return the penalty per canvas, ``(B,)``, of pictures ``(B, 3, H, W)``."""
        pictures = _whole(features, guide)
        return (pictures - pictures.clamp(0, 1)).square().flatten(1).mean(1)


class AlphaNorm(Loss):
    """The α-norm of the centred picture: ``mean(|2(x - center)|^α)``.

    Mahendran & Vedaldi (2015) take the sum, ``Σ|x|^α`` with α = 6, of a picture less the mean of
    the training pictures. A large α leaves the middle of the range alone and is steep beyond its ends:
    here, with mid-grey as the mean, black and white count 1. Theirs, for a range of width b and N values,
    is ``N·(b/2)^α`` times ours.

    Its target is a yardstick, as for total variation: the content picture's own value (or the style
    picture's), which is 1 in ``weights.unit=unit``.

    Args:
        alpha: the exponent, at least 1.
        center: the sRGB value that costs nothing.
    """

    stackable = True

    def __init__(self, alpha: float = 6.0, center: float = 0.5) -> None:
        super().__init__()
        if alpha < 1:
            raise ValueError(f"alpha is at least 1, not {alpha}")
        self.alpha, self.center = alpha, center

    def target(self, features: Tensor, guide: Tensor | None = None) -> Tensor:
        """Remember the value of a picture ``(B, 3, H, W)``, ``(B,)``."""
        return self.forward(features, None, guide)

    def forward(self, features: Tensor, target: Tensor | None, guide: Tensor | None = None) -> Tensor:
        """Return the norm per canvas, ``(B,)``, of pictures ``(B, 3, H, W)``."""
        centred = 2 * (_whole(features, guide) - self.center)
        return (centred.abs() ** self.alpha).flatten(1).mean(1)

    def unit(self, target: Tensor | None) -> Tensor:
        """Return the value of the picture that was remembered."""
        return super().unit(target) if target is None else target


def _whole(pictures: Tensor, guide: Tensor | None) -> Tensor:
    if guide is not None:
        raise ValueError("a range is kept by the whole canvas: it takes no guide")
    return at_least_float32(pictures)
