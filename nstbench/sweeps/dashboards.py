"""What a sweep came to, in the dashboards that its runs were logged to: a grid of pictures and a table."""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstbench.analysis.settings import Value, canonical, flatten, swept
from nstbench.sweeps.ledger import Entry
from nstbench.tracking.login import wandb_files_under, wandb_mode
from nstbench.tracking.record import RunRecord, write_text

if TYPE_CHECKING:
    from PIL.Image import Image

_THUMBNAIL = 128  # pixels
_COLUMNS = 12  # of the grid, at most, where several settings share them
_LONGEST = 2000  # pixels of the grid
_LABELLED = 100  # pictures of a plain sheet
_ASIDE = ("pictures.style", "pictures.content")


@dataclass(frozen=True)
class Run:
    """A finished run of a sweep: its record, its folder, and its settings that differ from others'."""

    record: RunRecord
    folder: Path
    settings: Mapping[str, Value]


def show_in_dashboards(entries: Iterable[Entry], loggers: Mapping[str, Mapping[str, Any]]) -> None:
    """Show each study of a sweep that has ended in its dashboards; trouble is a line on standard error.

    wandb has a run called ``sweep`` in the study's group, TensorBoard one called ``.sweep/tensorboard``.
    Nothing is written if what was shown last time is all there is to show; else it is replaced.

    Args:
        entries: of all runs of the sweep.
        loggers: the nodes of the setting ``logger``.
    """
    targets = {str(node.get("_target_", "")).rpartition(".")[2]: node for node in loggers.values()}
    shown = {"wandb_logger": _to_wandb, "tensorboard_logger": _to_tensorboard}
    if not shown.keys() & targets.keys():
        return
    for study, runs in _studies(entries).items():
        if len(runs) < 2:
            continue
        before = _memory(study)
        digest = _digest(runs)
        for name, show in shown.items():
            if name not in targets or before.get(name) == digest:
                continue
            try:
                before.setdefault("wandb_id", f"sweep-{secrets.token_hex(4)}")
                show(study, runs, targets[name], before["wandb_id"])
                before[name] = digest
                (study / ".sweep").mkdir(exist_ok=True)
                write_text(study / ".sweep" / "dashboards.json", json.dumps(before))
            except Exception as error:  # the sweep is done, whatever becomes of its views
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                what = name.removesuffix("_logger")
                print(f"nstbench: {what} does not show the sweep {study.name}: {reason}", file=sys.stderr)


def axes(runs: Sequence[Run]) -> dict[str, list[Value]]:
    """Return the swept settings and their values, those that tell most of a picture first."""
    names = list(runs[0].settings)
    first = [n for n in ("loss.style", *_ASIDE) if n in names]
    names = first + [n for n in names if n not in first]
    found = {}
    for name in names:
        values = list(dict.fromkeys(run.settings[name] for run in runs))
        if all(isinstance(value, int | float) for value in values):
            values.sort(key=float)
        found[name] = values
    return found


