"""The results of a sweep in the dashboards of its runs: a grid of pictures and a table."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from nstbench.analysis.overview import Run, grid, markdown, picture, runs_of, table
from nstbench.analysis.settings import Value
from nstbench.runtime.files import write_text
from nstbench.tracking.ledger import Entry
from nstbench.tracking.lock import BusyError, alone_in
from nstbench.tracking.wandb_login import wandb_files_under, wandb_mode
from nstbench.tracking.writer_threads import silence_writer_threads

_THUMBNAIL = 128  # pixels
_TIMEOUT = 120.0  # seconds to wait for another sweep that shows the study


def show_in_dashboards(entries: Iterable[Entry], loggers: Mapping[str, Mapping[str, Any]]) -> None:
    """Show each study of a sweep that has ended in its dashboards; print errors on standard error.

    All finished runs of the study are shown, of all its sweeps.
    wandb has a run called ``sweep`` in the study's group, TensorBoard one called ``.sweep/tensorboard``.
    It is replaced if anything has changed since the last time.

    Args:
        entries: Ledger entries of all runs of the sweep.
        loggers: Nodes of the setting ``logger``.
    """
    targets = {str(node.get("_target_", "")).rpartition(".")[2]: node for node in loggers.values()}
    shown = {"wandb_logger": _to_wandb, "tensorboard_logger": _to_tensorboard}
    if not shown.keys() & targets.keys():
        return
    dashboards = {name: (show, targets[name]) for name, show in shown.items() if name in targets}
    for study, first in _studies(entries).items():
        if len(list(study.glob("*/run.json"))) < 2:
            continue
        try:
            with _lock(study):
                runs = runs_of(study, first)  # read after waiting, as more runs may have ended
                if len(runs) > 1:
                    _show(study, runs, dashboards)
        except Exception as error:  # the sweep has ended: errors of dashboards must not make it fail
            print(f"nstbench: no dashboard shows the sweep {study.name}: {_line(error)}", file=sys.stderr)


def _show(study: Path, runs: Sequence[Run], dashboards: Mapping[str, tuple[Any, Mapping[str, Any]]]) -> None:
    before = _last_shown(study)
    digest = _digest(runs)
    for name, (show, node) in dashboards.items():
        if before.get(name) == digest:
            continue
        try:
            before.setdefault("wandb_id", f"sweep-{secrets.token_hex(4)}")
            show(study, runs, node, before["wandb_id"])
            before[name] = digest
            write_text(study / ".sweep" / "dashboards.json", json.dumps(before))
        except Exception as error:
            what = name.removesuffix("_logger")
            print(f"nstbench: {what} does not show the sweep {study.name}: {_line(error)}", file=sys.stderr)


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def _lock(study: Path) -> Iterator[None]:
    """Hold a lock, after waiting for other sweeps that show the study.

    Raises:
        BusyError: If another sweep holds the lock for too long.
    """
    folder = study / ".sweep"
    folder.mkdir(exist_ok=True)
    until = time.monotonic() + _TIMEOUT
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(alone_in(folder))
                break
            except BusyError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)
        yield


def _studies(entries: Iterable[Entry]) -> dict[Path, list[Path]]:
    """Return the folders of the finished runs of each study, in the order of the sweep."""
    studies: dict[Path, list[Path]] = {}
    for entry in sorted(entries, key=lambda e: e.number):
        if entry.state in {"completed", "skipped"} and entry.folder:
            folder = Path(entry.folder)
            studies.setdefault(folder.parent, []).append(folder)
    return studies


def _last_shown(study: Path) -> dict[str, str]:
    """Return the digest of the runs that each dashboard shows, and the id of the run in wandb."""
    with suppress(OSError, ValueError):
        stored = json.loads((study / ".sweep" / "dashboards.json").read_text())
        if isinstance(stored, dict):
            return stored
    return {}


def _digest(runs: Sequence[Run]) -> str:
    what = sorted(
        json.dumps([run.folder.name, dict(run.settings), run.record.metrics], sort_keys=True) for run in runs
    )
    return hashlib.sha256("\n".join(what).encode()).hexdigest()


def _to_wandb(study: Path, runs: Sequence[Run], node: Mapping[str, Any], run_id: str) -> None:
    import wandb

    names, rows = table(runs)
    mode = str(node.get("mode", "auto"))
    if mode == "auto":
        # The mode of its runs, which have already waited for a server that may be unreachable.
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
        columns = [[wandb.Image(picture(each, _THUMBNAIL)) for each in runs]]
        columns += [_to_one_type(column) for column in zip(*rows, strict=True)]
        data = [list(row) for row in zip(*columns, strict=True)]
        filled = wandb.Table(columns=["picture", *names], data=data)
        run.log({"sweep/grid": wandb.Image(grid(runs)), "sweep/table": filled})


def _to_one_type(column: Sequence[Value | None]) -> list[Any]:
    """Return a column of numbers unchanged, else all values as text: wandb requires one type per column."""
    if any(isinstance(value, str) for value in column):
        return [None if value is None else str(value) for value in column]
    return list(column)


def _to_tensorboard(study: Path, runs: Sequence[Run], node: Mapping[str, Any], run_id: str) -> None:
    import numpy as np
    from torch.utils.tensorboard import SummaryWriter

    folder = study / ".sweep" / "tensorboard"
    shutil.rmtree(folder, ignore_errors=True)
    silence_writer_threads()
    with SummaryWriter(str(folder)) as writer:
        writer.add_image("sweep/grid", np.asarray(grid(runs)), dataformats="HWC")
        writer.add_text("sweep/table", markdown(runs))
