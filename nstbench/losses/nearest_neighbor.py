"""Nearest-neighbour hypercolumns, after Kolkin et al.'s Neural Neighbor Style Transfer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nstbench.losses.base import CANVAS, JointLoss
from nstbench.losses.functional.maps import at_least_float32, inside
from nstbench.losses.functional.patches import Patches, nearest, patches_of


@dataclass(frozen=True)
class Hypercolumns:
    """The style's hypercolumns.

    Attributes:
        columns: Hypercolumns of all style pictures and their copies, ``(1 or B, C, n)``.
    """

    columns: Tensor


class NearestNeighbor(JointLoss):
    """Cosine distance of hypercolumns from the nearest of the style: ``mean_i (1 - cos(f_i, s_NN(i)))``.

    A hypercolumn is the concatenation of all layers' features at one place: each map is divided by its
    number of channels and resized linearly to one position for every ``stride``×``stride`` pixels.
    ``NN(i) = argmax_j cos(f_i - mean f, s_j - mean s)``: hypercolumns are centred by the mean of their
    picture for the search, not for the distance. NN counts as constant in the gradient.

    From Kolkin, Kucera, Paris, Sykora, Shechtman & Shakhnarovich, *Neural Neighbor Style Transfer*
    (arXiv 2203.13215, 2022). Their method is a pipeline, of which this is the loss. They find NN once
    per scale, from the content picture mixed with the result of the scale before; here it is found at
    every evaluation, from the canvas, as in their last pass. That pass compares each layer alone, at its
    own resolution, at up to 64² positions drawn at every step, and compares centred columns;
    ``split=true`` compares each layer alone, but on the common grid and uncentred. They take the first
    ten ReLU layers of a VGG-16; here the setting `layers` chooses them.

    Args:
        stride: Pixels between hypercolumns, along each side. The paper's is 4.
        center: Whether to centre hypercolumns by the mean of their picture for the search.
        rotations: Whether the style turned by 90, 180 and 270 degrees is searched too.
        split: Whether to compare each layer alone.
    """

    def __init__(
        self, stride: int = 4, center: bool = True, rotations: bool = False, split: bool = False
    ) -> None:
        super().__init__()
        if stride < 1:
            raise ValueError(f"stride must be at least 1, not {stride}")
        self.stride = stride
        self.center = center
        self.rotations = rotations
        self.split = split

    def views(self, layers: Sequence[str]) -> list[str]:
        """Return all layers together, or each alone, with the canvas, whose size sets the grid."""
        layers = [layer for layer in layers if layer != CANVAS]
        if not layers:
            raise ValueError("hypercolumns need at least one layer of the encoder")
        return [f"{CANVAS}+{view}" for view in (layers if self.split else ["+".join(layers)])]

    def copies(self, picture: Tensor) -> list[Tensor]:
        """Return the picture, and with ``rotations`` its three turns by right angles."""
        return [picture.rot90(i, (2, 3)) for i in range(4 if self.rotations else 1)]

    def target(self, features: Sequence[Tensor], guide: Tensor | None = None) -> Hypercolumns:
        """Return the hypercolumns of a picture, or of its region."""
        return Hypercolumns(self._columns(features, guide))

    def join(self, targets: Sequence[Hypercolumns]) -> Hypercolumns:
        """Return the union of the copies' hypercolumns; one mean centres all, as in the authors' code."""
        return Hypercolumns(torch.cat([t.columns for t in targets], dim=2))

    def blend(self, targets: Sequence[Hypercolumns], weights: Sequence[float]) -> Hypercolumns:
        """Return the union of the pictures' hypercolumns: a place of the canvas may match any picture.

        Raises:
            ValueError: If the weights differ: the search for the nearest hypercolumn has no weights.
        """
        self.check_blend(weights)
        return self.join(targets)

    def check_blend(self, weights: Sequence[float]) -> None:
        """Raise ValueError if the weights differ."""
        if max(weights) - min(weights) > 1e-6:
            raise ValueError("hypercolumns of several style pictures are united: their weights must be equal")

    def forward(
        self, features: Sequence[Tensor], target: Hypercolumns, guide: Tensor | None = None
    ) -> Tensor:
        """Return the mean distance per canvas, ``(B,)``."""
        columns = self._columns(features, guide)
        with torch.no_grad():
            found = nearest(self._patches(columns), self._patches(target.columns))
            style = target.columns.expand(len(columns), -1, -1)
            matched = style.gather(2, found[:, None].expand(-1, style.shape[1], -1))
            directions = _directions(matched)
        # Rounding can put the cosine of equal directions above 1.
        return (1 - (_directions(columns) * directions).sum(1).mean(1)).clamp_min(0)

    def _patches(self, columns: Tensor) -> Patches:
        """Return (centred) hypercolumns as patches of 1×1, for the search."""
        centred = columns - columns.mean(2, keepdim=True) if self.center else columns
        return patches_of(centred[..., None], size=1)

    def _columns(self, features: Sequence[Tensor], guide: Tensor | None) -> Tensor:
        """Return hypercolumns ``(B, C, n)`` of the places of a grid, or of those in a region."""
        picture, *maps = features
        size = [max(1, side // self.stride) for side in picture.shape[2:]]
        columns = torch.cat([_resized(at_least_float32(m), size) / m.shape[1] for m in maps], dim=1)
        return inside(columns, None if guide is None else _resized(guide, size))


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Return maps at another size, linearly interpolated; antialiased where that is smaller.

    As products with matrices: PyTorch's `interpolate` has no deterministic gradient on a GPU.
    """
    down, across = (_resizing(maps, old, new) for old, new in zip(maps.shape[2:], size, strict=True))
    return down @ maps @ across.T


def _resizing(like: Tensor, old: int, new: int) -> Tensor:
    """Return the matrix that resizes a column of a map."""
    if old == new:
        return torch.eye(old).to(like)
    columns = torch.eye(old, dtype=like.dtype)[None, None]
    return torch.nn.functional.interpolate(columns, (new, old), mode="bilinear", antialias=True)[0, 0].to(
        like
    )


def _directions(columns: Tensor) -> Tensor:
    """Return columns of length 1; those near 0 stay near 0, and have a finite gradient."""
    squares = (columns**2).sum(1, keepdim=True)
    return columns * squares.clamp_min(torch.finfo(squares.dtype).eps ** 2).rsqrt()
