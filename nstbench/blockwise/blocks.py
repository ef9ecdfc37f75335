"""A picture in blocks whose feature maps, put together, are those of the whole picture.

A block is cut with a halo: as much of the picture around it as its positions see. Two things make its
features those of the whole, to the last rounding:

- it begins at a multiple of the deepest stride, so that its positions lie on the grid of the whole;
- a border of the picture is a border of the block, where the encoder pads as it does in the whole;
  what it pads at the block's other borders is seen by the halo's positions only, which are dropped.

Along one side, blocks begin at pixels t_0 = 0, t_1, …, and a position i of a layer of stride s belongs to the
block in which pixel i·s lies; so each belongs to one. It sees the pixels ``first + i·s ± (field - 1)/2``
(`nstbench.encoders.base.LayerInfo`).
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
        crop: of the picture: the part with its halo.
        inside: of each layer, the positions of the crop's map that are the block's; a layer is missing where
            the block has none.
        whole: the same positions in the map of the whole picture.
    """

    crop: Window
    inside: Mapping[str, Window]
    whole: Mapping[str, Window]

    @property
    def layers(self) -> list[str]:
        """The layers at which it has positions."""
        return list(self.inside)


def cut(encoder: Encoder, layers: Sequence[str], shape: Shape, tile: int) -> list[Block]:
    """Return a picture's blocks, left to right and top to bottom.

    Args:
        encoder: checked by `check_blocks`.
        layers: whose positions are to be computed.
        shape: height and width of the picture.
        tile: about how many pixels a block has on a side, without its halo.
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
            seen = [layer for layer in layers if layer in row.inside and layer in column.inside]
            inside = {layer: (row.inside[layer], column.inside[layer]) for layer in seen}
            whole = {layer: (row.whole[layer], column.whole[layer]) for layer in seen}
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
    """Cut one side of ``length`` pixels, with so many positions at each layer, into parts of equal size."""
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
            low, high = _sees(info, a, b)
            lowest, highest = min(lowest, low), max(highest, high)
        start = max(0, lowest // grid * grid)
        inside = {
            layer: slice(s.start - start // infos[layer].stride, s.stop - start // infos[layer].stride)
            for layer, s in whole.items()
        }
        yield _Stretch(slice(start, min(length, highest)), inside, whole)


def _sees(info: LayerInfo, a: int, b: int) -> tuple[int, int]:
    """Return the first pixel that positions a to b - 1 see, and the one after the last."""
    assert info.receptive_field is not None
    reach = info.receptive_field - 1
    if info.first is None:  # somewhere around: padded at one side or the other, or not at all
        return a * info.stride - reach, (b - 1) * info.stride + reach + 1
    low, high = info.first - reach / 2, info.first + reach / 2
    return math.floor(low + a * info.stride), math.ceil(high + (b - 1) * info.stride) + 1


def check_blocks(encoder: Encoder, layers: Sequence[str], setting: str, tile: int) -> None:
    """Refuse an encoder, or layers of it, whose features are not those of blocks.

    Raises:
        UserError: naming ``setting``.
    """
    if wraps_around(encoder):
        reason = "with circular padding, positions at a border see the opposite one"
        raise UserError(setting, tile, reason, "Add encoder.padding=zeros.")
    for layer in layers:
        info = encoder.layers[layer]
        if info.receptive_field is None or (info.first is None and not _is_local(encoder, layer)):
            reason = f"a position of {layer} sees all of the picture, or nobody knows how much of it"
            raise UserError(setting, tile, reason, f"Remove it, or choose other layers than {layer}.")


@torch.no_grad()
def _is_local(encoder: Encoder, layer: str) -> bool:
    """Tell, by trying, whether blocks of a long and narrow picture have its features at a layer."""
    field, stride = encoder.layers[layer].receptive_field or 1, encoder.layers[layer].stride
    narrow = encoder.smallest_picture([layer])
    parameter = next(encoder.parameters())
    generator = torch.Generator().manual_seed(0)
    strip = torch.rand(1, 3, 3 * field + 4 * stride + 1, narrow, generator=generator).to(parameter)
    for picture in (strip, strip.transpose(2, 3)):
        whole = encoder(picture, [layer])[layer]
        for block in cut(encoder, [layer], (picture.shape[2], picture.shape[3]), max(stride, field // 2)):
            mine = at(encoder(at(picture, block.crop), [layer])[layer], block.inside[layer])
            theirs = at(whole, block.whole[layer])
            if mine.shape != theirs.shape or (mine - theirs).norm() > 1e-4 * theirs.norm():
                return False
    return True


def at(maps: Tensor, window: Window) -> Tensor:
    """Return the rows and columns of maps ``(…, h, w)`` in a window."""
    return maps[..., window[0], window[1]]
