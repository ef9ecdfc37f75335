"""The contents of a study's page, as plain data."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import pandas as pd

from nstbench.analysis import criteria
from nstbench.analysis.grouping import known_settings
from nstbench.analysis.judges import judges
from nstbench.analysis.records import Damaged, Study
from nstbench.analysis.report import commands
from nstbench.analysis.report.arrangement import arrange
from nstbench.analysis.report.pictures import NO_PICTURE, Copy, Pictures, sources_of
from nstbench.analysis.settings import short_classes, short_names
from nstbench.errors import UserError

_PICTURES = ("content", "style")


@dataclass(frozen=True)
class Content:
    """The data of the page's scripts, the copies of pictures that it names, and the damaged files."""

    data: dict[str, Any]
    copies: tuple[Copy, ...]
    damaged: tuple[Damaged, ...]


def settings_of(study: Study) -> list[str]:
    """Return the names of all settings that differ between runs, with pictures and seed."""
    return [] if study.runs.empty else known_settings(study)


def build(study: Study, pictures: Pictures) -> Content:
    """Return the contents of the grid, the table and the dialog, and make copies of new pictures."""
    names = settings_of(study)
    shown = {"": "", **short_names(names)}
    settings = [{**_setting(name, study.runs[name]), "name": shown[name]} for name in names]
    records, files = study.records, [path / "canvas.png" for path in study.paths]
    canvases = pictures.of_canvases(files)
    sources = [sources_of(record) for record in records]
    inputs = pictures.of_inputs(each for of in sources for role in _PICTURES for each in of[role])
    metrics = study.metrics
    rows = study.runs.to_dict("records")
    repeat = [commands.of_run(record) for record in records]
    times = Counter(repeat)  # a command of several runs does not repeat a single one
    runs = []
    for row, record, file, of, command in zip(rows, records, files, sources, repeat, strict=True):
        canvas = canvases[file]
        runs.append(
            {
                "name": row["folder"],
                "state": row["state"],
                "error": row["error"] if isinstance(row["error"], str) else "",
                "at": [
                    setting["values"].index(_plain(row[name]))
                    for name, setting in zip(names, settings, strict=True)
                ],
                "metrics": [_rounded(row[f"metric/{name}"]) for name in metrics],
                "losses": {
                    name.removeprefix("loss/"): _rounded(value)
                    for name, value in record.final_losses.items()
                    if name.startswith("loss/")
                },
                "evaluations": row["evaluations"],
                "seconds": _rounded(row["seconds"]),
                "device": record.device,
                "picture": canvas.name if isinstance(canvas, Copy) else None,
                "content": [each.sha256 for each in of["content"]],
                "style": [each.sha256 for each in of["style"]],
                "command": command if times[command] == 1 else "",
            }
        )
    arrangement = arrange(study.runs, names)
    data = {
        "study": study.folder.resolve().name,
        "folder": str(study.folder),
        "settings": settings,
        "metrics": [_metric(study, name) for name in metrics],
        "shown": _shown(study),
        "start": {
            "rows": shown[arrangement.rows],
            "columns": shown[arrangement.columns],
            "filters": {
                shown[name]: settings[names.index(name)]["values"].index(_plain(value))
                for name, value in arrangement.filters.items()
            },
        },
        "inputs": {
            sha: {
                "picture": copy.name if isinstance(copy, Copy) else None,
                "reason": "" if isinstance(copy, Copy) else copy,
                "label": label,
            }
            for sha, copy, label in _labelled(inputs, sources)
        },
        "runs": runs,
    }
    copies = [copy for copy in (*canvases.values(), *inputs.values()) if isinstance(copy, Copy)]
    damaged = [
        Damaged(f"{row['folder']}/canvas.png", reason)
        for row, file in zip(rows, files, strict=True)
        if isinstance(reason := canvases[file], str) and reason != NO_PICTURE
    ]
    return Content(data, tuple(copies), tuple(damaged))


def same_in_all(study: Study) -> list[tuple[str, str]]:
    """Return the names and values of the main settings that are equal in all runs."""
    if not study.records:
        return []
    config, swept = study.records[0].config, settings_of(study)
    shown = [(name, _short(name, str(study.runs[name].iloc[0]))) for name in _PICTURES if name not in swept]
    if "loss.style" not in swept:
        shown.append(("formulation", str(study.runs["loss.style"].iloc[0])))
    for name, unit in (("size", " px"), ("steps", "")):
        if name not in swept and config.get(name) is not None:
            shown.append((name, f"{config[name]}{unit}"))
    for name in ("encoder", "optimizer"):
        node = config.get(name, {})
        if f"{name}._target_" not in swept and node.get("_target_"):
            shown.append((name, str(node["_target_"]).rpartition(".")[2]))
    if "weights.unit" not in swept and "weights" in config:
        shown.append(("unit of weights", str(config["weights"].get("unit"))))
    described = {words for name in study.metrics for words in judges(study, name)}
    if len(described) == 1:  # otherwise the page says that a metric was computed in several ways
        shown.append(("judge", described.pop()))
    return shown


def _setting(name: str, column: pd.Series) -> dict[str, Any]:
    values = sorted({_plain(value) for value in column}, key=_order)
    labels = ["(none)" if value is None else _short(name, str(value)) for value in values]
    if len(set(labels)) < len(values):  # two files of one name in different folders
        labels = ["(none)" if value is None else str(value) for value in values]
    numeric = all(value is None or isinstance(value, int | float) for value in values)
    return {"name": name, "values": values, "labels": labels, "numeric": numeric}


def _short(name: str, value: str) -> str:
    """Return ``astronaut`` for ``sample:astronaut``, ``cat.jpg`` for a path, ``Adam`` for its class."""
    if name.endswith("._target_"):
        return short_classes([value])[value]
    if name not in _PICTURES or value.startswith(("[", "{")):
        return value
    kind, colon, rest = value.partition(":")
    return rest if colon and kind in ("sample", "procedural", "paper") else PurePath(value).name or value


def _labelled(
    inputs: Mapping[str, Copy | str], sources: Sequence[Mapping[str, Sequence[Any]]]
) -> list[tuple[str, Copy | str, str]]:
    label = {each.sha256: _short(role, each.source) for of in sources for role in of for each in of[role]}
    return [(sha, copy, label[sha]) for sha, copy in inputs.items()]


def _plain(value: Any) -> str | int | float | None:
    """Return a value for JSON: None for NaN, and 2 for 2.0, as integers in columns with gaps are floats."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return value
    number = float(value)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _order(value: str | int | float | None) -> tuple[Any, ...]:
    if value is None:
        return (2,)
    if isinstance(value, str):  # relu2_1 before relu10_1
        return (
            1,
            *[(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in _DIGITS.split(value)],
        )
    return (0, value)


_DIGITS = re.compile(r"(\d+)", re.ASCII)


def _rounded(value: Any) -> float | None:
    return float(f"{value:.6g}") if isinstance(value, int | float) and math.isfinite(value) else None


def _metric(study: Study, name: str) -> dict[str, Any]:
    try:
        better = "higher" if criteria.higher_is_better(study, name) else "lower"
    except UserError:
        better = ""
    completed = study.runs["state"] == "completed"
    variants = (
        study.metric_settings.loc[completed, name].dropna().nunique() if name in study.metric_settings else 1
    )
    return {"name": name, "better": better, "mixed": bool(variants > 1)}


def _shown(study: Study) -> list[str]:
    try:
        return criteria.choose(study, None)
    except UserError:
        return []
