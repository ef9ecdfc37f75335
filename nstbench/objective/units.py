"""Units of weights: what a weight of 1 means.

Published weights belong to published formulas: a style weight of 1000 in one paper and of 100 in another
do not tell which gradient is larger. `paper` uses the published formulas; `unit` and `gradient` bring all
formulations to one scale before they are weighted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from nstbench.config.schema import Unit
from nstbench.losses.base import CANVAS
from nstbench.objective.term import Term

Encode = Callable[[Tensor], Mapping[str, Tensor]]
Measure = Callable[[Sequence[Term], Tensor], Mapping[str, tuple[Tensor, Tensor]]]
"""Function from terms and a canvas to each term's unweighted value and the norm of its gradient, ``(B,)``."""


def set_units(
    terms: Sequence[Term], unit: Unit, encode: Encode, canvas: Tensor, measure: Measure | None = None
) -> None:
    """Set the scales of every term so that weights are in ``unit``.

    - ``paper``: the published constant on the published formula; scales are 1.
    - ``unit``: each layer divided by the formulation's own unit (`Formulation.unit`): for most, the
      target's mean square, so that a canvas without features has the value Σ w_l, whatever the
      encoder and the formula's constants; for those whose value has no scale, 1.
    - ``gradient``: each term scaled once so that the norm of its gradient on the initial canvas
      equals its weight: formulations with equal weights start with gradients of equal norm.

    A term without a gradient on the initial canvas, such as a content term when the canvas starts from
    the content picture, is measured on a canvas of noise instead. The noise is always the same, so the
    scale does not depend on the other terms. A term without a gradient there either, such as a penalty on
    values outside [0, 1], keeps its published unit.

    Args:
        terms: Terms of an objective, whose ``scales`` are replaced.
        unit: Unit of the weights.
        encode: Function from a canvas to the feature maps of the terms' layers.
        canvas: Initial canvas, ``(B, 3, H, W)``.
        measure: Function that measures terms, where the canvas is too large to encode at once.
    """
    measure = measure or partial(measured, encode)
    for term in terms:
        term.scales = {}
    if unit == "unit":
        for term in terms:
            units = {part.key: term.unit(part) for part in term.parts}
            term.scales = {key: 1 / _replace_zeros_by_one(u) for key, u in units.items()}
    elif unit == "gradient":
        at_start = measure(terms, canvas)
        noise = torch.rand(canvas.shape[1:], generator=torch.Generator().manual_seed(0))
        on_noise = measure(terms, noise.to(canvas).expand_as(canvas))
        for term in terms:
            (value, norm), (noise_value, noise_norm) = at_start[term.name], on_noise[term.name]
            # On a canvas that equals its target, the value of a term is a rounding error, in bf16 some
            # 1e-4 of its usual size, and the gradient has no meaning; that of an absolute value may be large.
            is_meaningful = (norm > 1e-5 * noise_norm) & (value > 1e-3 * noise_value)
            scale = 1 / _replace_zeros_by_one(torch.where(is_meaningful, norm, noise_norm))
            term.scales = {part.key: scale for part in term.parts}


def measured(encode: Encode, terms: Sequence[Term], canvas: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each term's value, and the norm of its gradient, ``(B,)`` each: a `Measure`."""
    values, slopes = gradients(terms, encode, canvas)
    totals = {name: torch.stack(list(v.values())).sum(0) for name, v in values.items()}
    return {name: (totals[name], slope.flatten(1).norm(dim=1)) for name, slope in slopes.items()}


def gradients(
    terms: Sequence[Term], encode: Encode, canvas: Tensor
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Return the value and the gradient of every term on a canvas ``(B, 3, H, W)``, before its weight.

    Returns:
        Each term's value per part, ``(B,)``, and its gradient on the canvas, ``(B, 3, H, W)``.
    """
    canvas = canvas.detach().clone().requires_grad_()
    values, slopes = {}, {}
    with torch.enable_grad():
        features = {**encode(canvas), CANVAS: canvas}
        for term in terms:
            of_layers = term.per_layer(features)
            total = torch.stack(list(of_layers.values())).sum()
            slope = torch.zeros_like(canvas)
            if total.requires_grad:  # false if no position of the term's layers depends on the canvas
                (found,) = torch.autograd.grad(total, canvas, retain_graph=True, allow_unused=True)
                slope = slope if found is None else found.detach()
            values[term.name] = {layer: v.detach() for layer, v in of_layers.items()}
            slopes[term.name] = slope
    return values, slopes


def gradient_norms(terms: Sequence[Term], encode: Encode, canvas: Tensor) -> dict[str, Tensor]:
    """Return the norm of each unweighted term's gradient on the canvas, ``(B,)`` each."""
    _, slopes = gradients(terms, encode, canvas)
    return {name: slope.flatten(1).norm(dim=1) for name, slope in slopes.items()}


@dataclass(frozen=True)
class Start:
    """Value and gradient of a term on the initial canvas, as means over the batch.

    Attributes:
        weight: Weight of the term.
        value: Value on the initial canvas, in the run's unit, before the weight.
        gradient_norm: Norm of the weighted term's gradient on the initial canvas.
    """

    weight: float
    value: float
    gradient_norm: float


def starts(
    terms: Sequence[Term], encode: Encode, canvas: Tensor, measure: Measure | None = None
) -> dict[str, Start]:
    """Return the weight, value and gradient of every term on the initial canvas, ``(B, 3, H, W)``."""
    found = (measure or partial(measured, encode))(terms, canvas)
    result = {}
    for term in terms:
        value, norm = (float(x.mean()) for x in found[term.name])
        result[term.name] = Start(term.weight, value, term.weight * norm)
    return result


def _replace_zeros_by_one(x: Tensor) -> Tensor:
    """Return ``x`` with 1 where it is 0: such a value keeps its published unit."""
    return torch.where(x > 0, x, torch.ones_like(x))
