"""The failed and unfinished runs of a study."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nstbench.analysis.records import Study
from nstbench.analysis.report import commands
from nstbench.tracking.ledger import ENDED, Entry, Ledger
from nstbench.tracking.lock import STALE
from nstbench.tracking.record import RunRecord
from nstbench.tracking.record_files import inside, printable, read_tail

_LOGS = 50  # largest number of failures whose log is shown
_TAIL = 6_000  # characters of the log
_STALE_LEDGER = 600.0  # seconds without a change after which a sweep on another machine counts as ended
_PAUSE = 10.0  # seconds that may pass between two runs


@dataclass(frozen=True)
class Failure:
    """A run that failed.

    Attributes:
        name: Name of its folder; its overrides, if it has none.
        reason: First line of the error.
        error: Whole error.
        log: End of its log.
        command: Command that repeats it.
    """

    name: str
    reason: str
    error: str
    log: str
    command: str


@dataclass(frozen=True)
class Unfinished:
    """A run that has begun and not ended.

    Attributes:
        name: Name of its folder.
        in_progress: Whether a process works on it.
        progress: Number of steps done, as text.
        command: Command that continues it.
    """

    name: str
    in_progress: bool
    progress: str
    command: str


def entries_of_sweeps(study: Path) -> list[Entry]:
    """Return the ledger entries of the sweeps in progress."""
    found: list[Entry] = []
    for folder in _ledgers(study):
        try:
            if _alive(folder):
                found += Ledger(folder).entries().values()
        except OSError:
            continue  # the ledger is being removed
    return [_printable(entry) for entry in found]


def begun(study: Path) -> bool:
    """Return whether there is anything to report: a run's record, or a run that ended without one."""
    try:
        return any(study.glob("*/run.json")) or any(e.state in ENDED for e in entries_of_sweeps(study))
    except OSError:
        return False


def changed_recently(study: Path) -> bool:
    """Return whether a record changed in the last seconds: between two runs none may be in progress."""
    for record in study.glob("*/run.json"):
        try:
            if time.time() - record.stat().st_mtime < _PAUSE:
                return True
        except OSError:
            continue
    return False


def in_progress(study: Study) -> bool:
    """Return whether a sweep of this study is in progress, or a process works on a run of it."""
    if any(_alive(folder) for folder in _ledgers(study.folder)):
        return True
    return any(
        _in_progress(path)
        for record, path in zip(study.records, study.paths, strict=True)
        if record.state == "running"
    )


def failures(study: Study, entries: Sequence[Entry]) -> list[Failure]:
    """Return the failed runs, also those of a sweep in progress that have no record."""
    found: list[Failure] = []
    for name, record, path in _runs(study):
        if record.state == "failed":
            error = record.error or "no reason was recorded"
            log = _tail(study.folder, path / "run.log") if len(found) < _LOGS else ""
            found.append(Failure(name, _line(error), error, log, commands.of_run(record)))
    for entry in entries:
        if entry.state == "failed" and not entry.folder:
            name = " ".join(entry.overrides) or f"run {entry.number}"
            log = _tail(study.folder, Path(entry.log)) if entry.log and len(found) < _LOGS else ""
            found.append(Failure(name, _line(entry.error), entry.error, log, ""))
    return found


def unfinished(study: Study, entries: Sequence[Entry]) -> list[Unfinished]:
    """Return the runs that are in progress, or were interrupted."""
    at = {Path(entry.folder).name: entry for entry in entries if entry.folder and entry.state not in ENDED}
    found = []
    for name, record, path in _runs(study):
        if record.state == "running":
            steps = at[name].steps if name in at else 0
            progress = f"step {at[name].step} of {steps}" if steps else ""
            found.append(Unfinished(name, _in_progress(path), progress, commands.of_run(record)))
    return found


def _runs(study: Study) -> Iterator[tuple[str, RunRecord, Path]]:
    """Return the name, record and folder of each run."""
    names = [str(name) for name in study.runs.get("folder", ())]
    return zip(names, study.records, study.paths, strict=True)


def _ledgers(study: Path) -> list[Path]:
    """Return the folders of the sweeps of a study, without links that lead out of it."""
    found = []
    for folder in sorted((study / ".sweep").glob("*-*/")):
        try:
            inside(study, folder)
        except OSError:
            continue
        found.append(folder)
    return found


def _printable(entry: Entry) -> Entry:
    overrides = [printable(each) for each in entry.overrides]
    return replace(entry, overrides=overrides, error=printable(entry.error))


def _in_progress(run: Path) -> bool:
    """Return whether a run's lock was renewed recently (`nstbench.tracking.lock`)."""
    try:
        return time.time() - (run / ".owner").stat().st_mtime < STALE
    except OSError:
        return False


def _alive(ledger: Path) -> bool:
    """Return whether the process that opened a ledger is alive, or seems to be, on another machine."""
    alive = Ledger(ledger).alive()
    if alive is not None:
        return alive
    try:
        newest = max(file.stat().st_mtime for file in (ledger, *ledger.glob("*.json")))
    except OSError:
        return False
    return time.time() - newest < _STALE_LEDGER


def _line(error: str) -> str:
    return next((line for line in error.splitlines() if line.strip()), "no reason was recorded")


def _tail(study: Path, log: Path) -> str:
    """Return the end of a log; "" if it is a link out of the study, or cannot be read."""
    try:
        data, whole = read_tail(study, log, 4 * _TAIL)
    except OSError:
        return ""
    text = printable(data.decode("utf-8", errors="replace"))
    return text if whole and len(text) <= _TAIL else "…" + text[-_TAIL:]
