"""Cross-evaluation: distances to the style picture by all style formulations, under an encoder of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from nstbench.config import files as config_files
from nstbench.encoders.base import Encoder
from nstbench.errors import UserError, did_you_mean
from nstbench.losses.base import CANVAS
from nstbench.metrics.base import Metric, Subject, Unavailable, styles_of
from nstbench.metrics.judging import JudgingEncoder
from nstbench.objective.build import build_term
from nstbench.objective.term import Term
from nstbench.objective.units import set_units

OTHERS = "others"
"""Name of the mean over the formulations that the run did not optimise."""


class CrossEvaluation(Metric):
    """The distance to the style picture by every formulation of ``loss/style``, in the pair's units.

    ``(L(picture) - L(style)) / (L(content) - L(style))`` for each formulation L: 0 is the style
    picture itself, 1 the content picture; in texture synthesis, which has none, noise. So the
    numbers of different formulations can be averaged: ``others`` is the mean over those that the
    run did not optimise. Related formulations are not left out: those that are functions of the Gram
    matrix agree with one another more than with the rest. Within L, layers are in ``weights.unit=unit``.

    Args:
        encoder: Node like the group ``encoder``; its weights must differ from the optimised encoder's.
        formulations: Options of ``loss/style``, or ``all``.
        seed: Seed of what the formulations sample.
    """

    higher_is_better: ClassVar[bool] = False
    compares_with: ClassVar[Literal["content", "style", "nothing"]] = "style"

    def __init__(
        self,
        encoder: Mapping[str, Any],
        formulations: Sequence[str] | Literal["all"] = "all",
        seed: int = 0,
    ) -> None:
        known = config_files.formulations("style")
        chosen = list(known) if formulations == "all" else list(formulations)
        for name in chosen:
            if name not in known:
                hint = did_you_mean(name, known, what="formulations")
                raise UserError("metrics.cross.formulations", name, "loss/style has no such option", hint)
        self.judging = JudgingEncoder(encoder)
        self.terms: dict[str, list[Term]] = {}
        if (judging := self.judging.encoder) is not None:
            for name in chosen:
                nodes = known[name].items()
                self.terms[name] = [build_term("style", key, node, judging, seed=seed) for key, node in nodes]
        self._ends: dict[str, tuple[float, float]] = {}

    def __call__(self, subject: Subject) -> dict[str, float | Unavailable]:
        """Return the distance by every formulation, and the mean over the others."""
        found: dict[str, float | Unavailable] = {}
        pictures = [subject.picture, *styles_of(subject)]
        encoder = self.judging.encoder_for(pictures, subject.optimized, self._layers)
        features = _SubjectFeatures.of(subject, encoder, self._layers)
        for name, terms in self.terms.items():
            try:
                found[name] = self._distance(name, terms, features)
            except (NotImplementedError, ValueError) as reason:
                found[name] = Unavailable(reason)
        optimized = set(subject.formulations)
        others = [
            value
            for name, value in found.items()
            if isinstance(value, float) and not {t.name.split("/")[1] for t in self.terms[name]} & optimized
        ]
        found[OTHERS] = fmean(others) if others else Unavailable("no other formulation could be computed")
        return found

    @property
    def _layers(self) -> list[str]:
        needed = [layer for terms in self.terms.values() for t in terms for layer in t.layers_needed]
        return [layer for layer in dict.fromkeys(needed) if layer != CANVAS]

    def _distance(self, name: str, terms: Sequence[Term], features: _SubjectFeatures) -> float:
        for term in terms:
            term.compute_targets([[style] for style in features.styles], features.blend)
        set_units(terms, "unit", lambda _: {}, features.picture[CANVAS])
        key = f"{name} {features.sha256}"
        if key not in self._ends:  # a sweep evaluates many pictures of one pair
            # A blend of styles is not a picture: its value is taken to be 0.
            style = _value(terms, features.styles[0]) if len(features.styles) == 1 else 0.0
            self._ends[key] = style, _value(terms, features.content)
        style, content = self._ends[key]
        if not content - style > 1e-3 * abs(content):
            raise ValueError("it does not distinguish the content picture from the style picture")
        return (_value(terms, features.picture) - style) / (content - style)


@dataclass(frozen=True)
class _SubjectFeatures:
    """The judging encoder's feature maps of a subject's pictures, and the pixels as ``canvas``.

    Attributes:
        picture: Feature maps of the finished picture.
        content: Feature maps of the content picture; of noise if there is none.
        styles: Feature maps of the style pictures.
        blend: Weight of each style picture.
        sha256: Hash of the content and style pictures and of the weights.
    """

    picture: Mapping[str, Tensor]
    content: Mapping[str, Tensor]
    styles: Sequence[Mapping[str, Tensor]]
    blend: Sequence[float]
    sha256: str

    @classmethod
    def of(cls, subject: Subject, encoder: Encoder, layers: Sequence[str]) -> _SubjectFeatures:
        picture, styles = subject.picture, list(styles_of(subject))
        noise = torch.rand(picture.shape, generator=torch.Generator().manual_seed(0))
        content = noise if subject.content is None else subject.content

        def encode(x: Tensor) -> Mapping[str, Tensor]:
            return {**encoder(x, layers), CANVAS: x}

        sha = hashlib.sha256(repr([*subject.blend, *(x.shape for x in (content, *styles))]).encode())
        for x in (content, *styles):
            sha.update(x.numpy().tobytes())
        style_features = [encode(style) for style in styles]
        return cls(encode(picture), encode(content), style_features, subject.blend, sha.hexdigest())


def _value(terms: Sequence[Term], features: Mapping[str, Tensor]) -> float:
    return sum(term.weight * float(term(features)) for term in terms)
