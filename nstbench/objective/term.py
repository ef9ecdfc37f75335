"""Terms of an objective: a loss formulation, its layers, its weight and its regions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nstbench.losses.base import Formulation, JointLoss, Target


@dataclass(frozen=True)
class Region:
    """A part of the canvas that takes its style from a part of a style picture (Gatys et al. 2017).

    Attributes:
        name: Name of the region.
        share: Weight λ_r of the region; the weights of all regions sum to 1.
        picture: Place of its style picture among the style pictures, from 0.
    """

    name: str
    share: float
    picture: int = 0


@dataclass(frozen=True)
class Guides:
    """The weight of each position in a region, ``(1, 1, h, w)`` for each view; None: all weigh the same.

    Attributes:
        canvas: Guides of the canvas's feature maps, by view.
        style: Guides of the feature maps of the style picture and of its copies, by view.
    """

    canvas: Mapping[str, Tensor] | None
    style: Sequence[Mapping[str, Tensor]] | None

    def to(self, device: torch.device) -> Guides:
        """Return the guides on a device."""

        def move(views: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {view: guide.to(device) for view, guide in views.items()}

        return Guides(
            None if self.canvas is None else move(self.canvas),
            None if self.style is None else [move(views) for views in self.style],
        )


@dataclass(frozen=True)
class Part:
    """One summand of a term: a view of the whole canvas, or of one of its regions.

    Attributes:
        key: Name of the part: the view, or ``view@region``.
        view: View that is compared; see `Formulation.views`.
        weight: Weight of the part: w_l, or λ_r·w_l.
        region: Region of the canvas; None: the whole canvas.
    """

    key: str
    view: str
    weight: float
    region: Region | None = None


@dataclass
class Term:
    """One loss formulation with its layers, regions and weight.

    Its value is ``Σ_l w_l · loss_l``; with regions, ``Σ_r λ_r Σ_l w_l · loss_l^r``, where ``loss_l^r``
    compares positions of the canvas in region r with those of the style picture in its region r.

    Attributes:
        name: Role and formulation, such as ``style/gram``.
        loss: Formulation.
        layers: Weight w_l of every view (`Formulation.views`): of each layer, such as ``relu1_1``,
            or of layers that are compared together, such as ``relu1_1+relu2_1``.
        weight: Weight of the term in the objective.
        seed: Seed of the run, for losses that sample.
        regions: Regions that have their own styles; none: the whole canvas has one style.
        targets: Target of each part, by its key; filled by `compute_targets`.
        guides: Guides of the canvas for parts that are regions, by key; filled by `compute_targets`.
        units: Units of parts whose target is too large to keep (`nstbench.blockwise.objective`), by key.
        scales: Factor of each part's value that brings it to the chosen unit, ``(1 or B,)``, by key.
        draw: Number of the present draw of what the loss samples.
    """

    name: str
    loss: Formulation[Any]
    layers: Mapping[str, float]
    weight: float
    seed: int = 0
    regions: Sequence[Region] = ()
    targets: dict[str, Target] = field(default_factory=dict)
    guides: dict[str, Tensor] = field(default_factory=dict)
    units: dict[str, Tensor] = field(default_factory=dict)
    scales: dict[str, Tensor] = field(default_factory=dict)
    draw: int = 0

    @property
    def role(self) -> str:
        """Part of the name before the slash."""
        return self.name.split("/")[0]

    @property
    def layers_needed(self) -> list[str]:
        """Layers of all views, each once."""
        return list(dict.fromkeys(layer for view in self.layers for layer in view.split("+")))

    @property
    def parts(self) -> Iterator[Part]:
        """Parts of the term: each view, of the whole canvas or of every region."""
        for view, w in self.layers.items():
            if not self.regions:
                yield Part(view, view, w)
            for region in self.regions:
                yield Part(f"{view}@{region.name}", view, region.share * w, region)

    def compute_targets(
        self,
        pictures: Sequence[Sequence[Mapping[str, Tensor]]],
        blend: Sequence[float] = (1.0,),
        guides: Mapping[str, Guides] | None = None,
    ) -> None:
        """Compute the targets from the feature maps of pictures and of their copies.

        Args:
            pictures: Feature maps of each copy of each picture.
            blend: Weights of the pictures, where there is no region.
            guides: Guides of every region, by its name.

        Raises:
            ValueError: The loss cannot use these maps or guides.
        """

        def target(part: Part, picture: int, of_style: Sequence[Mapping[str, Tensor]] | None) -> Target:
            return self.target(pictures[picture], part.view, of_style)

        with torch.no_grad():
            self.compute_targets_with(target, range(len(pictures)), blend, guides)

    def compute_targets_with(
        self,
        target: Callable[[Part, int, Sequence[Mapping[str, Tensor]] | None], Target],
        pictures: Sequence[int],
        blend: Sequence[float] = (1.0,),
        guides: Mapping[str, Guides] | None = None,
    ) -> None:
        """Set the targets to those that ``target(part, picture, guides of the style)`` returns."""
        for part in self.parts:
            self.loss.seed = self._seed(part.view, draw=0)
            if part.region is not None:
                assert guides is not None
                of_region = guides[part.region.name]
                if of_region.canvas is not None:
                    self.guides[part.key] = of_region.canvas[part.view]
                self.targets[part.key] = target(part, part.region.picture, of_region.style)
                continue
            targets = [target(part, picture, None) for picture in pictures]
            self.targets[part.key] = targets[0] if len(targets) == 1 else self.loss.blend(targets, blend)

    def target(
        self,
        copies: Sequence[Mapping[str, Tensor]],
        view: str,
        guides: Sequence[Mapping[str, Tensor]] | None = None,
    ) -> Target:
        """Return the target of a picture and its copies, or of a region of it."""
        if guides is None:
            return self.loss.join([self.loss.target(self._maps_of_view(copy, view)) for copy in copies])
        targets = []
        for i, (copy, guide) in enumerate(zip(copies, guides, strict=True)):
            try:
                targets.append(self.loss.target(self._maps_of_view(copy, view), guide[view]))
            except ValueError:
                if i == 0:
                    raise
                # Rotated and cropped, this copy has no position in the region: it has no target.
        return self.loss.join(targets)

    def per_layer(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``w_l · scale_l · loss_l`` of each part, each ``(B,)``."""
        return {part.key: self.value_of(part, features) for part in self.parts}

    def value_of(self, part: Part, features: Mapping[str, Tensor]) -> Tensor:
        """Return ``w_l · scale_l · loss_l`` of one part, ``(B,)``."""
        self.loss.seed = self._seed(part.view, self.draw)
        maps, target = self._maps_of_view(features, part.view), self.targets.get(part.key)
        guide = self.guides.get(part.key)
        return self.scaled(part, self.loss(maps, target) if guide is None else self.loss(maps, target, guide))

    def scaled(self, part: Part, value: Tensor) -> Tensor:
        """Return ``w_l · scale_l`` times a part's value, ``(B,)``."""
        value, scale = part.weight * value, self.scales.get(part.key)
        return value if scale is None else value * scale.to(value)

    def unit(self, part: Part) -> Tensor:
        """Return the unit of a part's loss, ``(1 or B,)``."""
        found = self.units.get(part.key)
        return self.loss.unit(self.targets.get(part.key)) if found is None else found

    def __call__(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return the term's value in its unit, before its weight, ``(B,)``."""
        return torch.stack(list(self.per_layer(features).values())).sum(0)

    def set_draw(self, step: int) -> None:
        """Set the draw that belongs to a step of the run."""
        self.draw = step // self.loss.redraw_every if self.loss.redraw_every else 0

    def _maps_of_view(self, features: Mapping[str, Tensor], view: str) -> Tensor | list[Tensor]:
        if isinstance(self.loss, JointLoss):
            return [features[layer] for layer in view.split("+")]
        return features[view]

    def _seed(self, view: str, draw: int) -> int:
        """Return a seed that depends on the run, the term, the view and the draw alone."""
        text = f"{self.seed} {self.name} {view} {draw}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6])
