"""The objective of a batch of canvases: for each, a weighted sum of its terms.

Terms of one formulation, with targets of one form, are evaluated on the whole batch at once, with the
targets, units and weights of each canvas. Other terms are evaluated for each canvas on its own feature maps.
A single canvas is a batch of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from nstbench.losses.base import CANVAS
from nstbench.objective.term import Term
from nstbench.objective.values import BatchValues, TermValues


@dataclass(frozen=True)
class JointTerm:
    """A term that some canvases of a batch have in common.

    Attributes:
        term: Term with the targets and units of all these canvases.
        rows: Places of the canvases in the batch.
        weights: Weight of the term in the objective of each, ``(len(rows),)``; one number for a single
            canvas.
        index: The same places, on the device.
    """

    term: Term
    rows: list[int]
    weights: Tensor | float
    index: Tensor


class TermError(Exception):
    """A term could not be evaluated.

    Args:
        rows: Places in the batch of the canvases for which it was evaluated.
        error: Cause.
    """

    def __init__(self, rows: Sequence[int], error: Exception) -> None:
        self.rows, self.error = list(rows), error
        super().__init__(str(error))


class Objective:
    """The weighted sum of terms of every canvas b of a batch: L_b = Σ_t weight_bt · term_bt.

    Args:
        terms: Terms of each canvas, with their targets and units, in the order of the batch.
        device: Device of the canvases.

    Raises:
        ValueError: A canvas has no term, or two terms with the same name.
    """

    def __init__(self, terms: Sequence[Sequence[Term]], device: torch.device | None = None) -> None:
        for of_canvas in terms:
            check_terms(of_canvas)
        self.terms = [list(of_canvas) for of_canvas in terms]
        self.names = [[term.name for term in of_canvas] for of_canvas in self.terms]
        self.layers = layers_of(term for of_canvas in self.terms for term in of_canvas)
        alike: dict[Any, list[tuple[int, Term]]] = {}
        for row, of_canvas in enumerate(self.terms):
            for term in of_canvas:
                key = (_joint_key(term) if len(self.terms) > 1 else None) or (row, term.name)
                alike.setdefault(key, []).append((row, term))
        self.joint = [_join(group, device or torch.device("cpu")) for group in alike.values()]

    def set_draw(self, step: int) -> None:
        """Set every term that samples to the draw that belongs to a step of the runs."""
        for of_canvas in self.terms:
            for term in of_canvas:
                term.set_draw(step)

    def __call__(self, features: Mapping[str, Tensor], canvases: Tensor) -> tuple[Tensor, BatchValues]:
        """Evaluate every term on the canvases ``(B, 3, H, W)`` and their feature maps.

        Returns:
            The objective of each canvas, ``(B,)``, and all values, to be read later.

        Raises:
            TermError: A term cannot be evaluated.
            ValueError: The number of canvases is not that of the objective.
        """
        if len(canvases) != len(self.terms):
            raise ValueError(f"an objective of {len(self.terms)} canvases was called with {len(canvases)}")
        maps = _FeatureMaps({**features, CANVAS: canvases})
        total = canvases.new_zeros(len(canvases))
        values = []
        for joint in self.joint:
            try:
                unweighted = joint.term(maps.of(joint.term, joint.rows))
            except torch.OutOfMemoryError:  # memory is a matter of the whole batch
                raise
            except Exception as error:
                raise TermError(joint.rows, error) from error
            weights = joint.weights.to(unweighted) if isinstance(joint.weights, Tensor) else joint.weights
            weighted = weights * unweighted
            if len(joint.rows) == len(canvases):
                total = total + weighted
            else:
                total = total.index_add(0, joint.index, weighted.to(total))
            values.append(TermValues(joint.term.name, joint.rows, unweighted.detach(), weighted.detach()))
        return total, BatchValues(total.detach(), values, self.names)


def check_terms(terms: Sequence[Term]) -> None:
    """Check that terms can form an objective.

    Raises:
        ValueError: There is no term, or two have the same name.
    """
    if not terms or len({term.name for term in terms}) != len(terms):
        raise ValueError("an objective needs terms, each with a name of its own")


def layers_of(terms: Iterable[Term]) -> list[str]:
    """Return the encoder's layers that terms need, each once."""
    return list(dict.fromkeys(layer for t in terms for layer in t.layers_needed if layer != CANVAS))


