"""What a block of a picture contributes to a term's value of a view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from nstbench.blockwise.blocks import Block, Window, at
from nstbench.encoders.base import Encoder, Features
from nstbench.losses.base import CANVAS, AdditiveLoss, JointLoss, PositionwiseLoss
from nstbench.objective.term import Part, Term

Kind = Literal["pixels", "additive", "positionwise", "neither"]


def kind(term: Term, view: str) -> Kind:
    """Tell how a term's value of a view is computed for pictures in blocks; ``neither``: it cannot be."""
    layers = view.split("+")
    if set(layers) == {CANVAS}:
        return "pixels"
    if CANVAS in layers:
        return "neither"
    if isinstance(term.loss, AdditiveLoss):
        return "additive"
    return "positionwise" if isinstance(term.loss, PositionwiseLoss) else "neither"


@dataclass(frozen=True)
class Share:
    """A part of a term that is computed in blocks."""

    term: Term
    part: Part
    guide: Tensor | None
    strides: Sequence[int]

    @property
    def loss(self) -> Any:
        """An `AdditiveLoss` or a `PositionwiseLoss`, as its kind says."""
        return self.term.loss

    @property
    def unguided(self) -> Share:
        """The same without a guide."""
        return replace(self, guide=None)

    @property
    def layers(self) -> list[str]:
        """The layers that it sees together."""
        return self.part.view.split("+")

    def seen(self, features: Features, block: Block) -> tuple[Any, Tensor | None] | None:
        """Return its maps and guide at the block's positions; None where it has none that count."""
        if any(layer not in block.inside for layer in self.layers):
            return None
        windows = [self._windows(block, i) for i in range(len(self.layers))]
        maps = [at(features[layer], own) for layer, (own, _) in zip(self.layers, windows, strict=True)]
        guide = None
        if self.guide is not None:  # it is of the finest map
            guide = at(self.guide, windows[self.strides.index(min(self.strides))][1])
            if not guide.max() > 0:
                return None
        return maps if isinstance(self.loss, JointLoss) else maps[0], guide

    def _windows(self, block: Block, i: int) -> tuple[Window, Window]:
        """Return a layer's windows of the crop's map and of the whole: of layers together, of one place."""
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


def contributions_of(terms: Sequence[Term], wanted: Kind, encoder: Encoder) -> list[Share]:
    """Return the parts of terms that are of a kind, with the guides of the canvas."""
    return [
        contribution_of(term, part, term.guides.get(part.key), encoder)
        for term in terms
        for part in term.parts
        if kind(term, part.view) == wanted
    ]


def contribution_of(term: Term, part: Part, guide: Tensor | None, encoder: Encoder) -> Share:
    """Return a part as a share, with a guide of the picture that is looked at."""
    return Share(term, part, guide, [encoder.layers[layer].stride for layer in part.view.split("+")])
