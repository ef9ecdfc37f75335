"""The ledger of a sweep: files in which its processes record the state of each run."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import psutil

from nstbench.errors import StorageError
from nstbench.runtime.files import storage, write_text
from nstbench.tracking.record_files import MIB, read_regular
from nstbench.tracking.record_schema import parse

State = Literal["running", "completed", "skipped", "failed", "busy", "stopped"]
ENDED = frozenset({"completed", "skipped", "failed", "stopped"})

_VARIABLE = "NSTBENCH_SWEEP_LEDGER"
_SPARE = "NSTBENCH_SWEEP_LEDGER_SPARE"
_IN_MEMORY = Path("/dev/shm")
_PREFIX = "nstbench-sweep-"


@dataclass(frozen=True)
class Entry:
    """The state of one run of a sweep.

    Attributes:
        number: Number of the run in the sweep, from 0.
        overrides: Overrides of the run, as typed.
        state: State of the run. ``skipped``: it was finished before; ``busy``: another process works on it,
            and it is tried again later; ``stopped``: by the user.
        folder: Folder of the run; "" while it has none.
        error: Reason of a failure, in one line.
        mistake: Whether the reason was a setting that cannot be used.
        log: Path of the run's log; "" if there is none.
        line: Line that is printed about a finished run.
        step: Last step of a running run.
        steps: Number of steps of the whole schedule.
    """

    number: int
    overrides: list[str]
    state: State
    folder: str = ""
    error: str = ""
    mistake: bool = False
    log: str = ""
    line: str = ""
    step: int = 0
    steps: int = 0


class Ledger:
    """A folder with a file for each run, on a file system that all of a sweep's processes share.

    Args:
        folder: Folder of the ledger.
        spare: Folder on another file system of this machine, for when the disk of the first is full.
    """

    def __init__(self, folder: Path, spare: Path | None = None) -> None:
        self.folder, self.spare = folder, spare

    @classmethod
    def new(cls, sweep: Path) -> Ledger:
        """Make the ledger of this process in a sweep's folder; those of killed processes are removed."""
        host = socket.gethostname()
        with storage(sweep):
            for folder in sweep.glob("*-*/"):
                if cls(folder).alive() is False:
                    cls(folder).remove()
            ledger = cls(sweep / f"{host}-{os.getpid()}", _spare_folder())
            ledger.folder.mkdir(parents=True, exist_ok=True)
        os.environ[_VARIABLE] = str(ledger.folder.absolute())  # for the processes that this one starts
        os.environ[_SPARE] = str(ledger.spare or "")
        return ledger

    @classmethod
    def here(cls) -> Ledger | None:
        """Return the ledger of the sweep to which this process belongs; None outside of sweeps."""
        folder, spare = os.environ.get(_VARIABLE), os.environ.get(_SPARE)
        return cls(Path(folder), Path(spare) if spare else None) if folder else None

    def alive(self) -> bool | None:
        """Return whether the process that made the ledger exists; None if it is of another machine."""
        host, _, number = self.folder.name.rpartition("-")
        if host != socket.gethostname() or not re.fullmatch("[0-9]{1,9}", number):
            return None
        return psutil.pid_exists(int(number))

    def close(self) -> None:
        """Remove the folder: the run records contain everything that is kept."""
        os.environ.pop(_VARIABLE, None)
        os.environ.pop(_SPARE, None)
        self.remove()

    def remove(self) -> None:
        """Remove the folder, and the spare one."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.spare is not None:
            shutil.rmtree(self.spare, ignore_errors=True)

    def note(self, entry: Entry) -> None:
        """Write the entry of a run, in place of the one before; errors of the disk are ignored.

        Where the ledger's disk is full, the entry is written to the spare folder. On a cluster, runs continue
        after the process that started them was killed and its ledger removed: then nothing is written.
        """
        name, text = f"{entry.number:06d}.json", json.dumps(asdict(entry))
        try:
            write_text(self.folder / name, text, durable=False)
        except StorageError:
            if self.spare is not None:
                with suppress(StorageError):
                    write_text(self.spare / name, text, durable=False)
        else:
            if self.spare is not None:
                with suppress(OSError):
                    (self.spare / name).unlink(missing_ok=True)

    def entries(self) -> dict[int, Entry]:
        """Return the latest entry of each run that has an undamaged one, by the run's number."""
        files = [file for folder in self._folders() for file in sorted(folder.glob("*.json"))]
        found = [_read(file) for file in files]
        return {entry.number: entry for entry in found if entry}

    def numbers(self) -> list[int]:
        """Return the numbers of the runs that have an entry."""
        return sorted({int(file.stem) for folder in self._folders() for file in folder.glob("*.json")})

    def of(self, number: int) -> Entry | None:
        """Return the latest entry of a run; None if it has none."""
        found = (_read(folder / f"{number:06d}.json") for folder in reversed(self._folders()))
        return next((entry for entry in found if entry is not None), None)

    def _folders(self) -> list[Path]:
        """Return the folders, the one with the latest entries last."""
        return [self.folder, *([self.spare] if self.spare is not None else [])]

    def lost(self, number: int, overrides: Sequence[str], reason: str, log: str = "") -> None:
        """Record that a run failed because its process ended; the entry of a run that has ended is kept.

        Args:
            number: Number of the run.
            overrides: Overrides of the run, as typed.
            reason: Reason as a clause: "killed by SIGSEGV".
            log: Path of the run's log; by default ``run.log`` in its folder.
        """
        before = self.of(number)
        if before and before.state in ENDED:
            return
        folder = before.folder if before else ""
        own = Path(folder) / "run.log" if folder else None
        log = log or (str(own) if own and own.is_file() else "")
        self.note(Entry(number, list(overrides), "failed", folder=folder, error=reason, log=log))


def _spare_folder() -> Path | None:
    """Make and return a folder that is not on the disk of the ledger; None if it cannot be made.

    Folders of killed processes are removed.
    """
    in_memory = os.access(_IN_MEMORY, os.W_OK)
    parent = _IN_MEMORY if in_memory else Path(tempfile.gettempdir())
    try:
        for left in parent.glob(f"{_PREFIX}*-*"):
            number = left.name.removeprefix(_PREFIX).partition("-")[0]
            if number.isdecimal() and not psutil.pid_exists(int(number)):
                shutil.rmtree(left, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
    except (OSError, OverflowError):
        return None


def _read(file: Path) -> Entry | None:
    """Return the entry in a file; None if the file is missing or damaged."""
    try:
        return parse(Entry, read_regular(file, MIB))
    except (OSError, ValueError):
        return None
