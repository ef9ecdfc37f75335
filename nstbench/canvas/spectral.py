"""The spectral canvas: a picture whose parameters weigh low frequencies more than high ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nstbench.canvas.base import Canvas
from nstbench.errors import UserError

# The symmetric root of the covariance of sRGB values, about each photograph's own mean, over
# `nstbench.encoders.calibration.calibration_photographs(128)`; divided so that its gain is 1 in the mean
# square. tests/canvas/test_spectral.py computes it again.
COLOUR_ROOT = (
    (0.9159, 0.4722, 0.2827),
    (0.4722, 0.6882, 0.5129),
    (0.2827, 0.5129, 0.7454),
)

# Half a level of 8 bits inside [0, 1]: black and white are rounded to themselves and have finite logits.
_INSIDE = (1 / 512, 511 / 512)

_LARGEST_ALPHA = 2.0  # above it, rounding errors of high frequencies in float32 become visible


class Spectral(Canvas):
    """A canvas of whitened pixels: ``picture = irfft2(rfft2(z) · g(f))`` with ``g ∝ f^-α``.

    In photographs amplitudes fall with frequency, about as 1/f. Gradient descent on pixels changes details
    first; on ``z`` it changes low frequencies more. It is a change of variables: the minima are the same,
    the path of the optimiser is not. Gradient descent is preconditioned with ``g²``; a step of Adam
    changes the lowest frequency by up to ``lr · max g``, and max g grows with the picture, as max(H, W)^α
    for α < 1: larger pictures need a smaller learning rate.

    f is the radial frequency in cycles per pixel, not below 1/max(H, W), so that the mean has the gain
    of the lowest frequency; g has a mean square of 1 over the picture's frequencies, so that z has the
    scale of pixels and white noise keeps its variance. The only parameter is ``z``, ``(B, 3, H, W)``.

    - ``decorrelate``: the channels of z are mixed by the root of photographs' colour covariance
      (`COLOUR_ROOT`): a step changes brightness more than hue.
    - ``bounded``: the picture is the sigmoid of the mix, always inside [0, 1]. `paint` takes the logit
      of values clamped to [1/512, 511/512], so that a start outside [0, 1], such as wide noise, is
      clamped, and pixels near black and white change slowly. The slope of a sigmoid is at most 1/4:
      a learning rate has at most a quarter of its effect on pixels. Without it, values may leave [0, 1]
      while optimising, as with `nstbench.canvas.pixels.Pixels`, and only the finished copy is clamped.

    Olah, Mordvintsev & Schubert (2017, "Feature Visualization", Distill); Mordvintsev, Pezzotti,
    Schubert & Olah (2018, "Differentiable Image Parameterizations", Distill). Theirs has α = 1, complex
    parameters, colours of ImageNet and a sigmoid.

    Args:
        alpha: Exponent α, between 0 and 2: 0 is the canvas of pixels, 1 the spectrum of photographs. With
            the procedural encoder 0.75 gave the best large forms (0.5: finer strokes; 1: large blotches).
        decorrelate: Whether to mix the channels as above. Without it, strokes have coloured fringes.
        bounded: Whether to bound the picture by a sigmoid, as above.

    Raises:
        UserError: If ``alpha`` is outside [0, 2].
    """

    z: Tensor
    gain: Tensor
    colours: Tensor

    def __init__(self, alpha: float = 0.75, decorrelate: bool = True, bounded: bool = False) -> None:
        super().__init__()
        if not 0 <= alpha <= _LARGEST_ALPHA:  # NaN is not, either
            setting = "canvas.parametrization.alpha"
            reason, hint = f"it must be between 0 and {_LARGEST_ALPHA:g}", f"Type {setting}=0.5, for example."
            raise UserError(setting, alpha, reason, hint)
        self.alpha, self.decorrelate, self.bounded = alpha, decorrelate, bounded
        self.z = nn.Parameter(torch.empty(0))
        # Not in the checkpoint, as they follow from the shape. Buffers, so that they move with z.
        self.register_buffer("gain", torch.empty(0), persistent=False)
        self.register_buffer("colours", torch.tensor(COLOUR_ROOT), persistent=False)

    def forward(self) -> Tensor:
        """Return the pictures ``(B, 3, H, W)`` in the precision of z, even under autocast."""
        with torch.autocast(self.z.device.type, enabled=False):
            pictures = filtered(self.z, self.gain)
            if self.decorrelate:
                pictures = mixed(pictures, self.colours)
        return pictures.sigmoid() if self.bounded else pictures

    def paint(self, pictures: Tensor) -> None:
        """Replace the parameters by the z of ``pictures``, in their precision and on their device.

        It is computed on the CPU in float64: dividing by small gains would amplify rounding.
        """
        exact = pictures.detach().cpu().double()
        gain = spectral_gain(exact.shape[-2], exact.shape[-1], self.alpha)
        colours = torch.tensor(COLOUR_ROOT, dtype=torch.float64)
        if self.bounded:
            exact = exact.clamp(*_INSIDE).logit()
        if self.decorrelate:
            exact = mixed(exact, torch.linalg.inv(colours))
        self.z = nn.Parameter(filtered(exact, 1 / gain).to(pictures).contiguous())
        self.gain, self.colours = gain.to(pictures), colours.to(pictures)


def spectral_gain(height: int, width: int, alpha: float) -> Tensor:
    """Return ``g(f) ∝ max(f, 1/max(H, W))^-α`` at the frequencies of rfft2, ``(H, W//2 + 1)``, float64.

    Its mean square over all H·W frequencies is 1.
    """
    vertical = torch.fft.fftfreq(height, dtype=torch.float64)
    horizontal = torch.fft.rfftfreq(width, dtype=torch.float64)
    f = torch.hypot(vertical[:, None], horizontal).clamp_min(1 / max(height, width))
    gain = f**-alpha
    # rfft2 leaves out the mirror image of each column, but for the first and, in even widths, the last.
    times = torch.full_like(horizontal, 2)
    times[0] = 1
    if width % 2 == 0:
        times[-1] = 1
    return gain / ((gain**2 * times).sum() / (height * width)).sqrt()


def filtered(pictures: Tensor, gain: Tensor) -> Tensor:
    """Return ``pictures`` ``(…, H, W)`` with every frequency multiplied by its ``gain``."""
    result: Tensor = torch.fft.irfft2(torch.fft.rfft2(pictures) * gain, s=pictures.shape[-2:])
    return result


def mixed(pictures: Tensor, colours: Tensor) -> Tensor:
    """Return ``pictures`` ``(B, 3, H, W)`` with the matrix ``colours`` applied to every pixel's colour."""
    return torch.einsum("ij,bjhw->bihw", colours, pictures)
