"""Noise that a canvas can start from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """A distribution of independent pixel values, in units of sRGB [0, 1].

    Attributes:
        distribution: Distribution, ``normal`` with mean and std, or ``uniform`` on mean ± std·√3.
        mean: Means of red, green and blue.
        std: Standard deviation of all channels.
    """

    distribution: Literal["normal", "uniform"] = "normal"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: float = 0.1


# VGG's mean colour: zero in the input range of the Caffe networks.
_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)


# "White noise" differs between implementations by a factor of 90,000 in σ.
NOISES: dict[str, Noise] = {
    "uniform": Noise("uniform", (0.5, 0.5, 0.5), 1 / 12**0.5),  # U[0, 1]: pystiche
    "gatys": Noise("normal", _MEAN, 1 / 255),  # randn on BGR-255 less the mean: the authors' code
    "neural_style": Noise(
        "normal", _MEAN, 0.001 / 255
    ),  # σ = 0.001 of 255, nearly constant: neural-style, CNNMRF
    "gordicaleksa": Noise("normal", _MEAN, 90 / 255),  # σ = 90 of 255: pytorch-neural-style-transfer
    "grey": Noise("normal", (0.5, 0.5, 0.5), 0.1),
}


def draw(noise: Noise, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return a picture of noise ``(1, 3, H, W)``, on the CPU, so that it depends on the seed alone."""
    mean = torch.tensor(noise.mean).view(1, 3, 1, 1)
    if noise.distribution == "normal":
        return mean + noise.std * torch.randn(1, 3, *shape, generator=generator)
    half_width = noise.std * 3**0.5
    return mean + half_width * (2 * torch.rand(1, 3, *shape, generator=generator) - 1)
