"""Regularisers that keep the canvas's values in the range of pictures."""

from __future__ import annotations

from torch import Tensor

from nstbench.losses.base import Loss
from nstbench.losses.functional.maps import at_least_float32


class PixelRange(Loss):
    """Mean squared excess of the values outside [0, 1]: ``mean(max(0, -x, x - 1)²)``.

    While it is optimised, a canvas may leave the range of pictures, but the file that is written is
    clamped; this penalty keeps the difference small. A picture has no excess, so the unit is 1: an
    excess of one whole range everywhere. Useful weights are therefore large: 1e4 and more.
    """

    stackable = True

    def target(self, features: Tensor, guide: Tensor | None = None) -> None:
        """Return None: the loss has no target."""

    def forward(self, features: Tensor, target: None, guide: Tensor | None = None) -> Tensor:
        """Return the penalty per canvas, ``(B,)``, of pictures ``(B, 3, H, W)``."""
        pictures = _checked(features, guide)
        return (pictures - pictures.clamp(0, 1)).square().flatten(1).mean(1)


class AlphaNorm(Loss):
    """The α-norm of the centred picture: ``mean(|2(x - center)|^α)``.

    Mahendran & Vedaldi (2015) take the sum, ``Σ|x|^α`` with α = 6, of a picture less the mean of
    the training pictures. A large α is nearly flat in the middle of the range and steep beyond its ends:
    here, with mid-grey as the mean, black and white count 1. Theirs, for a range of width b and N values,
    is ``N·(b/2)^α`` times ours.

    Its target serves as the unit only, as for total variation: the content picture's own value (or the
    style picture's) is 1 in ``weights.unit=unit``.

    Args:
        alpha: Exponent, at least 1.
        center: The sRGB value at which the loss is 0.
    """

    stackable = True

    def __init__(self, alpha: float = 6.0, center: float = 0.5) -> None:
        super().__init__()
        if alpha < 1:
            raise ValueError(f"alpha must be at least 1, not {alpha}")
        self.alpha, self.center = alpha, center

    def target(self, features: Tensor, guide: Tensor | None = None) -> Tensor:
        """Return the norm of a picture ``(B, 3, H, W)``, ``(B,)``."""
        return self.forward(features, None, guide)

    def forward(self, features: Tensor, target: Tensor | None, guide: Tensor | None = None) -> Tensor:
        """Return the norm per canvas, ``(B,)``, of pictures ``(B, 3, H, W)``."""
        centred = 2 * (_checked(features, guide) - self.center)
        return (centred.abs() ** self.alpha).flatten(1).mean(1)

    def unit(self, target: Tensor | None) -> Tensor:
        """Return the target; 1 without one."""
        return super().unit(target) if target is None else target


def _checked(pictures: Tensor, guide: Tensor | None) -> Tensor:
    """Return the pictures in float32; raise ValueError if there is a guide."""
    if guide is not None:
        raise ValueError("the range is a property of the whole canvas: it takes no guide")
    return at_least_float32(pictures)
