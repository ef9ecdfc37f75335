"""Overview of the finished runs of a study: a grid of their pictures, and a table."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstbench.analysis.settings import Value, canonical, flatten, short_classes, short_names, swept
from nstbench.pictures.recorded import open_recorded_picture
from nstbench.tracking.record import RunRecord
from nstbench.tracking.record_files import inside, printable
from nstbench.tracking.record_schema import DamagedRecordError, read_record

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from PIL.Image import Image

_COLUMNS = 12  # largest number of columns of the grid if several settings vary over them
_LONGEST = 2000  # longer edge of the grid, in pixels
_LABELLED = 100  # largest number of pictures on a sheet
_PICTURE_SETTINGS = ("pictures.style", "pictures.content")


@dataclass(frozen=True)
class Run:
    """A finished run of a study: its record, its folder, and its settings that differ between runs."""

    record: RunRecord
    folder: Path
    settings: Mapping[str, Value]


def runs_of(study: Path, first: Sequence[Path] = ()) -> list[Run]:
    """Return the finished runs of a study.

    Args:
        study: Folder of the study.
        first: Folders of runs that precede the others, in this order.
    """
    from nstbench.analysis.records import picture_damage  # it imports pandas

    place = {folder.name: number for number, folder in enumerate(first)}
    folders = [file.parent for file in study.glob("*/run.json")]
    folders.sort(key=lambda folder: (place.get(folder.name, len(place)), folder.name))
    records = {}
    for folder in folders:
        try:
            record = read_record(study, folder, printable)
            damage = picture_damage(study, folder / "canvas.png") if record.state == "completed" else ""
        except (DamagedRecordError, FileNotFoundError) as error:
            log.warning("%s is left out: %s", printable(str(folder)), printable(str(error)))
            continue
        if damage:
            log.warning("%s is left out: canvas.png %s", printable(str(folder)), damage)
        elif record.state == "completed":
            records[folder] = record
    settings = [_settings(record.config) for record in records.values()]
    apart = short_names(sorted(swept(settings), key=lambda name: name == "seed"))
    classes = {
        name: short_classes({str(each[name]) for each in settings if name in each})
        for name in apart
        if name.endswith("._target_")
    }
    return [
        Run(
            record,
            folder,
            {short: _shown(each.get(name, ""), classes.get(name, {})) for name, short in apart.items()},
        )
        for (folder, record), each in zip(records.items(), settings, strict=True)
    ]


def axes(runs: Sequence[Run]) -> dict[str, list[Value]]:
    """Return the swept settings and their values, the style terms and the pictures first."""
    names = list(runs[0].settings)
    first = [n for n in ("loss.style", *_PICTURE_SETTINGS) if n in names]
    names = first + [n for n in names if n not in first]
    found = {}
    for name in names:
        values = list(dict.fromkeys(run.settings[name] for run in runs))
        if all(isinstance(value, int | float) for value in values):
            values.sort(key=float)
        found[name] = values
    return found


def grid(runs: Sequence[Run]) -> Image:
    """Draw the runs' pictures: rows by one setting, columns by others; or a contact sheet of all runs.

    Other settings are fixed at one value, which the title names. If most cells would be empty, as
    in a search, a contact sheet with a label for each picture is drawn instead.
    """
    from nstbench.pictures.sheet import table_of_pictures

    of = axes(runs)
    names = list(of)
    if not names:
        return _sheet(runs, names)
    across = [names[1]] if len(names) > 1 else []
    for name in names[2:]:
        if math.prod(len(of[n]) for n in [*across, name]) <= _COLUMNS and name != "seed":
            across.append(name)
    fixed = {n: of[n][0] for n in names[1:] if n not in across}
    columns = list(product(*(of[n] for n in across)))
    chosen = {
        (run.settings[names[0]], tuple(run.settings[n] for n in across)): run
        for run in reversed(runs)
        if all(run.settings[n] == value for n, value in fixed.items())
    }
    if 2 * len(chosen) < len(of[names[0]]) * len(columns) or len(of[names[0]]) > 60 or len(columns) > 30:
        return _sheet(runs, names)
    pictures = {
        (of[names[0]].index(row), columns.index(column)): picture(run)
        for (row, column), run in chosen.items()
    }
    title = f"{runs[0].record.study}: {names[0]}" + (f" x {', '.join(across)}" if across else "")
    if fixed:
        title += "\n" + ", ".join(f"{name}={_text(value)}" for name, value in fixed.items())
    heads = ["\n".join(_text(value) for value in values) for values in columns]
    return table_of_pictures([_text(v) for v in of[names[0]]], heads, pictures, longest=_LONGEST, title=title)


def table(runs: Sequence[Run]) -> tuple[list[str], list[list[Value | None]]]:
    """Return the columns and rows of a table: swept settings, metrics, folder; None for missing values."""
    names = list(axes(runs))
    metrics = list(dict.fromkeys(name for run in runs for name in run.record.metrics))
    rows = [
        [
            *(run.settings[name] for name in names),
            *(run.record.metrics.get(name) for name in metrics),
            run.folder.name,
        ]
        for run in runs
    ]
    return [*names, *metrics, "run"], rows


def markdown(runs: Sequence[Run]) -> str:
    """Return the table in Markdown; of metrics with many parts, the mean ``others``."""
    names, rows = table(runs)
    several = {name for run in runs for name in run.record.metrics if "/" in name}
    kept = [i for i, name in enumerate(names) if name not in several or name.endswith("/others")]
    lines = [[names[i] for i in kept], ["---"] * len(kept)]
    lines += [[_text(row[i], digits=4).replace("|", "\\|") for i in kept] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def picture(run: Run, edge: int = 256) -> Image:
    """Return a run's picture, no side longer than ``edge`` pixels."""
    from PIL import Image

    try:
        small = open_recorded_picture(inside(run.folder.parent, run.folder / "canvas.png"))
    except (OSError, ValueError) as error:
        log.warning("%s has no picture: %s", printable(str(run.folder)), printable(str(error)))
        return Image.new("RGB", (edge, edge), "grey")
    small.thumbnail((edge, edge))
    return small


