"""Loss curves, thinned for drawing."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

POINTS = 100

Curve = dict[str, list[float | None]]
"""Columns of equal length: ``evaluation``, ``seconds``, ``total``, a role's sum, and each of its terms."""


def thinned(path: Path, points: int = POINTS) -> Curve | None:
    """Read a run's ``curves.csv``: at most about ``points`` of its rows, more of them at the start.

    A role's value (``content``, ``style``, ``regularizer``) is the sum of its weighted terms; a term of its
    own (``style/gram``) is there where the role has several. None where there is nothing to draw.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    if len(lines) < 2:
        return None
    header = next(csv.reader(lines[:1]))
    kept = csv.reader(lines[1 + k] for k in _places(len(lines) - 1, points))
    rows = [row for row in kept if len(row) == len(header)]  # the last one may be in the making
    columns = {name: [_number(row[place]) for row in rows] for place, name in enumerate(header)}
    if not rows or "evaluation" not in columns or "loss/total" not in columns:
        return None
    curve: Curve = {"evaluation": columns["evaluation"], "total": columns["loss/total"]}
    if "seconds" in columns:
        curve["seconds"] = columns["seconds"]
    for role in ("content", "style", "regularizer"):
        terms = [name for name in header if name.startswith(f"loss/{role}/")]
        if terms:
            curve[role] = [_total([columns[t][k] for t in terms]) for k in range(len(rows))]
        if len(terms) > 1:
            curve |= {name.removeprefix("loss/"): columns[name] for name in terms}
    return curve


def _places(rows: int, points: int) -> list[int]:
    """Return which rows to keep: half spread evenly, half crowded at the start, where losses fall fast."""
    if rows <= points:
        return list(range(rows))
    half = points // 2
    even = (round(k * (rows - 1) / (half - 1)) for k in range(half))
    early = (round(rows ** (k / half)) - 1 for k in range(half))
    return sorted({*even, *early})


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(f"{sum(known):.5g}") if len(known) == len(values) else None
