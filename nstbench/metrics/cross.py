"""Cross-evaluation: every formulation of style judges every picture, under eyes that no run optimised."""

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
"""The mean over the formulations that the run did not optimise, by which none grades itself."""


class CrossEvaluation(Metric):
    """The distance to the style picture by every formulation of ``loss/style``, in the pair's units.

    ``(L(picture) - L(style)) / (L(content) - L(style))`` for each formulation L: 0 is the style
    picture itself, 1 the untouched photograph; in texture synthesis, which has none, noise. So the
    numbers of different formulations can be averaged: ``others`` is the mean over those that the
    run did not optimise. It leaves out no near relatives: formulations that are functions of the Gram
    matrix agree with one another more than with the rest. Within L, layers are in ``weights.unit=unit``.

    Args:
        encoder: a node like the group ``encoder``; it must not be the one that was optimised.
        formulations: ``all``, or options of ``loss/style``.
        seed: of what the formulations sample.
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
        self.judge = JudgingEncoder(encoder)
        self.terms: dict[str, list[Term]] = {}
        if self.judge.encoder is not None:
            eyes = self.judge.encoder
            for name in chosen:
                nodes = known[name].items()
                self.terms[name] = [build_term("style", key, node, eyes, seed=seed) for key, node in nodes]
        self._ends: dict[str, tuple[float, float]] = {}

    def __call__(self, subject: Subject) -> dict[str, float | Unavailable]:
        """Return the distance by every formulation, and the mean over the others."""
        found: dict[str, float | Unavailable] = {}
        pair = _Pair.of(subject, self.judge.of(subject, self._layers), self._layers)
        for name, terms in self.terms.items():
            try:
                found[name] = self._distance(name, terms, pair)
            except (NotImplementedError, ValueError) as reason:
                found[name] = Unavailable(reason)
        optimized = set(subject.formulations)
        others = [
            value
            for name, value in found.items()
            if isinstance(value, float) and not {t.name.split("/")[1] for t in self.terms[name]} & optimized
        ]
        found[OTHERS] = fmean(others) if others else Unavailable("no other formulation could judge it")
        return found

    @property
    def _layers(self) -> list[str]:
        asked = [layer for terms in self.terms.values() for t in terms for layer in t.layers_needed]
        return [layer for layer in dict.fromkeys(asked) if layer != CANVAS]

    def _distance(self, name: str, terms: Sequence[Term], pair: _Pair) -> float:
        for term in terms:
            term.compute_targets([[features] for features in pair.styles], pair.blend)
        set_units(terms, "unit", lambda _: {}, pair.picture[CANVAS])
        key = f"{name} {pair.sha256}"
        if key not in self._ends:  # a sweep judges many pictures of one pair
            # A blend of styles is not a picture: what it would score is taken to be 0.
            of_style = _value(terms, pair.styles[0]) if len(pair.styles) == 1 else 0.0
            self._ends[key] = of_style, _value(terms, pair.content)
        of_style, of_content = self._ends[key]
        if not of_content - of_style > 1e-3 * abs(of_content):
            raise ValueError("it does not tell the content picture from the style picture")
        return (_value(terms, pair.picture) - of_style) / (of_content - of_style)


@dataclass(frozen=True)
class _Pair:
    """What the judging encoder sees of a subject: feature maps, and the pixels as ``canvas``."""

    picture: Mapping[str, Tensor]
    content: Mapping[str, Tensor]
    styles: Sequence[Mapping[str, Tensor]]
    blend: Sequence[float]
    sha256: str

    @classmethod
    def of(cls, subject: Subject, encoder: Encoder, layers: Sequence[str]) -> _Pair:
        picture, styles = subject.picture, list(styles_of(subject))
        noise = torch.rand(picture.shape, generator=torch.Generator().manual_seed(0))
        content = noise if subject.content is None else subject.content

        def seen(x: Tensor) -> Mapping[str, Tensor]:
            return {**encoder(x, layers), CANVAS: x}

        sha = hashlib.sha256(repr([*subject.blend, *(x.shape for x in (content, *styles))]).encode())
        for x in (content, *styles):
            sha.update(x.numpy().tobytes())
        return cls(seen(picture), seen(content), [seen(s) for s in styles], subject.blend, sha.hexdigest())


def _value(terms: Sequence[Term], features: Mapping[str, Tensor]) -> float:
    return sum(term.weight * float(term(features)) for term in terms)
