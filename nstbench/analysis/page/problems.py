"""What went wrong in a study, and what is not done yet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nstbench.analysis.page import commands
from nstbench.analysis.page.content import Record
from nstbench.analysis.records import Study
from nstbench.sweeps.ledger import ENDED, Entry, Ledger
from nstbench.tracking.lock import STALE

_LOGS = 50  # failures whose log is quoted
_TAIL = 6_000  # characters of it
_FORGOTTEN = 600.0  # seconds without a word from another machine's sweep
_PAUSE = 10.0  # seconds that may pass between two runs


@dataclass(frozen=True)
class Failure:
    """A run that failed.

    Attributes:
        name: its folder; what was typed for it, where it has none.
        reason: the first line of the error.
        error: all of it.
        log: the end of what it logged.
        command: that makes it again.
    """

    name: str
    reason: str
    error: str
    log: str
    command: str


@dataclass(frozen=True)
class Unfinished:
    """A run that has begun and not ended: its folder, whether a process is at work on it, how far it is."""

    name: str
    at_work: bool
    progress: str
    command: str


def entries_of_sweeps(study: Path) -> list[Entry]:
    """Return what the sweeps that are under way say of their runs."""
    found: list[Entry] = []
    for folder in sorted((study / ".sweep").glob("*-*/")):
        if _alive(folder):
            try:
                found += Ledger(folder).entries().values()
            except (OSError, ValueError, TypeError):
                continue  # it is being closed
    return found


def begun(study: Path) -> bool:
    """Tell whether there is anything to report: a run's record, or a run that ended before it had one."""
    try:
        return any(study.glob("*/run.json")) or any(e.state in ENDED for e in entries_of_sweeps(study))
    except OSError:
        return False


def changed_of_late(study: Path) -> bool:
    """Tell whether a record changed in the last seconds: between two runs nothing may be under way."""
    for record in study.glob("*/run.json"):
        try:
            if time.time() - record.stat().st_mtime < _PAUSE:
                return True
        except OSError:
            continue
    return False


def under_way(study: Study) -> bool:
    """Tell whether a sweep of this study goes on, or a process is at work on a run of it."""
    if any(_alive(folder) for folder in (study.folder / ".sweep").glob("*-*/")):
        return True
    running = study.runs.loc[study.runs["state"] == "running", "folder"] if len(study.runs) else ()
    return any(_at_work(study.folder / name) for name in running)


def failures(study: Study, records: Sequence[Record], entries: Sequence[Entry]) -> list[Failure]:
    """Return the failed runs; also those of a sweep under way that never came to have a record."""
    found: list[Failure] = []
    for row, record in zip(study.runs.to_dict("records"), records, strict=True):
        if row["state"] == "failed":
            error = row["error"] if isinstance(row["error"], str) else "no reason was noted"
            log = _tail(study.folder / row["folder"] / "run.log") if len(found) < _LOGS else ""
            found.append(Failure(row["folder"], _line(error), error, log, commands.of_run(record)))
    for entry in entries:
        if entry.state == "failed" and not entry.folder:
            name = " ".join(entry.overrides) or f"run {entry.number}"
            log = _tail(Path(entry.log)) if entry.log and len(found) < _LOGS else ""
            found.append(Failure(name, _line(entry.error), entry.error, log, ""))
    return found


def unfinished(study: Study, records: Sequence[Record], entries: Sequence[Entry]) -> list[Unfinished]:
    """Return the runs that are in the making, or were interrupted."""
    at = {Path(entry.folder).name: entry for entry in entries if entry.folder and entry.state not in ENDED}
    found = []
    for row, record in zip(study.runs.to_dict("records"), records, strict=True):
        if row["state"] == "running":
            name = row["folder"]
            steps = at[name].steps if name in at else 0
            progress = f"step {at[name].step} of {steps}" if steps else ""
            found.append(Unfinished(name, _at_work(study.folder / name), progress, commands.of_run(record)))
    return found


def _at_work(run: Path) -> bool:
    """Tell whether a run's owner gave a sign of life of late (`nstbench.tracking.lock`)."""
    try:
        return time.time() - (run / ".owner").stat().st_mtime < STALE
    except OSError:
        return False


def _alive(ledger: Path) -> bool:
    """Tell whether the process that opened a ledger is still there, or seems to be, on another machine."""
    alive = Ledger(ledger).alive()
    if alive is not None:
        return alive
    try:
        newest = max(file.stat().st_mtime for file in (ledger, *ledger.glob("*.json")))
    except OSError:
        return False
    return time.time() - newest < _FORGOTTEN


def _line(error: str) -> str:
    return next((line for line in error.splitlines() if line.strip()), "no reason was noted")


def _tail(log: Path) -> str:
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text if len(text) <= _TAIL else "…" + text[-_TAIL:]
