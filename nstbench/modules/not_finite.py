"""Why the objective is not finite on the initial canvas, which no optimiser has changed yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nstbench.errors import NonFiniteObjectiveError
from nstbench.objective.objective import Values

if TYPE_CHECKING:
    from nstbench.modules.image_optimization import ImageOptimization

_LARGEST = 1e9  # the fourth power, of which a squared distance of Gram matrices is a sum, is near the end
_CHECK_WEIGHTS = "No optimizer.lr changes this: give other weights of the encoder"


@torch.no_grad()
def not_finite_at_start(
    module: ImageOptimization, values: Values, picture: Tensor
) -> NonFiniteObjectiveError:
    """Return the error for a first evaluation that is not finite; it names what is not finite first.

    Args:
        module: Run that was evaluated.
        values: Its first evaluation.
        picture: Its initial canvas, ``(1, 3, H, W)``.
    """
    bad = [name for name, v in values.unweighted.items() if not torch.isfinite(v).all()]
    cause, hint = _cause(module, values, bad, picture)
    terms = f" (terms: {', '.join(bad)})" if bad else ""
    total = float(values.total.sum())
    return NonFiniteObjectiveError(f"the objective is {total} on the initial canvas{terms}: {cause}", hint)


def _cause(module: ImageOptimization, values: Values, bad: list[str], picture: Tensor) -> tuple[str, str]:
    if not torch.isfinite(picture).all():
        return "the canvas itself is not finite", "Check canvas.start and the picture that it starts from"
    if not bad:
        too_large = [name for name, v in values.weighted.items() if not torch.isfinite(v).all()]
        what = f"{' and '.join(too_large) or 'the sum'} under its weight exceeds the range of float32"
        return what, "Give smaller weights"
    largest = 0.0
    for layer, features in _features(module, picture):
        if not torch.isfinite(features).all():
            return f"the encoder's features are not finite from {layer} on", _CHECK_WEIGHTS
        largest = max(largest, float(features.abs().max()))
    if largest > _LARGEST:
        what = f"the encoder's features reach {largest:.2g}, and products of them exceed the range of float32"
        return what, f"{_CHECK_WEIGHTS}, or type encoder.normalize_activations=true"
    for term in module.objective.terms:
        for part, target in term.targets.items():
            if term.name in bad and not all(bool(torch.isfinite(t).all()) for t in _tensors(target)):
                what = f"what {term.name} remembers of its picture is not finite at {part}"
                return what, f"Check the {term.role} picture, or {_CHECK_WEIGHTS.partition(': ')[2]}"
    what = f"the encoder's features are finite and reach {largest:.2g}, but the terms' values are not"
    return what, "No optimizer.lr changes this: check the settings of these terms"


def _features(module: ImageOptimization, picture: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield the feature maps of the encoder's layers, in order, up to the deepest that is asked for.

    One layer at a time: together they may not fit into memory where those asked for do. In blocks, a
    part of the picture has to do.
    """
    asked = set(module.objective.layers)
    names = list(module.encoder.layers)
    deepest = max((i for i, name in enumerate(names) if name in asked), default=-1)
    if module.blocks is not None:
        edge = max(module.blocks.tile, module.encoder.smallest_picture(asked))
        picture = picture[..., :edge, :edge]
    for name in names[: deepest + 1]:
        yield name, module.encode(picture, [name])[name]


def _tensors(target: Any) -> Iterator[Tensor]:
    """Yield the tensors in what a loss remembers."""
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
