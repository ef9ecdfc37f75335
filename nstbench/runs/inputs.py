"""The pictures of a run: read once, resized for every stage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nstbench.canvas.noise import NOISES, Noise, draw
from nstbench.config.schema import CanvasSettings, ColourControl, Config, NoiseSettings, Resample
from nstbench.objective.masks import Masks, check_masks
from nstbench.pictures.colour_control import luminance, match_histogram, match_moments, matched_luminance
from nstbench.pictures.resize import resize, shape_for
from nstbench.pictures.shape import Shape
from nstbench.pictures.source import Picture, load


@dataclass(frozen=True)
class Inputs:
    """The pictures of a run, at their own sizes.

    Attributes:
        content: Content picture; None in texture synthesis.
        styles: Style pictures; empty in content reconstruction.
        blend: Weight of each style picture; they sum to 1.
        start: Picture that the canvas starts from, where it is a file of its own.
        masks: Masks of every region that has a style of its own, by its name.
        resample: Method by which the pictures are resized.
    """

    content: Picture | None
    styles: Sequence[Picture]
    blend: Sequence[float]
    start: Picture | None
    masks: Mapping[str, Masks] = field(default_factory=dict)
    resample: Resample = "bicubic"

    def hashes(self) -> dict[str, Any]:
        """Return the sha256 of every picture, for the record and the fingerprint."""
        hashes: dict[str, Any] = {
            "content": self.content.sha256 if self.content else None,
            "style": [s.sha256 for s in self.styles],
            "start": self.start.sha256 if self.start else None,
        }
        if self.masks:
            hashes["guides"] = {name: masks.hashes() for name, masks in self.masks.items()}
        return hashes

    def names(self) -> list[str]:
        """Return short names of the pictures, for the name of the run."""
        content = [self.content.name] if self.content else []
        return content + ["+".join(s.name for s in self.styles)] * bool(self.styles)


def load_inputs(config: Config) -> Inputs:
    """Read all pictures of a run.

    Raises:
        UserError: A picture cannot be used; the error names the first.
    """
    pictures = config.pictures
    canvas = None

    def read(source: str, setting: str, background: Sequence[float] = pictures.background) -> Picture:
        red, green, blue = background
        return load(
            source,
            setting=setting,
            background=(red, green, blue),
            max_pixels=pictures.max_pixels,
            needed=partial(_needed, config, canvas),
        )

    content = read(pictures.content, "pictures.content") if pictures.content else None
    if content:  # style pictures may be resized to its shape
        canvas = content.shape
    styles = [read(s, "pictures.style") for s in pictures.styles]
    canvas = canvas or styles[0].shape
    weights = pictures.style_weights or [1.0] * len(styles)
    start = config.canvas.start
    masks = {}
    for name, guide in pictures.guides.items():
        # Transparent pixels of a mask are not part of the region.
        of_content, of_style = (
            read(source, f"pictures.guides.{name}.{whose}", (0.0, 0.0, 0.0)) if source else None
            for whose, source in (("content", guide.content), ("style", guide.style))
        )
        masks[name] = Masks(of_content, of_style)
    inputs = Inputs(
        content=content,
        styles=styles,
        blend=[w / sum(weights) for w in weights],
        start=None if start in {"content", "style", "noise"} else read(start, "canvas.start"),
        masks=masks,
        resample=pictures.resample,
    )
    check_masks(config, masks, inputs.content or inputs.styles[0], styles)
    return inputs


def _needed(config: Config, canvas: Shape | None, own: Shape) -> Shape:
    """Return the largest height and width at which any stage uses a picture, on the canvas or as a style.

    Args:
        config: Configuration of the run.
        canvas: Height and width of the picture that gives the canvas its shape; None if that is this one.
        own: Height and width of the picture.
    """
    pictures = config.pictures
    size = max(stage.size for stage in config.schedule.stages)
    largest = math.ceil(size * max(1, pictures.style_scale))
    shapes = [shape_for(*shape, largest, pictures.size_is) for shape in (own, canvas or own)]
    return max(s[0] for s in shapes), max(s[1] for s in shapes)


def content_at(inputs: Inputs, shape: Shape) -> Tensor | None:
    """Return the content picture at the canvas's shape."""
    return resize(inputs.content.pixels, shape, inputs.resample) if inputs.content else None


def styles_at(inputs: Inputs, shapes: Sequence[Shape]) -> list[Tensor]:
    """Return the style pictures at their shapes in a stage."""
    return [resize(s.pixels, own, inputs.resample) for s, own in zip(inputs.styles, shapes, strict=True)]


def content_to_match(inputs: Inputs, shape: Shape, control: ColourControl) -> Tensor | None:
    """Return the picture of which content terms compute targets: the content picture, or its luminance."""
    content = content_at(inputs, shape)
    if content is not None and control == "luminance":
        return luminance(content)
    return content


def styles_to_match(
    inputs: Inputs, shape: Shape, style_shapes: Sequence[Shape], control: ColourControl
) -> list[Tensor]:
    """Return the pictures of which style terms compute targets: the style pictures, in the colours asked for.

    Args:
        inputs: Pictures of the run.
        shape: Height and width of the canvas.
        style_shapes: Height and width of every style picture.
        control: Colour control.
    """
    content = content_at(inputs, shape)
    return [_coloured(control, style, content) for style in styles_at(inputs, style_shapes)]


def _coloured(control: ColourControl, style: Tensor, content: Tensor | None) -> Tensor:
    if control == "none":
        return style
    assert content is not None
    if control == "luminance":
        matched = matched_luminance(style, content)
    elif control == "histogram":
        matched = match_histogram(style, content)
    else:
        matched = match_moments(style, content, control)
    return matched.clamp(0, 1)


def start_at(
    canvas: CanvasSettings, seed: int, inputs: Inputs, shape: Shape, control: ColourControl
) -> Tensor:
    """Return the initial canvas, ``(1, 3, H, W)``; its noise comes from the run's seed.

    Args:
        canvas: Settings of the canvas.
        seed: Seed of the run.
        inputs: Pictures of the run.
        shape: Height and width of the canvas.
        control: Colour control.
    """
    noise = draw(_noise(canvas.noise), shape, torch.Generator().manual_seed(seed))
    if canvas.start == "noise":
        return noise
    chosen = {"content": inputs.content, "style": inputs.styles[0] if inputs.styles else None}
    picture = chosen.get(canvas.start, inputs.start)
    assert picture is not None
    pixels = resize(picture.pixels, shape, inputs.resample)
    if canvas.start == "style":
        pixels = _coloured(control, pixels, content_at(inputs, shape))
    return torch.lerp(pixels, noise, canvas.noise_share)


def _noise(noise: str | NoiseSettings) -> Noise:
    if isinstance(noise, str):
        return NOISES[noise]
    red, green, blue = noise.mean
    return Noise(noise.distribution, (red, green, blue), noise.std)
