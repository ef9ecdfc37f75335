"""The objective: the weighted sum of terms that a canvas minimises."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nstbench.losses.base import Formulation, JointLoss, Target

CANVAS = "canvas"
"""The name of the pixels themselves, where a term asks for a layer."""


@dataclass
class Term:
    """One loss formulation with what it looks at and its weight.

    Attributes:
        name: role and formulation, such as ``style/gram``.
        loss: the formulation.
        layers: the weight w_l of every view (`Formulation.views`): of each layer, such as ``relu1_1``,
            or of layers that are seen together, such as ``relu1_1+relu2_1``.
        weight: of the term in the objective.
        seed: of the run, for what the loss samples.
        targets: what it remembers for each view; filled by `remember`.
        scales: what each view's value is multiplied by to be in the chosen unit, ``(1 or B,)``.
        draw: number of the present draw of what the loss samples.
    """

    name: str
    loss: Formulation[Any]
    layers: Mapping[str, float]
    weight: float
    seed: int = 0
    targets: dict[str, Target] = field(default_factory=dict)
    scales: dict[str, Tensor] = field(default_factory=dict)
    draw: int = 0

    @property
    def role(self) -> str:
        """The part of the name before the slash."""
        return self.name.split("/")[0]

    @property
    def asks_for(self) -> list[str]:
        """The layers of all views, each once."""
        return list(dict.fromkeys(layer for view in self.layers for layer in view.split("+")))

    def remember(
        self, pictures: Sequence[Sequence[Mapping[str, Tensor]]], blend: Sequence[float] = (1.0,)
    ) -> None:
        """Compute the targets from the feature maps of pictures, blended; of each, those of its copies."""
        with torch.no_grad():
            for view in self.layers:
                self.loss.seed = self._seed(view, draw=0)
                targets = [
                    self.loss.join([self.loss.target(self._seen(copy, view)) for copy in copies])
                    for copies in pictures
                ]
                self.targets[view] = targets[0] if len(targets) == 1 else self.loss.blend(targets, blend)

    def per_layer(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``w_l · scale_l · loss_l`` of each view, each ``(B,)``."""
        values = {}
        for view, w in self.layers.items():
            self.loss.seed = self._seed(view, self.draw)
            value = w * self.loss(self._seen(features, view), self.targets.get(view))
            scale = self.scales.get(view)
            values[view] = value if scale is None else value * scale.to(value)
        return values

    def __call__(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return the term's value in its unit, before its weight, ``(B,)``."""
        return torch.stack(list(self.per_layer(features).values())).sum(0)

    def draw_for(self, step: int) -> None:
        """Set the draw that belongs to a step of the run."""
        self.draw = step // self.loss.redraw_every if self.loss.redraw_every else 0

    def _seen(self, features: Mapping[str, Tensor], view: str) -> Tensor | list[Tensor]:
        if isinstance(self.loss, JointLoss):
            return [features[layer] for layer in view.split("+")]
        return features[view]

    def _seed(self, view: str, draw: int) -> int:
        """Return a seed that belongs to the run, the term, the view and the draw alone."""
        text = f"{self.seed} {self.name} {view} {draw}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6])


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
        return list(dict.fromkeys(layer for t in self.terms for layer in t.asks_for if layer != CANVAS))

    def draw_for(self, step: int) -> None:
        """Set what every term samples to the draw that belongs to a step of the run."""
        for term in self.terms:
            term.draw_for(step)

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