def _settings(config: Mapping[str, Any]) -> dict[str, Value]:
    pictures = config["pictures"]
    own = {f"pictures.{role}": canonical(pictures[role]) for role in ("style", "content")}
    return {**own, **flatten(config), "seed": canonical(config["seed"])}


def _shown(value: Value, classes: Mapping[str, str]) -> Value:
    return classes.get(value, value) if isinstance(value, str) else value


def _sheet(runs: Sequence[Run], names: Sequence[str]) -> Image:
    """Draw all pictures, each labelled with its settings."""
    import numpy as np
    import torch

    from nstbench.pictures.io import to_image
    from nstbench.pictures.sheet import contact_sheet

    title = runs[0].record.study
    if len(runs) > _LABELLED:
        title, runs = f"{title}: {_LABELLED} of {len(runs)} runs", runs[:_LABELLED]
    columns = math.ceil(math.sqrt(len(runs)))
    labels = ["\n".join(f"{n} {_label(n, run.settings[n])}" for n in names[:3]) for run in runs]
    # Besides a cell, the gap takes 1/14 of its side, and each line of the label 1/15.
    cell = min(256, max(16, int(0.7 * _LONGEST / columns)))
    pictures = []
    for label, run in zip(labels, runs, strict=True):
        levels = np.asarray(picture(run, 2 * cell), dtype=np.float32).transpose(2, 0, 1)
        pictures.append((label, torch.from_numpy(levels / 255)[None]))
    return to_image(contact_sheet(pictures, columns=columns, cell=cell, title=title))


def _label(name: str, value: Value) -> str:
    """Return a value as a label: of a picture, its name alone."""
    text = _text(value, digits=4)
    return re.split(r"[:/\\]", text)[-1] if name in _PICTURE_SETTINGS and not text.startswith("[") else text


def _text(value: Value | None, digits: int = 6) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else "" if value is None else str(value)
