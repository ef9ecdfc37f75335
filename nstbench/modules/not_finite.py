"""The reason why an objective is not finite on the initial canvas, before the first step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nstbench.errors import NonFiniteObjectiveError
from nstbench.objective.values import Values

if TYPE_CHECKING:
    from nstbench.modules.member import Member

_LARGEST = 1e9  # its fourth power, which squared distances of Gram matrices sum, is near the largest float32
_CHECK_WEIGHTS = "No optimizer.lr changes this: give other weights of the encoder"


@torch.no_grad()
def not_finite_at_start(member: Member, values: Values, picture: Tensor) -> NonFiniteObjectiveError:
    """Return the error for a first evaluation that is not finite; its message names the first cause.

    Args:
        member: Canvas with its objective.
        values: First evaluation.
        picture: Initial canvas, ``(1, 3, H, W)``.
    """
    bad = [name for name, v in values.unweighted.items() if not isfinite(v)]
    cause, hint = _cause(member, values, bad, picture)
    terms = f" (terms: {', '.join(bad)})" if bad else ""
    what = f"the objective is {values.total} on the initial canvas{terms}"
    return NonFiniteObjectiveError(f"{what}: {cause}", hint)


def _cause(member: Member, values: Values, bad: list[str], picture: Tensor) -> tuple[str, str]:
    if not torch.isfinite(picture).all():
        return "the canvas itself is not finite", "Check canvas.start and the picture that it starts from"
    if not bad:
        too_large = [name for name, v in values.weighted.items() if not isfinite(v)]
        what = f"{' and '.join(too_large) or 'the sum'} under its weight exceeds the range of float32"
        return what, "Give smaller weights"
    largest = 0.0
    for layer, features in _features(member, picture):
        if not torch.isfinite(features).all():
            return f"the encoder's features are not finite from {layer} on", _CHECK_WEIGHTS
        largest = max(largest, float(features.abs().max()))
    if largest > _LARGEST:
        what = f"the encoder's features reach {largest:.2g}, and products of them exceed the range of float32"
        return what, f"{_CHECK_WEIGHTS}, or type encoder.normalize_activations=true"
    for term in member.terms:
        for part, target in term.targets.items():
            if term.name in bad and not all(bool(torch.isfinite(t).all()) for t in _tensors(target)):
                what = f"the target of {term.name} is not finite at {part}"
                return what, f"Check the {term.role} picture, or {_CHECK_WEIGHTS.partition(': ')[2]}"
    what = f"the encoder's features are finite and reach {largest:.2g}, but the terms' values are not"
    return what, "No optimizer.lr changes this: check the settings of these terms"


def _features(member: Member, picture: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield the feature maps of the encoder's layers, in order, up to the deepest that a term needs.

    Each layer is encoded alone: all layers together may not fit in memory. In blocks, only a part of the
    picture is encoded.
    """
    asked = set(member.layers)
    names = list(member.encoding.encoder.layers)
    deepest = max((i for i, name in enumerate(names) if name in asked), default=-1)
    if member.blocks is not None:
        edge = max(member.blocks.tile, member.encoding.encoder.smallest_picture(asked))
        picture = picture[..., :edge, :edge]
    for name in names[: deepest + 1]:
        yield name, member.encode(picture, [name])[name]


def _tensors(target: Any) -> Iterator[Tensor]:
    """Yield the tensors of a target."""
    if isinstance(target, Tensor):
        yield target
    elif isinstance(target, Mapping):
        for value in target.values():
            yield from _tensors(value)
    elif is_dataclass(target):
        for field in fields(target):
            yield from _tensors(getattr(target, field.name))
    elif isinstance(target, list | tuple):
        for value in target:
            yield from _tensors(value)
