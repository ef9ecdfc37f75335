"""Contributions of the blocks of a picture to the value of a part of a term."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from nstbench.blockwise.blocks import Block, Window, at
from nstbench.encoders.base import Encoder, Features
from nstbench.losses.base import CANVAS, AdditiveLoss, JointLoss, PositionwiseLoss
from nstbench.objective.term import Part, Term

BlockMode = Literal["pixels", "additive", "positionwise", "impossible"]
"""How a term's value of a view is computed for pictures in blocks: on the pixels of the whole picture,
from sums over positions, from the error of each position, or not at all."""


def block_mode(term: Term, view: str) -> BlockMode:
    """Return how a term's value of a view is computed for pictures in blocks."""
    layers = view.split("+")
    if set(layers) == {CANVAS}:
        return "pixels"
    if CANVAS in layers:
        return "impossible"
    if isinstance(term.loss, AdditiveLoss):
        return "additive"
    return "positionwise" if isinstance(term.loss, PositionwiseLoss) else "impossible"


@dataclass(frozen=True)
class Contribution:
    """A part of a term that is computed in blocks.

    Attributes:
        term: Term.
        part: Part of the term.
        guide: Weight of each position, ``(1, 1, h, w)`` for the finest map; None: all weigh the same.
        strides: Stride of each layer of the part's view.
    """

    term: Term
    part: Part
    guide: Tensor | None
    strides: Sequence[int]

    @property
    def loss(self) -> Any:
        """Loss of the term: an `AdditiveLoss` or a `PositionwiseLoss`."""
        return self.term.loss

    @property
    def unguided(self) -> Contribution:
        """The same contribution without a guide."""
        return replace(self, guide=None)

    @property
    def layers(self) -> list[str]:
        """Layers whose maps are compared together."""
        return self.part.view.split("+")

    def maps(self, features: Features, block: Block) -> tuple[Any, Tensor | None] | None:
        """Return the maps and the guide at the block's positions; None if all of them have weight 0."""
        if any(layer not in block.inside for layer in self.layers):
            return None
        windows = [self._windows(block, i) for i in range(len(self.layers))]
        maps = [at(features[layer], own) for layer, (own, _) in zip(self.layers, windows, strict=True)]
        guide = None
        if self.guide is not None:  # it has the shape of the finest map
            guide = at(self.guide, windows[self.strides.index(min(self.strides))][1])
            if not guide.max() > 0:
                return None
        return maps if isinstance(self.loss, JointLoss) else maps[0], guide

    def _windows(self, block: Block, i: int) -> tuple[Window, Window]:
        """Return a layer's windows in the crop's and the whole map; all layers cover the same pixels."""
        coarsest = self.strides.index(max(self.strides))
        factor = self.strides[coarsest] // self.strides[i]
        pairs = []
        for axis in range(2):
            own, whole = block.inside[self.layers[i]][axis], block.whole[self.layers[i]][axis]
            coarse = block.whole[self.layers[coarsest]][axis]
            there = slice(coarse.start * factor, coarse.stop * factor)
            offset = own.start - whole.start
            pairs.append((slice(there.start + offset, there.stop + offset), there))
        (rows, all_rows), (columns, all_columns) = pairs
        return (rows, columns), (all_rows, all_columns)


def contributions_of(terms: Sequence[Term], wanted: BlockMode, encoder: Encoder) -> list[Contribution]:
    """Return the parts of terms that are computed in one way, with the guides of the canvas."""
    return [
        contribution_of(term, part, term.guides.get(part.key), encoder)
        for term in terms
        for part in term.parts
        if block_mode(term, part.view) == wanted
    ]


def contribution_of(term: Term, part: Part, guide: Tensor | None, encoder: Encoder) -> Contribution:
    """Return the contribution of one part of a term, with a guide of the picture."""
    return Contribution(term, part, guide, [encoder.layers[layer].stride for layer in part.view.split("+")])
