"""Reading the records of a study into a table with a row for each run."""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from nstbench.analysis.settings import Value, canonical, flatten, swept, terms
from nstbench.errors import UserError, as_typed, did_you_mean
from nstbench.tracking.record import Direction, RunRecord
from nstbench.tracking.record_files import inside, open_inside, printable, reason_of
from nstbench.tracking.record_schema import DamagedRecordError, read_record

STATES = ("completed", "running", "failed")
RESULT = "comparison.csv"
RESULTS = (RESULT, "data-curves.js")
"""Files that only the folder of a comparison or a report has, not that of a run."""

# Columns of tables, which no setting of an untrusted configuration may replace.
_NO_SETTINGS = frozenset(
    {
        "run_id",
        "folder",
        "state",
        "error",
        "content",
        "style",
        "evaluations",
        "seconds",
        "of",
        "point",
        "judge",
    }
)
_MOST_SETTINGS = 1_000  # a run has some 70; the time to find those that differ grows with the square
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


class Damaged(NamedTuple):
    """An entry of the study folder that is not a valid record of a run."""

    path: str
    reason: str


@dataclass(frozen=True)
class Study:
    """The records of a study.

    Attributes:
        folder: Folder of the study.
        records: Record of each run, in the order of the rows; its texts are printable.
        paths: Folder of each run.
        runs: Table with a row for each run: run_id, folder, state, error, content, style, seed, size,
            steps, evaluations, seconds, ``loss.style``, every other swept setting by its dotted name,
            ``metric/<name>``.
        settings: Names of the swept settings, without content, style and seed.
        metric_settings: Table of the same rows with, for each metric, a number for its settings in that
            run, to distinguish values that were computed differently.
        directions: Direction of each metric, if all completed runs that recorded one agree.
        unavailable: Reason why runs have no value, by metric.
        damaged: Entries that were left out.
    """

    folder: Path
    records: tuple[RunRecord, ...]
    paths: tuple[Path, ...]
    runs: pd.DataFrame
    settings: tuple[str, ...]
    metric_settings: pd.DataFrame
    directions: Mapping[str, Direction]
    unavailable: Mapping[str, str]
    damaged: tuple[Damaged, ...]

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics that have a value in a completed run."""
        completed = self.runs[self.runs["state"] == "completed"].dropna(axis=1, how="all")
        return [c.removeprefix("metric/") for c in completed if c.startswith("metric/")]


def read_study(folder: Path) -> Study:
    """Read all run records in a study folder.

    Raises:
        UserError: If there is no such folder, it cannot be read, or it is the folder of a run.
    """
    found: list[tuple[Path, RunRecord]] = []
    damaged = []
    name_by_fingerprint: dict[str, str] = {}
    for entry in _entries(folder):
        name = _name(entry)
        try:
            record = _record(folder, entry)
            if record is None:
                continue
            first = name_by_fingerprint.setdefault(record.fingerprint or name, name)
            if first != name:
                raise DamagedRecordError(f"a copy of {first}")
        except DamagedRecordError as error:
            damaged.append(Damaged(name, printable(str(error))))
        else:
            found.append((entry, record))
    rows = [_row(record, path) for path, record in found]
    settings = [row.pop("settings") for row in rows]
    names = [n for n in swept(settings) if n not in _NO_SETTINGS and not n.startswith(("metric/", "judge "))]
    records = [record for _, record in found]
    return Study(
        folder=folder,
        records=tuple(records),
        paths=tuple(path for path, _ in found),
        runs=_table(rows, settings, names),
        settings=tuple(names),
        metric_settings=_metric_settings(records),
        directions=_directions(records),
        unavailable={name: why for record in records for name, why in record.unavailable_metrics.items()},
        damaged=tuple(damaged),
    )


def _entries(folder: Path) -> list[Path]:
    try:
        entries = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except FileNotFoundError as error:
        around = folder.parent.glob("[!.]*/") if folder.parent.is_dir() else ()
        hint = did_you_mean(folder.name, sorted(p.name for p in around), what="folders")
        raise UserError("STUDY", folder, "there is no such folder", hint) from error
    except OSError as error:
        hint = "Type the folder of a study: it holds a folder for each run."
        raise UserError("STUDY", folder, f"it cannot be read ({error.strerror or error})", hint) from error
    if os.path.lexists(folder / "run.json"):
        raise UserError("STUDY", folder, "it is the folder of one run", f"Type its study: {folder.parent}")
    return entries


def _record(study: Path, folder: Path) -> RunRecord | None:
    """Return the record of a run's folder; None for the folder of a comparison, a report or wandb.

    Raises:
        DamagedRecordError: If there is none, or it or its picture is damaged.
    """
    try:
        if not inside(study, folder).is_dir():
            raise DamagedRecordError("a file, not the folder of a run")
    except OSError as error:
        raise DamagedRecordError(f"it cannot be read: {reason_of(error)}") from error
    if folder.name == "wandb":
        return None
    try:
        record = read_record(study, folder, printable)
    except FileNotFoundError:
        if any((folder / name).is_file() for name in RESULTS):
            return None
        raise DamagedRecordError("there is no run.json in it") from None
    if (number := len(flatten(record.config))) > _MOST_SETTINGS:
        raise DamagedRecordError(f"run.json is not a run's record: its configuration has {number} settings")
    if record.state == "completed" and (damage := picture_damage(study, folder / "canvas.png")):
        raise DamagedRecordError(f"canvas.png {damage}")
    return record


def _row(record: RunRecord, folder: Path) -> dict[str, Any]:
    """Return the values of a run for the table."""
    config, inputs = record.config, record.inputs
    settings = flatten(config)
    for name in ("weights", "start"):  # another file may have the same name
        settings[f"inputs.{name}"] = canonical(inputs.get(name))
    return {
        "run_id": record.run_id,
        "folder": _name(folder),
        "state": record.state,
        "error": record.error,
        "content": canonical(config["pictures"]["content"]),
        "style": canonical(config["pictures"]["style"]),
        "hashes": {"content": as_typed(inputs.get("content")), "style": as_typed(inputs.get("style"))},
        "seed": canonical(config["seed"]),
        "size": config.get("size"),
        "steps": config.get("steps"),
        "evaluations": record.evaluations,
        "seconds": record.timings.get("optimize_s", math.nan),
        "loss.style": terms(config, "loss.style"),
        "metrics": record.metrics,
        "settings": settings,
    }


def picture_damage(study: Path, path: Path) -> str:
    """Return what is wrong with a PNG file, from its first and last bytes; "" if nothing is."""
    try:
        with open_inside(study, path) as file:
            start = file.read(len(_PNG_START))
            file.seek(max(0, os.fstat(file.fileno()).st_size - len(_PNG_END)))
            end = file.read(len(_PNG_END))
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {reason_of(error)}"
    if not start:
        return "is empty"
    if start != _PNG_START:
        return "is not a PNG"
    return "" if end == _PNG_END else "is truncated"


def _name(path: Path) -> str:
    return printable(path.name)  # names of files may be no valid text


def _metric_settings(records: Sequence[RunRecord]) -> pd.DataFrame:
    """Number the settings of each metric."""
    numbers: dict[str, int] = {}
    rows = []
    for record in records:
        number = {
            name: numbers.setdefault(json.dumps(node, sort_keys=True), len(numbers))
            for name, node in record.config["metrics"].items()
        }
        rows.append({name: number.get(name.split("/")[0], -1) for name in record.metrics})
    return pd.DataFrame(rows)


def _directions(records: Sequence[RunRecord]) -> dict[str, Direction]:
    """Return the direction of each metric on which all completed runs that record one agree."""
    found: dict[str, set[Direction]] = {}
    for record in records:
        if record.state == "completed":
            for name, direction in record.directions.items():
                found.setdefault(name, set()).add(direction)
    return {name: directions.pop() for name, directions in found.items() if len(directions) == 1}


def _table(
    records: Sequence[dict[str, Any]], settings: Sequence[Mapping[str, Value]], names: Sequence[str]
) -> pd.DataFrame:
    _mark_namesakes(records)
    as_recorded = ("run_id", "folder", "state", "error")
    as_set = ("content", "style", "seed", "size", "steps")
    columns = {name: [record[name] for record in records] for name in as_recorded}
    columns |= {name: _column([record[name] for record in records]) for name in as_set}
    columns |= {name: [record[name] for record in records] for name in ("evaluations", "seconds")}
    columns["loss.style"] = [record["loss.style"] for record in records]
    for name in names:
        columns[name] = _column([each.get(name) for each in settings])
    metrics = dict.fromkeys(name for record in records for name in record["metrics"])
    for name in metrics:
        columns[f"metric/{name}"] = [record["metrics"].get(name, float("nan")) for record in records]
    return pd.DataFrame(columns)


def _column(values: list[Value | None]) -> list[Value | None]:
    """Return a column of numbers unchanged, else all values as text."""
    if any(isinstance(value, str) for value in values):
        return [None if value is None else as_typed(value) for value in values]
    return values


def _mark_namesakes(records: Sequence[dict[str, Any]]) -> None:
    """Add a part of the hash to the names of different pictures that have one name."""
    for role in ("content", "style"):
        hashes = defaultdict(set)
        for record in records:
            hashes[record[role]].add(record["hashes"][role])
        for record in records:
            if len(hashes[record[role]]) > 1:
                record[role] = f"{record[role]}#{record['hashes'][role].strip('[')[:8]}"
