"""Values of an objective: on the device while they are computed, numbers when they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Values:
    """One evaluation of the objective of one canvas.

    Attributes:
        total: Objective.
        unweighted: Value of each term, by its name.
        weighted: The same, times the term's weight; they sum to ``total``.
    """

    total: float
    unweighted: Mapping[str, float]
    weighted: Mapping[str, float]


@dataclass(frozen=True)
class TermValues:
    """Values of one term for some canvases of a batch.

    Attributes:
        name: Name of the term.
        rows: Places of the canvases in the batch.
        unweighted: Their values, ``(len(rows),)``, detached.
        weighted: The same, times the weights.
    """

    name: str
    rows: Sequence[int]
    unweighted: Tensor
    weighted: Tensor


class BatchValues:
    """All values of one evaluation of a batch; reading them waits for the device once.

    Args:
        total: Objective of each canvas, ``(B,)``, detached.
        terms: Values of the terms.
        names: Names of each canvas's terms, in their order.
    """

    def __init__(self, total: Tensor, terms: Sequence[TermValues], names: Sequence[Sequence[str]]) -> None:
        self._names = names
        self._terms = [(term.name, term.rows) for term in terms]
        numbers = torch.cat([total, *(v.to(total) for t in terms for v in (t.unweighted, t.weighted))])
        self._arrived: torch.cuda.Event | None = None
        if numbers.device.type == "cuda":  # the device computes on during the copy
            self._numbers = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._numbers.copy_(numbers, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()
        else:
            self._numbers = numbers

    def read(self) -> list[Values]:
        """Return the values of every canvas."""
        if self._arrived is not None:
            self._arrived.synchronize()
        numbers = iter(self._numbers.tolist())
        totals = [next(numbers) for _ in self._names]
        unweighted: list[dict[str, float]] = [{} for _ in totals]
        weighted: list[dict[str, float]] = [{} for _ in totals]
        for name, rows in self._terms:
            for found in (unweighted, weighted):
                for row in rows:
                    found[row][name] = next(numbers)
        return [
            Values(totals[row], {n: unweighted[row][n] for n in names}, {n: weighted[row][n] for n in names})
            for row, names in enumerate(self._names)
        ]
