"""The objective: the weighted sum of terms that a canvas minimises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from nstbench.losses.base import Loss, Target

Role = Literal["content", "style", "regularizer"]

CANVAS = "canvas"
"""The name of the pixels themselves, where a term asks for a layer."""


@dataclass
class Term:
    """One loss formulation with its layers and its weight.

    Attributes:
        name: role and formulation, such as ``style/gram``.
        loss: the formulation.
        layers: where it looks, with the weight w_l of each layer.
        weight: of the term in the objective.
        targets: what it remembers at each layer; filled by `remember`.
        scales: what each layer's value is multiplied by to be in the chosen unit, ``(1 or B,)``.
    """

    name: str
    loss: Loss
    layers: Mapping[str, float]
    weight: float
    targets: dict[str, Target] = field(default_factory=dict)
    scales: dict[str, Tensor] = field(default_factory=dict)

    @property
    def role(self) -> str:
        """The part of the name before the slash."""
        return self.name.split("/")[0]

    def remember(self, features: Sequence[Mapping[str, Tensor]], blend: Sequence[float] = (1.0,)) -> None:
        """Compute the targets of all layers from one picture's feature maps, or from several blended."""
        with torch.no_grad():
            for layer in self.layers:
                targets = [self.loss.target(f[layer]) for f in features]
                self.targets[layer] = targets[0] if len(targets) == 1 else self.loss.blend(targets, blend)

    def per_layer(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``w_l · scale_l · loss_l`` of each layer, each ``(B,)``."""
        values = {}
        for layer, w in self.layers.items():
            value = w * self.loss(features[layer], self.targets.get(layer))
            scale = self.scales.get(layer)
            values[layer] = value if scale is None else value * scale.to(value)
        return values

    def __call__(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return the term's value in its unit, before its weight, ``(B,)``."""
        return torch.stack(list(self.per_layer(features).values())).sum(0)


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
        return list(dict.fromkeys(layer for t in self.terms for layer in t.layers if layer != CANVAS))

    def __call__(self, features: Mapping[str, Tensor], canvas: Tensor) -> Values:
        """Evaluate every term on the canvas ``(B, 3, H, W)`` and its feature maps."""
        seen = {**features, CANVAS: canvas}
        unweighted = {t.name: t(seen) for t in self.terms}
        weighted = {t.name: t.weight * unweighted[t.name] for t in self.terms}
        total = torch.stack(list(weighted.values())).sum(0)
        return Values(total, unweighted, weighted)
