"""Loss curves, thinned for drawing."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from nstbench.tracking.record_files import MIB, read_inside, reason_of

POINTS = 100
_MOST_BYTES = 64 * MIB
_LONGEST_LINE = 2**16
_LARGEST = 1e60

Curve = dict[str, list[float | None]]
"""Columns of equal length: ``evaluation``, ``seconds``, ``total``, the sum of each role, and its terms."""


def thinned(path: Path, points: int = POINTS, *, study: Path | None = None) -> Curve | None:
    """Read a run's ``curves.csv``: at most about ``points`` of its rows, more of them at the start.

    A role's value (``content``, ``style``, ``regularizer``) is the sum of its weighted terms; if the role
    has several, each is returned too (``style/gram``). None if there is no row yet.

    Args:
        path: Path of the file.
        points: Number of rows.
        study: Folder that must contain the file, also if it is a link; its own folder by default.

    Raises:
        ValueError: If it cannot be read, or has no valid row; the message is the reason, as a clause.
    """
    try:
        data = read_inside(study or path.parent, path, _MOST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"it cannot be read: {reason_of(error)}") from error
    lines = data.decode("utf-8", errors="replace").split("\n")[:-1]  # the last one may be incomplete
    if not lines:
        return None
    header = _cells(lines[0])
    if header is None or not {"evaluation", "loss/total"} <= set(header):
        raise ValueError("its first line does not name the columns evaluation and loss/total")
    found = (_cells(lines[1 + k]) for k in _places(len(lines) - 1, points))
    rows = [[_number(cell) for cell in row] for row in found if row and len(row) == len(header)]
    evaluation = header.index("evaluation")
    rows = [row for row in rows if row[evaluation] is not None]
    if not rows and len(lines) > 1:
        raise ValueError("it has no valid row")
    columns = {name: [row[place] for row in rows] for place, name in enumerate(header)}
    if not rows:
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
    """Return the rows to keep: half evenly spaced, half dense at the start, where losses fall fast."""
    if rows <= points:
        return list(range(rows))
    half = points // 2
    even = (round(k * (rows - 1) / (half - 1)) for k in range(half))
    early = (round(rows ** (k / half)) - 1 for k in range(half))
    return sorted({*even, *early})


def _cells(line: str) -> list[str] | None:
    if len(line) > _LONGEST_LINE:
        return None
    try:
        return next(csv.reader([line]), None)
    except csv.Error:
        return None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    # Sums of larger numbers could be infinite; NaN is excluded, too.
    return float(f"{value:.5g}") if abs(value) < _LARGEST else None


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(f"{sum(known):.5g}") if len(known) == len(values) else None
