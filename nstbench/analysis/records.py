"""A study folder as a table: a row per run."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from nstbench.analysis.settings import Value, canonical, flatten, swept, terms
from nstbench.errors import UserError, as_typed, did_you_mean

STATES = ("completed", "running", "failed")
RESULT = "comparison.csv"
RESULTS = (RESULT, "data-curves.js")
"""A folder with one of these files in it is a result of ours, a comparison or a report, not a run."""

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


class Damaged(NamedTuple):
    """Something in the study folder that is not a run's sound record."""

    path: str
    reason: str


@dataclass(frozen=True)
class Study:
    """The records of a study.

    Attributes:
        folder: where they were read.
        runs: a row per run: run_id, folder, state, error, content, style, seed, size, steps, evaluations,
            seconds, ``loss.style``, every other swept setting by its dotted name, ``metric/<name>``.
        settings: names of the swept settings; content, style and seed are not among them.
        judges: of the same rows; per metric, a number for the settings of the metric in that run, by
            which values can be told that were computed in different ways.
        nodes: per metric, its node in the configuration of a run that has it.
        unavailable: per metric, why runs have no value of it.
        damaged: what was left out.
    """

    folder: Path
    runs: pd.DataFrame
    settings: tuple[str, ...]
    judges: pd.DataFrame
    nodes: Mapping[str, Mapping[str, Any]]
    unavailable: Mapping[str, str]
    damaged: tuple[Damaged, ...]

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics of which a completed run has a value."""
        of_completed = self.runs[self.runs["state"] == "completed"].dropna(axis=1, how="all")
        return [c.removeprefix("metric/") for c in of_completed if c.startswith("metric/")]


def read_study(folder: Path) -> Study:
    """Read all run records below a study folder.

    Raises:
        UserError: there is no such folder, it cannot be read, or it is a single run's.
    """
    entries = _entries(folder)
    records, damaged = [], []
    of_fingerprint: dict[str, str] = {}
    for entry in entries:
        found = _record(entry)
        if isinstance(found, str):
            damaged.append(Damaged(_name(entry), found))
        elif found and (first := of_fingerprint.setdefault(found["fingerprint"], _name(entry))) != _name(
            entry
        ):
            damaged.append(Damaged(_name(entry), f"a copy of {first}"))
        elif found:
            records.append(found)
    settings = [record.pop("settings") for record in records]
    names = swept(settings)
    judges, nodes = _judges(records)
    unavailable: dict[str, str] = {}
    for record in records:
        unavailable.update(record.pop("unavailable"))
    return Study(
        folder=folder,
        runs=_table(records, settings, names),
        settings=tuple(names),
        judges=judges,
        nodes=nodes,
        unavailable=unavailable,
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
        hint = "Give the folder of a study: it holds a folder for each run."
        raise UserError("STUDY", folder, f"it cannot be read ({error.strerror or error})", hint) from error
    if (folder / "run.json").is_file():
        raise UserError("STUDY", folder, "it is the folder of one run", f"Give its study: {folder.parent}")
    return entries


def _record(folder: Path) -> dict[str, Any] | str | None:
    """Return what the table needs of a run; the reason if that cannot be had; None for results of ours."""
    if not folder.is_dir():
        return "a file, not the folder of a run"
    if folder.name == "wandb":
        return None
    try:
        if (folder / "run.json").is_fifo():
            return "run.json cannot be read: it is a pipe"  # to open it would wait for ever
        text = (folder / "run.json").read_bytes()
        data = json.loads(text)
        if b"\\ud" in text:  # names of files need not be text, and tables must be
            data = json.loads(json.dumps(data, ensure_ascii=False).encode(errors="replace"))
    except FileNotFoundError:
        ours = any((folder / name).is_file() for name in RESULTS)
        return None if ours else "there is no run.json in it"
    except (OSError, ValueError, RecursionError) as error:
        return f"run.json cannot be read: {error}"
    try:
        return _row(data, folder)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        return f"run.json is not a run's record: {_what_lacks(error)}"


def _row(data: Mapping[str, Any], folder: Path) -> dict[str, Any] | str:
    config, inputs = data["config"], data.get("inputs") or {}
    if data["state"] not in STATES:
        return f"run.json is not a run's record: its state is {as_typed(data['state'])}"
    if data["state"] == "completed" and (lacks := picture_lacks(folder / "canvas.png")):
        return f"canvas.png {lacks}"
    settings = flatten(config)
    for name in ("weights", "start"):  # a file may be another one under the same name
        settings[f"inputs.{name}"] = canonical(inputs.get(name))
    return {
        "run_id": str(data["run_id"]),
        "folder": _name(folder),
        "state": data["state"],
        "error": None if data.get("error") is None else str(data["error"]),
        "fingerprint": str(data.get("fingerprint") or _name(folder)),
        "content": canonical(config["pictures"]["content"]),
        "style": canonical(config["pictures"]["style"]),
        "hashes": {"content": as_typed(inputs.get("content")), "style": as_typed(inputs.get("style"))},
        "seed": canonical(config["seed"]),
        "size": config.get("size"),
        "steps": config.get("steps"),
        "evaluations": int(data.get("evaluations") or 0),
        "seconds": float((data.get("timings") or {}).get("optimize_s", "nan")),
        "loss.style": terms(config, "loss.style"),
        "metrics": {name: float(value) for name, value in (data.get("metrics") or {}).items()},
        "nodes": dict(config.get("metrics") or {}),
        "unavailable": dict(data.get("unavailable_metrics") or {}),
        "settings": settings,
    }


def picture_lacks(path: Path) -> str:
    """Return what is wrong with a PNG file as far as both its ends tell; nothing if it is whole."""
    if not path.is_file():
        return "is missing"
    try:
        with path.open("rb") as file:
            start = file.read(len(_PNG_START))
            file.seek(max(0, path.stat().st_size - len(_PNG_END)))
            end = file.read()
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    if not start:
        return "is empty"
    if start != _PNG_START:
        return "is no PNG picture"
    return "" if end == _PNG_END else "is cut off"


def _name(path: Path) -> str:
    return path.name.encode(errors="replace").decode()  # names of files need not be text


def _what_lacks(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


def _judges(records: Sequence[dict[str, Any]]) -> tuple[pd.DataFrame, dict[str, Mapping[str, Any]]]:
    """Number the settings of each metric, and take the nodes out of the records."""
    numbers: dict[str, int] = {}
    nodes: dict[str, Mapping[str, Any]] = {}
    rows = []
    for record in records:
        of_run = record.pop("nodes")
        number = {
            name: numbers.setdefault(json.dumps(node, sort_keys=True), len(numbers))
            for name, node in of_run.items()
        }
        rows.append({name: number.get(name.split("/")[0], -1) for name in record["metrics"]})
        for name in record["metrics"]:
            if isinstance(node := of_run.get(name.split("/")[0]), Mapping):
                nodes.setdefault(name, node)
    return pd.DataFrame(rows), nodes


def _table(
    records: Sequence[dict[str, Any]], settings: Sequence[Mapping[str, Value]], names: Sequence[str]
) -> pd.DataFrame:
    _tell_apart(records)
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
    """Return numbers as they are; words, or words among numbers, all as text."""
    if any(isinstance(value, str) for value in values):
        return [None if value is None else as_typed(value) for value in values]
    return values


def _tell_apart(records: Sequence[dict[str, Any]]) -> None:
    """Mark pictures that have one name but are different files."""
    for role in ("content", "style"):
        hashes = defaultdict(set)
        for record in records:
            hashes[record[role]].add(record["hashes"][role])
        for record in records:
            if len(hashes[record[role]]) > 1:
                record[role] = f"{record[role]}#{record['hashes'][role].strip('[')[:8]}"