class _FeatureMaps:
    """The feature maps of a batch, and of some of its canvases."""

    def __init__(self, features: dict[str, Tensor]) -> None:
        self.whole = features
        self.size = len(features[CANVAS])
        self._single: dict[str, Sequence[Tensor]] = {}

    def of(self, term: Term, rows: Sequence[int]) -> Mapping[str, Tensor]:
        """Return the maps that a term needs, of the canvases that have it."""
        if len(rows) == self.size:
            return self.whole
        return {layer: self._some(layer, rows) for layer in term.layers_needed}

    def _some(self, layer: str, rows: Sequence[int]) -> Tensor:
        # With one split, the gradient is assembled once; each slice would fill a whole batch with zeros.
        single = self._single.setdefault(layer, torch.split(self.whole[layer], 1))
        return single[rows[0]] if len(rows) == 1 else torch.cat([single[row] for row in rows])


_OF_MODULES = frozenset(vars(nn.Module()))


def _joint_key(term: Term) -> Any:
    """Return the key that terms evaluated together have in common; None: the term is evaluated alone."""
    # Private attributes too: a loss may keep a setting in one.
    own = {k: v for k, v in vars(term.loss).items() if k not in _OF_MODULES and k != "seed"}
    has_modules = any(vars(term.loss).get(name) for name in ("_parameters", "_buffers", "_modules"))
    if not term.loss.stackable or has_modules or not _is_plain(list(own.values())) or term.regions:
        return None
    scales = {key: scale.shape for key, scale in term.scales.items()}
    return repr((term.name, type(term.loss), own, term.layers, scales, _form(term.targets)))


def _is_plain(value: Any) -> bool:
    """Return whether equal values have equal representations."""
    if isinstance(value, list | tuple):
        return all(_is_plain(each) for each in value)
    return isinstance(value, int | float | str | None)


def _form(target: Any) -> Any:
    """Return the form of a target: shapes and settings that targets of one batch have in common."""
    if isinstance(target, Tensor):
        return tuple(target.shape), target.dtype
    if isinstance(target, Mapping):
        return {key: _form(value) for key, value in target.items()}
    if is_dataclass(target):
        return {f.name: _form(getattr(target, f.name)) for f in fields(target)}
    return [_form(each) for each in target] if isinstance(target, list | tuple) else target


def _join(group: Sequence[tuple[int, Term]], device: torch.device) -> JointTerm:
    """Return one term with the targets and units of several."""
    rows, terms = [row for row, _ in group], [term for _, term in group]
    first, index = terms[0], torch.tensor(rows, device=device)
    if len(terms) == 1:
        return JointTerm(first, rows, first.weight, index)
    joined = replace(
        first,
        targets={key: _stack([t.targets[key] for t in terms]) for key in first.targets},
        scales={key: torch.cat([t.scales[key] for t in terms]).to(device) for key in first.scales},
    )
    weights = torch.tensor([term.weight for term in terms], device=device)
    return JointTerm(joined, rows, weights, index)


def _stack(targets: Sequence[Any]) -> Any:
    """Return the target of a batch from those of its canvases; a tensor that all share is not repeated."""
    first = targets[0]
    if isinstance(first, Tensor):
        return first if all(t is first for t in targets) else torch.cat(list(targets))
    if is_dataclass(first) and not isinstance(first, type):
        parts = {f.name: _stack([getattr(t, f.name) for t in targets]) for f in fields(first)}
        return type(first)(**parts)
    if isinstance(first, list | tuple):
        return type(first)([_stack(each) for each in zip(*targets, strict=True)])
    return first
