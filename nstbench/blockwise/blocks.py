"""A picture in blocks whose feature maps, put together, are those of the whole picture.

A block is cut with a halo: the pixels around it on which its positions depend. Two rules make its
feature maps equal to those of the whole, up to rounding:

- it begins at a multiple of the deepest stride, so that its positions lie on the grid of the whole;
- a border of the picture is a border of the block, where the encoder pads as it does in the whole;
  padding at the block's other borders affects only the halo's positions, which are dropped.

Along one side, blocks begin at pixels t_0 = 0, t_1, …, and a position i of a layer of stride s belongs to the
block that contains pixel i·s; so each belongs to one block. It depends on the pixels
``first + i·s ± (field - 1)/2`` (`nstbench.encoders.base.LayerInfo`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nstbench.encoders.base import Encoder, LayerInfo
from nstbench.encoders.geometry import map_shapes, wraps_around
from nstbench.errors import UserError
from nstbench.pictures.shape import Shape

Window = tuple[slice, slice]
"""Rows and columns."""


@dataclass(frozen=True)
class Block:
    """A part of a picture.

    Attributes:
        crop: Rows and columns of the picture that the block covers, with its halo.
        inside: Positions of the crop's map that belong to the block, by layer; a layer at which the block has
            no positions is missing.
        whole: The same positions in the map of the whole picture, by layer.
    """

    crop: Window
    inside: Mapping[str, Window]
    whole: Mapping[str, Window]

    @property
    def layers(self) -> list[str]:
        """Layers at which the block has positions."""
        return list(self.inside)


def cut(encoder: Encoder, layers: Sequence[str], shape: Shape, tile: int) -> list[Block]:
    """Return a picture's blocks, left to right and top to bottom.

    Args:
        encoder: Encoder, checked by `check_blocks`.
        layers: Layers whose feature maps are to be computed.
        shape: Height and width of the picture.
        tile: Approximate number of pixels on a side of a block, without its halo.
    """
    infos = {layer: encoder.layers[layer] for layer in layers}
    maps = map_shapes(encoder, layers, shape)
    rows, columns = (
        list(_stretches(infos, {layer: m[axis] for layer, m in maps.items()}, length, tile))
        for axis, length in enumerate(shape)
    )
    blocks = []
    for row in rows:
        for column in columns:
            present = [layer for layer in layers if layer in row.inside and layer in column.inside]
            inside = {layer: (row.inside[layer], column.inside[layer]) for layer in present}
            whole = {layer: (row.whole[layer], column.whole[layer]) for layer in present}
            blocks.append(Block((row.crop, column.crop), inside, whole))
    return [block for block in blocks if block.layers]


@dataclass(frozen=True)
class _Stretch:
    """A block along one side; see `Block`."""

    crop: slice
    inside: Mapping[str, slice]
    whole: Mapping[str, slice]


def _stretches(
    infos: Mapping[str, LayerInfo], positions: Mapping[str, int], length: int, tile: int
) -> Iterator[_Stretch]:
    """Cut one side of ``length`` pixels, with ``positions`` at each layer, into parts of about equal size."""
    grid = math.lcm(*(info.stride for info in infos.values()))
    parts = max(1, math.ceil(length / tile))
    begins = sorted({round(k * length / parts / grid) * grid for k in range(parts)})
    for begin, end in zip(begins, [*begins[1:], None], strict=True):
        whole, lowest, highest = {}, length, 0
        for layer, info in infos.items():
            last = positions[layer]
            a = min(begin // info.stride, last)
            b = last if end is None else min(end // info.stride, last)
            if a == b:
                continue
            whole[layer] = slice(a, b)
            low, high = _field_of(info, a, b)
            lowest, highest = min(lowest, low), max(highest, high)
        start = max(0, lowest // grid * grid)
        inside = {
            layer: slice(s.start - start // infos[layer].stride, s.stop - start // infos[layer].stride)
            for layer, s in whole.items()
        }
        yield _Stretch(slice(start, min(length, highest)), inside, whole)


def _field_of(info: LayerInfo, a: int, b: int) -> tuple[int, int]:
    """Return the first pixel on which positions a to b - 1 depend, and the one after the last."""
    assert info.receptive_field is not None
    reach = info.receptive_field - 1
    if info.first is None:  # the offset is unknown: padding may be on either side, or on none
        return a * info.stride - reach, (b - 1) * info.stride + reach + 1
    low, high = info.first - reach / 2, info.first + reach / 2
    return math.floor(low + a * info.stride), math.ceil(high + (b - 1) * info.stride) + 1


def check_blocks(encoder: Encoder, layers: Sequence[str], setting: str, tile: int) -> None:
    """Check that feature maps of blocks, put together, are those of the whole picture.

    Raises:
        UserError: They are not, for this encoder or a layer; the error names ``setting``.
    """
    if wraps_around(encoder):
        reason = "with circular padding, positions at a border depend on the opposite border"
        raise UserError(setting, tile, reason, "Add encoder.padding=zeros.")
    for layer in layers:
        info = encoder.layers[layer]
        if info.receptive_field is None or (info.first is None and not _is_local(encoder, layer)):
            reason = (
                f"a position of {layer} depends on the whole picture, or its receptive field is not known"
            )
            raise UserError(setting, tile, reason, f"Remove it, or choose other layers than {layer}.")


@torch.no_grad()
def _is_local(encoder: Encoder, layer: str) -> bool:
    """Return whether blocks of a long and narrow picture of noise have its feature maps at a layer."""
    field, stride = encoder.layers[layer].receptive_field or 1, encoder.layers[layer].stride
    narrow = encoder.smallest_picture([layer])
    parameter = next(encoder.parameters())
    generator = torch.Generator().manual_seed(0)
    strip = torch.rand(1, 3, 3 * field + 4 * stride + 1, narrow, generator=generator).to(parameter)
    for picture in (strip, strip.transpose(2, 3)):
        whole = encoder(picture, [layer])[layer]
        for block in cut(encoder, [layer], (picture.shape[2], picture.shape[3]), max(stride, field // 2)):
            of_block = at(encoder(at(picture, block.crop), [layer])[layer], block.inside[layer])
            expected = at(whole, block.whole[layer])
            if of_block.shape != expected.shape or (of_block - expected).norm() > 1e-4 * expected.norm():
                return False
    return True


def at(maps: Tensor, window: Window) -> Tensor:
    """Return the rows and columns of maps ``(…, h, w)`` in a window."""
    return maps[..., window[0], window[1]]
