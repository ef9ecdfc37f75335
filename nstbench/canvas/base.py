"""The canvas: the picture being optimised, and what it starts as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from nstbench.pictures.colour_control import luminance
from nstbench.pictures.resize import resize

NoiseName = Literal["uniform", "gatys", "neural_style", "gordicaleksa", "grey"]


@dataclass(frozen=True)
class Noise:
    """A distribution of independent pixel values, in units of sRGB [0, 1].

    Attributes:
        distribution: ``normal`` with mean and std, or ``uniform`` on mean ± std·√3.
        mean: per channel RGB.
        std: one for all channels.
    """

    distribution: Literal["normal", "uniform"] = "normal"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: float = 0.1


# VGG's mean colour: zero in the input range of the Caffe networks.
_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)

# "White noise" is a different picture in every implementation: by a factor of 90,000 in σ.
NOISES: dict[str, Noise] = {
    "uniform": Noise("uniform", (0.5, 0.5, 0.5), 1 / 12**0.5),  # U[0, 1]: pystiche
    "gatys": Noise("normal", _MEAN, 1 / 255),  # randn on BGR-255 less the mean: the authors' code
    "neural_style": Noise(
        "normal", _MEAN, 0.001 / 255
    ),  # σ = 0.001 of 255, all but flat: neural-style, CNNMRF
    "gordicaleksa": Noise("normal", _MEAN, 90 / 255),  # σ = 90 of 255: pytorch-neural-style-transfer
    "grey": Noise("normal", (0.5, 0.5, 0.5), 0.1),
}


def draw(noise: Noise, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return a picture of noise ``(1, 3, H, W)``; on the CPU, so that a seed means one picture."""
    mean = torch.tensor(noise.mean).view(1, 3, 1, 1)
    if noise.distribution == "normal":
        return mean + noise.std * torch.randn(1, 3, *shape, generator=generator)
    half_width = noise.std * 3**0.5
    return mean + half_width * (2 * torch.rand(1, 3, *shape, generator=generator) - 1)


class Canvas(nn.Module):
    """A parametrisation of pictures: its parameters are all that a run optimises.

    A subclass says how parameters become a picture (`forward`) and how a picture becomes
    parameters (`paint`). Canvases hold a batch; each picture of it is a run of its own.
    """

    def forward(self) -> Tensor:
        """Return the pictures ``(B, 3, H, W)``, sRGB; values may leave [0, 1] while optimising."""
        raise NotImplementedError

    def paint(self, pictures: Tensor) -> None:
        """Replace the parameters by those of ``pictures`` ``(B, 3, H, W)``."""
        raise NotImplementedError

    @torch.no_grad()
    def finished(self) -> Tensor:
        """Return the pictures clamped to [0, 1].

        A copy is clamped, never the parameters: changing them between steps would spoil the
        curvature that L-BFGS has gathered.
        """
        pictures: Tensor = self()
        return pictures.clamp(0, 1)

    @torch.no_grad()
    def carried_up(self, shape: tuple[int, int]) -> Tensor:
        """Return the finished pictures at another size, to start the next stage with."""
        return resize(self.finished(), shape)


class Pixels(Canvas):
    """The canvas whose parameters are the pixels, as in Gatys et al. (2016).

    Args:
        range: of the parameters that stand for black to white. Published code optimises values up to
            255, in which a step of one length is a 255th of what it is here, and a gradient likewise:
            learning rates, and the first steps of L-BFGS, are in these units.

    Raises:
        ValueError: if ``range`` is not positive.
    """

    def __init__(self, range: float = 1.0) -> None:
        super().__init__()
        if range <= 0:
            raise ValueError(f"from black to white is a positive distance, not {range}")
        self.range = range
        self.pixels = nn.Parameter(torch.empty(0))

    def forward(self) -> Tensor:
        """Return the pixels."""
        return self.pixels if self.range == 1 else self.pixels / self.range

    def paint(self, pictures: Tensor) -> None:
        """Make a copy of ``pictures`` the parameters, in contiguous float32 (or float64)."""
        copy = pictures.detach().clone(memory_format=torch.contiguous_format)
        self.pixels = nn.Parameter(copy if self.range == 1 else copy * self.range)


class LuminanceOf(Canvas):
    """Another canvas's luminance, in grey: for runs that leave the colours alone."""

    def __init__(self, canvas: Canvas) -> None:
        super().__init__()
        self.inner = canvas

    def forward(self) -> Tensor:
        """Return the luminance of the canvas inside."""
        return luminance(self.inner())

    def paint(self, pictures: Tensor) -> None:
        """Make the luminance of ``pictures`` the parameters."""
        self.inner.paint(luminance(pictures))
