"""The objective: the weighted sum of terms that a canvas minimises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nstbench.losses.base import CANVAS, Target
from nstbench.objective.term import Term


@dataclass(frozen=True)
class Values:
    """One evaluation of the objective; every tensor is ``(B,)``, one value per canvas.

    Attributes:
        total: the objective.
        unweighted: each term's value.
        weighted: each term's share; they sum to ``total``.
    """

    total: Tensor
    unweighted: dict[str, Tensor]
    weighted: dict[str, Tensor]


class Objective:
    """The weighted sum of terms: L = Σ weight_t · term_t.

    Args:
        terms: with their targets remembered.

    Raises:
        ValueError: if there is no term, or two have one name.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        if not terms or len({t.name for t in terms}) != len(terms):
            raise ValueError("an objective needs terms, each with a name of its own")
        self.terms = list(terms)

    @property
    def layers(self) -> list[str]:
        """The encoder's layers that the terms ask for, each once."""
        return list(dict.fromkeys(layer for t in self.terms for layer in t.layers_needed if layer != CANVAS))

    @property
    def targets(self) -> dict[str, dict[str, Target]]:
        """What every term remembers, to be set again."""
        return {term.name: dict(term.targets) for term in self.terms}

    @targets.setter
    def targets(self, targets: Mapping[str, Mapping[str, Target]]) -> None:
        for term in self.terms:
            term.targets = dict(targets[term.name])

    def set_draw(self, step: int) -> None:
        """Set what every term samples to the draw that belongs to a step of the run."""
        for term in self.terms:
            term.set_draw(step)

    @property
    def draws(self) -> dict[str, int]:
        """The number of the present draw of every term that samples."""
        return {t.name: t.draw for t in self.terms if t.loss.redraw_every}

    def __call__(self, features: Mapping[str, Tensor], canvas: Tensor) -> Values:
        """Evaluate every term on the canvas ``(B, 3, H, W)`` and its feature maps."""
        seen = {**features, CANVAS: canvas}
        unweighted = {t.name: t(seen) for t in self.terms}
        weighted = {t.name: t.weight * unweighted[t.name] for t in self.terms}
        total = torch.stack(list(weighted.values())).sum(0)
        return Values(total, unweighted, weighted)
