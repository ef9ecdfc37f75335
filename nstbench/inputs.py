"""The pictures of a run: read once, resized for every stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nstbench.config import Config
from nstbench.modules.canvas import NOISES, Noise, draw
from nstbench.pictures.resize import resize, shape_for
from nstbench.pictures.source import Picture, load

Shape = tuple[int, int]


@dataclass(frozen=True)
class Inputs:
    """The pictures of a run, at their own sizes.

    Attributes:
        content: None in texture synthesis.
        styles: none in content reconstruction.
        blend: weight of each style picture; they sum to 1.
        start: the picture the canvas starts from, where that is a file of its own.
    """

    content: Picture | None
    styles: Sequence[Picture]
    blend: Sequence[float]
    start: Picture | None

    def hashes(self) -> dict[str, Any]:
        """Return the sha256 of every picture, for the record and the fingerprint."""
        return {
            "content": self.content.sha256 if self.content else None,
            "style": [s.sha256 for s in self.styles],
            "start": self.start.sha256 if self.start else None,
        }

    def names(self) -> list[str]:
        """Return short names of the pictures, for the name of the run."""
        content = [self.content.name] if self.content else []
        return content + ["+".join(s.name for s in self.styles)] * bool(self.styles)


def load_inputs(config: Config) -> Inputs:
    """Read all pictures of a run.

    Raises:
        UserError: naming the first that cannot be used.
    """
    pictures = config.pictures

    def read(source: str, setting: str) -> Picture:
        red, green, blue = pictures.background
        return load(source, setting=setting, background=(red, green, blue), max_pixels=pictures.max_pixels)

    styles = [read(s, "pictures.style") for s in pictures.styles]
    weights = pictures.style_weights or [1.0] * len(styles)
    start = config.canvas.start
    return Inputs(
        content=read(pictures.content, "pictures.content") if pictures.content else None,
        styles=styles,
        blend=[w / sum(weights) for w in weights],
        start=None if start in {"content", "style", "noise"} else read(start, "canvas.start"),
    )


def canvas_shape(config: Config, inputs: Inputs, size: int) -> Shape:
    """Return the canvas's height and width in a stage of ``size``: the content's, or else the style's."""
    model = inputs.content or inputs.styles[0]
    height, width = model.pixels.shape[-2:]
    return shape_for(height, width, size, config.pictures.size_is)


def content_at(inputs: Inputs, shape: Shape) -> Tensor | None:
    """Return the content picture at the canvas's shape."""
    return resize(inputs.content.pixels, shape) if inputs.content else None


def styles_at(config: Config, inputs: Inputs, shape: Shape, size: int) -> list[Tensor]:
    """Return the style pictures for a stage: measured like the content, or stretched to the canvas."""
    shapes = style_shapes(config, inputs, shape, size)
    return [resize(style.pixels, own) for style, own in zip(inputs.styles, shapes, strict=True)]


def style_shapes(config: Config, inputs: Inputs, shape: Shape, size: int) -> list[Shape]:
    """Return the height and width of every style picture in a stage of ``size``."""
    pictures = config.pictures
    if pictures.style_fit == "content":
        height, width = (max(1, round(edge * pictures.style_scale)) for edge in shape)
        return [(height, width)] * len(inputs.styles)
    scaled = max(1, round(size * pictures.style_scale))
    sides = (style.pixels.shape[-2:] for style in inputs.styles)
    return [shape_for(height, width, scaled, pictures.size_is) for height, width in sides]


def start_at(config: Config, inputs: Inputs, shape: Shape) -> Tensor:
    """Return what the canvas starts as, ``(1, 3, H, W)``; noise comes from the run's seed."""
    noise = draw(_noise(config), shape, torch.Generator().manual_seed(config.seed))
    if config.canvas.start == "noise":
        return noise
    chosen = {"content": inputs.content, "style": inputs.styles[0] if inputs.styles else None}
    picture = chosen.get(config.canvas.start, inputs.start)
    assert picture is not None
    return torch.lerp(resize(picture.pixels, shape), noise, config.canvas.noise_share)


def _noise(config: Config) -> Noise:
    noise = config.canvas.noise
    if isinstance(noise, str):
        return NOISES[noise]
    red, green, blue = noise.mean
    return Noise(noise.distribution, (red, green, blue), noise.std)
