"""Masks of the regions of content and style pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from nstbench.config.schema import Config
from nstbench.errors import UserError
from nstbench.pictures.shape import Shape
from nstbench.pictures.source import Picture


@dataclass(frozen=True)
class Masks:
    """The masks of a region; None: the whole picture.

    Attributes:
        content: Mask of the canvas.
        style: Mask of the style picture.
    """

    content: Picture | None
    style: Picture | None

    def hashes(self) -> dict[str, str | None]:
        """Return the sha256 of both."""
        return {
            "content": self.content.sha256 if self.content else None,
            "style": self.style.sha256 if self.style else None,
        }


def check_masks(
    config: Config, masks: Mapping[str, Masks], canvas: Picture, styles: Sequence[Picture]
) -> None:
    """Check that no mask is empty, and that all have the shapes of their pictures.

    Args:
        config: Checked configuration.
        masks: Masks of every region, by its name.
        canvas: Picture whose shape the canvas has.
        styles: Style pictures.

    Raises:
        UserError: A mask is empty or has another shape; the message names the first.
    """
    for name, of_region in masks.items():
        style = styles[config.pictures.guides[name].picture]
        for whose, mask, picture in (
            ("content", of_region.content, canvas),
            ("style", of_region.style, style),
        ):
            if mask is None:
                continue
            setting = f"pictures.guides.{name}.{whose}"
            (height, width), (tall, wide) = mask.shape, picture.shape
            if abs(width * tall - wide * height) > 0.01 * wide * height + max(wide, tall):
                reason = f"it has {width}×{height} pixels, another shape than its picture's {wide}×{tall}"
                hint = f"Draw it on top of {picture.source}: white is the region, black is not."
                raise UserError(setting, mask.source, reason, hint)
            if not _grey(mask).max() > 0:
                reason = "it is black everywhere: the region is empty"
                hint = "Draw the region in white."
                raise UserError(setting, mask.source, reason, hint)


def mask_at(mask: Picture | None, shape: Shape) -> Tensor | None:
    """Return a mask at the size of its picture, ``(1, 1, H, W)`` in [0, 1]; None: no mask.

    The mask is interpolated linearly: bicubic interpolation would leave ripples beyond the region's edge.
    """
    if mask is None:
        return None
    grey = _grey(mask)
    if tuple(grey.shape[-2:]) == tuple(shape):
        return grey
    return functional.interpolate(grey, shape, mode="bilinear", antialias=True).clamp(0, 1)


def _grey(mask: Picture) -> Tensor:
    return mask.pixels.double().mean(dim=1, keepdim=True).float()
