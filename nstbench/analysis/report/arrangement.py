"""The initial layout of the grid of pictures: rows, columns and filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

# Settings in the order of their priority as axes. A name that ends in a dot is a prefix.
_PRIORITY = (
    "loss.style", "weights.style", "weights.", "loss.", "encoder.", "layers.", "optimizer.", "canvas.",
    "style", "content", "size", "steps", "schedule.",
)  # fmt: skip
_LAST = ("seed",)
_WIDEST = 8  # largest number of columns, so that pictures are not too small
_ACROSS = 9  # largest number of pictures side by side


@dataclass(frozen=True)
class Arrangement:
    """Settings of the rows and of the columns ("" for none), and the values of the filters."""

    rows: str = ""
    columns: str = ""
    filters: dict[str, object] = field(default_factory=dict)


def arrange(runs: pd.DataFrame, settings: Sequence[str]) -> Arrangement:
    """Choose a layout in which pictures that are likely to be compared are beside each other.

    Args:
        runs: Table with a row for each run and a column for each setting.
        settings: Settings that differ between runs.
    """
    by_priority = sorted(settings, key=_priority)
    if not by_priority:
        return Arrangement()
    rows, *others = by_priority
    columns = next((name for name in others if _crossed(runs, rows, name)), "")
    if not columns and others:  # settings changed one at a time
        return Arrangement(rows, "")
    if not columns:  # one row of pictures, wrapped if there are many
        return Arrangement("", rows if runs[rows].nunique(dropna=False) <= _WIDEST else "")
    if _should_swap(runs, rows, columns):
        rows, columns = columns, rows
    rest = [name for name in by_priority if name not in (rows, columns)]
    limit = max(1, min(4, _ACROSS // runs[columns].nunique(dropna=False)))
    return Arrangement(rows, columns, _filters(runs, [rows, columns], rest, limit))


def _crossed(runs: pd.DataFrame, rows: str, columns: str) -> bool:
    """Return whether a grid of two settings would have pictures in most of its cells."""
    cells = runs[rows].nunique(dropna=False) * runs[columns].nunique(dropna=False)
    return bool(3 * len(runs.groupby([rows, columns], dropna=False).size()) >= 2 * cells)


def _should_swap(runs: pd.DataFrame, rows: str, columns: str) -> bool:
    down, across = runs[rows].nunique(dropna=False), runs[columns].nunique(dropna=False)
    if down > _WIDEST or across > _WIDEST:
        return bool(across > down)
    numbers = [pd.api.types.is_numeric_dtype(runs[name]) for name in (rows, columns)]
    return numbers == [True, False]


def _filters(runs: pd.DataFrame, axes: Sequence[str], rest: Sequence[str], limit: int) -> dict[str, object]:
    """Return filters on settings, of the lowest priority first, until few pictures share a cell."""
    filters: dict[str, object] = {}
    for name in reversed(rest):
        crowd = runs.groupby(list(axes), dropna=False).size()
        if crowd.max() <= limit:
            break
        value = runs[name].value_counts(dropna=False, sort=True).index[0]
        some = runs[runs[name].isna() if pd.isna(value) else runs[name] == value]
        if len(some.groupby(list(axes), dropna=False).size()) == len(crowd):  # no cell becomes empty
            filters[name] = None if pd.isna(value) else value
            runs = some
    return filters


def _priority(name: str) -> int:
    if name in _LAST:
        return len(_PRIORITY) + 1
    for place, each in enumerate(_PRIORITY):
        if name == each or (each.endswith(".") and name.startswith(each)):
            return place
    return len(_PRIORITY)
