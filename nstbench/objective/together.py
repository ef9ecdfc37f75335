"""The objectives of several runs, evaluated on a batch of their canvases.

What runs have in common is computed once for all: a term of one formulation and one kind of target is
evaluated on the whole batch, with the targets, units and weights of each run. Other terms are
evaluated for each run on its own canvas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nstbench.losses.base import CANVAS
from nstbench.objective.objective import Objective, Values
from nstbench.objective.term import Term


@dataclass(frozen=True)
class Shared:
    """A term that some canvases of a batch have.

    Attributes:
        term: with the targets and units of them all.
        rows: of these canvases in the batch.
        index: the same, on their device.
        weights: of the term in each one's objective, ``(len(rows),)``.
    """

    term: Term
    rows: list[int]
    index: Tensor
    weights: Tensor


class TermError(Exception):
    """A term could not be evaluated; the cause says why.

    Args:
        rows: of the canvases that it was evaluated for.
        error: the cause.
    """

    def __init__(self, rows: Sequence[int], error: Exception) -> None:
        self.rows, self.error = list(rows), error
        super().__init__(str(error))


class Together:
    """L_b = Σ weight_bt · term_bt, for every canvas b of a batch.

    Args:
        objectives: of the canvases, in the order of the batch; with their targets, units and draws.
        device: of the canvases.
    """

    def __init__(self, objectives: Sequence[Objective], device: torch.device) -> None:
        self.objectives = list(objectives)
        self.layers = list(dict.fromkeys(layer for o in objectives for layer in o.layers))
        alike: dict[Any, list[tuple[int, Term]]] = {}
        for row, objective in enumerate(self.objectives):
            for term in objective.terms:
                alike.setdefault(_kind(term) or (row, term.name), []).append((row, term))
        self.shared = []
        for group in alike.values():
            rows = [row for row, _ in group]
            weights = torch.tensor([term.weight for _, term in group], device=device)
            united = _united([term for _, term in group], device)
            self.shared.append(Shared(united, rows, torch.tensor(rows, device=device), weights))

    def set_draw(self, step: int) -> None:
        """Set what every term samples to the draw that belongs to a step of the runs."""
        for objective in self.objectives:
            objective.set_draw(step)

    def __call__(self, features: Mapping[str, Tensor], canvases: Tensor) -> tuple[Tensor, Told]:
        """Evaluate every term on the canvases ``(B, 3, H, W)`` and their feature maps.

        Returns:
            the objective of each canvas, ``(B,)``, and all values, to be read later.

        Raises:
            TermError: one of the terms does.
        """
        seen = _Seen({**features, CANVAS: canvases})
        total = canvases.new_zeros(len(canvases))
        values = []
        for shared in self.shared:
            try:
                unweighted = shared.term(seen.of(shared.term, shared.rows))
            except torch.OutOfMemoryError:  # of which all have a share
                raise
            except Exception as error:
                raise TermError(shared.rows, error) from error
            weighted = shared.weights.to(unweighted) * unweighted
            if len(shared.rows) == len(canvases):
                total = total + weighted
            else:
                total = total.index_add(0, shared.index, weighted.to(total))
            values += [unweighted, weighted]
        return total, Told(self, torch.cat([total.detach(), *(v.detach() for v in values)]))


class Told:
    """All values of one evaluation, on their way to the CPU: reading them waits, once for all.

    Args:
        together: what was evaluated.
        numbers: totals, then each shared term's unweighted and weighted values.
    """

    def __init__(self, together: Together, numbers: Tensor) -> None:
        self.together, self.numbers = together, numbers
        self.arrived: torch.cuda.Event | None = None
        if numbers.device.type == "cuda":  # the device works on meanwhile
            self.numbers = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self.numbers.copy_(numbers, non_blocking=True)
            self.arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.arrived.record()

    def read(self) -> list[Values]:
        """Return the values of every canvas, each ``(1,)``, on the CPU."""
        if self.arrived is not None:
            self.arrived.synchronize()
        size = len(self.together.objectives)
        numbers = torch.split(self.numbers.cpu(), 1)
        unweighted: list[dict[str, Tensor]] = [{} for _ in range(size)]
        weighted: list[dict[str, Tensor]] = [{} for _ in range(size)]
        at = size
        for shared in self.together.shared:
            for found in (unweighted, weighted):
                for row in shared.rows:
                    found[row][shared.term.name] = numbers[at]
                    at += 1
        names = [[term.name for term in o.terms] for o in self.together.objectives]
        return [
            Values(numbers[i], {n: unweighted[i][n] for n in names[i]}, {n: weighted[i][n] for n in names[i]})
            for i in range(size)
        ]


class _Seen:
    """The feature maps of a batch, and of some of its canvases."""

    def __init__(self, features: dict[str, Tensor]) -> None:
        self.whole = features
        self.size = len(features[CANVAS])
        self._single: dict[str, Sequence[Tensor]] = {}

    def of(self, term: Term, rows: Sequence[int]) -> Mapping[str, Tensor]:
        """Return the maps that a term looks at, of the canvases that have it."""
        if len(rows) == self.size:
            return self.whole
        return {layer: self._some(layer, rows) for layer in term.layers_needed}

    def _some(self, layer: str, rows: Sequence[int]) -> Tensor:
        # Split once, its gradient is put together once; slices would each fill a whole batch with zeros.
        single = self._single.setdefault(layer, torch.split(self.whole[layer], 1))
        return single[rows[0]] if len(rows) == 1 else torch.cat([single[row] for row in rows])


def _kind(term: Term) -> Any:
    """Return what terms must have in common to be evaluated as one; None: nothing will do."""
    settings = {k: v for k, v in vars(term.loss).items() if not k.startswith("_") and k != "seed"}
    if not term.loss.stackable or not _is_plain(list(settings.values())) or term.regions:
        return None
    scales = {key: scale.shape for key, scale in term.scales.items()}
    return repr((term.name, type(term.loss), settings, term.layers, scales, _form(term.targets)))


def _is_plain(value: Any) -> bool:
    """Tell whether equal values look alike."""
    if isinstance(value, list | tuple):
        return all(_is_plain(each) for each in value)
    return isinstance(value, int | float | str | None)


def _form(target: Any) -> Any:
    """Return the form of a target: what must be equal for several to be one of a batch."""
    if isinstance(target, Tensor):
        return tuple(target.shape), target.dtype
    if isinstance(target, Mapping):
        return {key: _form(value) for key, value in target.items()}
    if is_dataclass(target):
        return {f.name: _form(getattr(target, f.name)) for f in fields(target)}
    return [_form(each) for each in target] if isinstance(target, list | tuple) else target


def _united(terms: Sequence[Term], device: torch.device) -> Term:
    """Return one term with the targets and units of several."""
    if len(terms) == 1:
        return terms[0]
    return replace(
        terms[0],
        targets={key: _stacked([t.targets[key] for t in terms]) for key in terms[0].targets},
        scales={key: torch.cat([t.scales[key] for t in terms]).to(device) for key in terms[0].scales},
    )


def _stacked(targets: Sequence[Any]) -> Any:
    """Return the target of a batch from those of its canvases; one that all share stays one."""
    first = targets[0]
    if isinstance(first, Tensor):
        return first if all(t is first for t in targets) else torch.cat(list(targets))
    if is_dataclass(first) and not isinstance(first, type):
        parts = {f.name: _stacked([getattr(t, f.name) for t in targets]) for f in fields(first)}
        return type(first)(**parts)
    if isinstance(first, list | tuple):
        return type(first)([_stacked(each) for each in zip(*targets, strict=True)])
    return first
