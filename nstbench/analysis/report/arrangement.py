"""How the grid of pictures is laid out at first: rows, columns and filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

# What a study is most likely about, first. A name that ends in a dot stands for all that begin with it.
_INTEREST = (
    "loss.style", "weights.style", "weights.", "loss.", "encoder.", "layers.", "optimizer.", "canvas.",
    "style", "content", "size", "steps", "schedule.",
)  # fmt: skip
_LAST = ("seed",)
_WIDEST = 8  # columns that still leave a picture room
_ACROSS = 9  # pictures side by side


@dataclass(frozen=True)
class Arrangement:
    """Rows, columns ("" for none), and the value that other settings are held at."""

    rows: str = ""
    columns: str = ""
    filters: dict[str, object] = field(default_factory=dict)


def arrange(runs: pd.DataFrame, settings: Sequence[str]) -> Arrangement:
    """Choose a layout in which pictures that belong beside each other stand beside each other.

    Args:
        runs: a row per run, a column per setting.
        settings: those that differ between runs.
    """
    by_interest = sorted(settings, key=_interest)
    if not by_interest:
        return Arrangement()
    rows, *others = by_interest
    columns = next((name for name in others if _crossed(runs, rows, name)), "")
    if not columns and others:  # settings changed one at a time
        return Arrangement(rows, "")
    if not columns:  # one line of pictures, or as many as are needed
        return Arrangement("", rows if runs[rows].nunique(dropna=False) <= _WIDEST else "")
    if _turned(runs, rows, columns):
        rows, columns = columns, rows
    rest = [name for name in by_interest if name not in (rows, columns)]
    limit = max(1, min(4, _ACROSS // runs[columns].nunique(dropna=False)))
    return Arrangement(rows, columns, _filters(runs, [rows, columns], rest, limit))


def _crossed(runs: pd.DataFrame, rows: str, columns: str) -> bool:
    """Tell whether a grid of two settings would have pictures in most of its cells."""
    cells = runs[rows].nunique(dropna=False) * runs[columns].nunique(dropna=False)
    return bool(3 * len(runs.groupby([rows, columns], dropna=False).size()) >= 2 * cells)


def _turned(runs: pd.DataFrame, rows: str, columns: str) -> bool:
    down, across = runs[rows].nunique(dropna=False), runs[columns].nunique(dropna=False)
    if down > _WIDEST or across > _WIDEST:
        return bool(across > down)
    numbers = [pd.api.types.is_numeric_dtype(runs[name]) for name in (rows, columns)]
    return numbers == [True, False]


def _filters(runs: pd.DataFrame, axes: Sequence[str], rest: Sequence[str], limit: int) -> dict[str, object]:
    """Hold settings at one value, the least interesting first, until few pictures share a cell."""
    filters: dict[str, object] = {}
    for name in reversed(rest):
        crowd = runs.groupby(list(axes), dropna=False).size()
        if crowd.max() <= limit:
            break
        value = runs[name].value_counts(dropna=False, sort=True).index[0]
        some = runs[runs[name].isna() if pd.isna(value) else runs[name] == value]
        if len(some.groupby(list(axes), dropna=False).size()) == len(crowd):  # no cell is lost
            filters[name] = None if pd.isna(value) else value
            runs = some
    return filters


def _interest(name: str) -> int:
    if name in _LAST:
        return len(_INTEREST) + 1
    for place, each in enumerate(_INTEREST):
        if name == each or (each.endswith(".") and name.startswith(each)):
            return place
    return len(_INTEREST)