def grid(runs: Sequence[Run]) -> Image:
    """Draw the runs' pictures: rows by one setting, columns by others; or a plain sheet of all runs.

    The settings that find no place are shown at one value, which the title names. Where most cells would
    be empty, as in a search, every picture is labelled instead.
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
        (of[names[0]].index(row), columns.index(column)): _picture(run)
        for (row, column), run in chosen.items()
    }
    title = f"{runs[0].record.study}: {names[0]}" + (f" x {', '.join(across)}" if across else "")
    if fixed:
        title += "\n" + ", ".join(f"{name}={_text(value)}" for name, value in fixed.items())
    heads = ["\n".join(_text(value) for value in values) for values in columns]
    return table_of_pictures([_text(v) for v in of[names[0]]], heads, pictures, longest=_LONGEST, title=title)


def table(runs: Sequence[Run]) -> tuple[list[str], list[list[Value | None]]]:
    """Return the columns and rows of a table: swept settings, metrics, folder; None where there is none."""
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


def _studies(entries: Iterable[Entry]) -> dict[Path, list[Run]]:
    """Return the finished runs of each study, with what sets them apart in it."""
    records: dict[Path, dict[Path, RunRecord]] = {}
    for entry in sorted(entries, key=lambda e: e.number):
        if entry.state in {"completed", "skipped"} and entry.folder:
            folder = Path(entry.folder)
            record = RunRecord.read(folder)
            if record and (folder / "canvas.png").is_file():
                records.setdefault(folder.parent, {})[folder] = record
    studies = {}
    for study, of_study in records.items():
        settings = [_settings(record.config) for record in of_study.values()]
        apart = swept(settings)
        apart.sort(key=lambda name: name == "seed")
        studies[study] = [
            Run(record, folder, {name: each.get(name, "") for name in apart})
            for (folder, record), each in zip(of_study.items(), settings, strict=True)
        ]
    return studies


def _settings(config: Mapping[str, Any]) -> dict[str, Value]:
    pictures = config["pictures"]
    own = {f"pictures.{role}": canonical(pictures[role]) for role in ("style", "content")}
    return {**own, **flatten(config), "seed": canonical(config["seed"])}


def _memory(study: Path) -> dict[str, str]:
    """Return what was shown last time."""
    with suppress(OSError, ValueError):
        remembered = json.loads((study / ".sweep" / "dashboards.json").read_text())
        if isinstance(remembered, dict):
            return remembered
    return {}


def _digest(runs: Sequence[Run]) -> str:
    what = [[run.folder.name, dict(run.settings), run.record.metrics] for run in runs]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _to_wandb(study: Path, runs: Sequence[Run], node: Mapping[str, Any], run_id: str) -> None:
    import wandb

    names, rows = table(runs)
    mode = str(node.get("mode", "auto"))
    if mode == "auto":
        # As its runs went: they waited for a server that may not be in reach.
        kinds = sorted((study / "wandb").glob("*run-*"), key=lambda folder: folder.stat().st_mtime)
        mode = "offline" if kinds and kinds[-1].name.startswith("offline") else wandb_mode()
    for old in (study / "wandb").glob(f"offline-run-*-{run_id}"):
        shutil.rmtree(old)
        shutil.rmtree(study / "wandb" / ".data", ignore_errors=True)
    with (
        wandb_files_under(study / "wandb"),
        wandb.init(
            project=node.get("project"),
            entity=node.get("entity"),
            id=run_id,
            resume="allow" if mode == "online" else None,
            name="sweep",
            group=study.name,
            job_type="compare",
            config={"study": study.name, "runs": len(runs)},
            dir=str(study.absolute()),
            mode=mode,  # type: ignore[arg-type]
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", init_timeout=30.0),
        ) as run,
    ):
        columns = [[wandb.Image(_picture(each, _THUMBNAIL)) for each in runs]]
        columns += [_of_one_type(column) for column in zip(*rows, strict=True)]
        data = [list(row) for row in zip(*columns, strict=True)]
        filled = wandb.Table(columns=["picture", *names], data=data)
        run.log({"sweep/grid": wandb.Image(grid(runs)), "sweep/table": filled})


def _of_one_type(column: Sequence[Value | None]) -> list[Any]:
    """Return numbers as they are; words, or words among numbers, all as text: wandb takes no mixture."""
    if any(isinstance(value, str) for value in column):
        return [None if value is None else str(value) for value in column]
    return list(column)


def _to_tensorboard(study: Path, runs: Sequence[Run], node: Mapping[str, Any], run_id: str) -> None:
    import numpy as np
    from torch.utils.tensorboard import SummaryWriter

    folder = study / ".sweep" / "tensorboard"
    shutil.rmtree(folder, ignore_errors=True)
    with SummaryWriter(str(folder)) as writer:
        writer.add_image("sweep/grid", np.asarray(grid(runs)), dataformats="HWC")
        writer.add_text("sweep/table", markdown(runs))


def markdown(runs: Sequence[Run]) -> str:
    """Return the table in Markdown; of metrics with many parts, the one that sums them up."""
    names, rows = table(runs)
    several = {name for run in runs for name in run.record.metrics if "/" in name}
    kept = [i for i, name in enumerate(names) if name not in several or name.endswith("/others")]
    lines = [[names[i] for i in kept], ["---"] * len(kept)]
    lines += [[_text(row[i], digits=4).replace("|", "\\|") for i in kept] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _sheet(runs: Sequence[Run], names: Sequence[str]) -> Image:
    """Draw all pictures, each labelled with its settings."""
    from nstbench.pictures.io import read_picture, to_image
    from nstbench.pictures.sheet import contact_sheet

    title = runs[0].record.study
    if len(runs) > _LABELLED:
        title, runs = f"{title}: {_LABELLED} of {len(runs)} runs", runs[:_LABELLED]
    columns = math.ceil(math.sqrt(len(runs)))
    labels = ["\n".join(f"{n} {_label(n, run.settings[n])}" for n in names[:3]) for run in runs]
    pictures = [(label, read_picture(r.folder / "canvas.png")) for label, r in zip(labels, runs, strict=True)]
    # A cell takes a fourteenth more for the gap, and lines of a fifteenth each for the label.
    cell = min(256, max(16, int(0.7 * _LONGEST / columns)))
    return to_image(contact_sheet(pictures, columns=columns, cell=cell, title=title))


def _picture(run: Run, edge: int = 256) -> Image:
    from PIL import Image

    with Image.open(run.folder / "canvas.png") as picture:
        small = picture.convert("RGB")
    small.thumbnail((edge, edge))
    return small


def _label(name: str, value: Value) -> str:
    """Return a value as it is read at a glance: of a picture, its name alone."""
    text = _text(value, digits=4)
    return re.split(r"[:/\\]", text)[-1] if name in _ASIDE and not text.startswith("[") else text


def _text(value: Value | None, digits: int = 6) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else "" if value is None else str(value)
