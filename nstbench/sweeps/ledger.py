"""How the processes of a sweep tell each other what became of each run."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import psutil

from nstbench.tracking.record import write_text
from nstbench.tracking.record_files import MIB, read_regular
from nstbench.tracking.record_schema import parse

State = Literal["running", "completed", "skipped", "failed", "busy", "stopped"]
ENDED = frozenset({"completed", "skipped", "failed", "stopped"})

_VARIABLE = "NSTBENCH_SWEEP_LEDGER"


@dataclass(frozen=True)
class Entry:
    """What is known of one run of a sweep.

    Attributes:
        number: of the run in the sweep, from 0.
        overrides: what was typed for it.
        state: ``running``; ``completed``; ``skipped``, it was finished before; ``failed``; ``busy``,
            another process is at work on it, and it is tried again later; ``stopped``, by the user.
        folder: of the run; "" while it has none.
        error: why it failed, in one line.
        mistake: whether that was a setting that cannot be used.
        log: path of what the run logged, where there is one.
        line: about a finished run, as it is printed.
        step: that a running one has reached.
        steps: of its whole schedule.
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
    """A folder with a file for each run, on a file system that all of a sweep's processes share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def new(cls, sweep: Path) -> Ledger:
        """Open a ledger of this process's in a sweep's folder; those of killed ones are cleared away."""
        host = socket.gethostname()
        for folder in sweep.glob("*-*/"):
            if cls(folder).alive() is False:
                cls(folder).remove()
        ledger = cls(sweep / f"{host}-{os.getpid()}")
        ledger.folder.mkdir(parents=True, exist_ok=True)
        os.environ[_VARIABLE] = str(ledger.folder.absolute())  # for the processes that this one starts
        return ledger

    @classmethod
    def here(cls) -> Ledger | None:
        """Return the ledger of the sweep that this process works for; None outside of sweeps."""
        folder = os.environ.get(_VARIABLE)
        return cls(Path(folder)) if folder else None

    def alive(self) -> bool | None:
        """Return whether the process that opened it is there; None if it was one of another machine."""
        host, _, number = self.folder.name.rpartition("-")
        if host != socket.gethostname() or not re.fullmatch("[0-9]{1,9}", number):
            return None
        return psutil.pid_exists(int(number))

    def close(self) -> None:
        """Remove the folder: the run records have all that lasts."""
        os.environ.pop(_VARIABLE, None)
        self.remove()

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def note(self, entry: Entry) -> None:
        """Write what is known of a run, in place of what was; if it can be written.

        On a cluster runs go on when the process that started them was killed and its ledger cleared away,
        and a full disk is the run's trouble, which its record tells.
        """
        with suppress(OSError):
            write_text(self.folder / f"{entry.number:06d}.json", json.dumps(asdict(entry)))

    def entries(self) -> dict[int, Entry]:
        """Return the latest entry of each run that has a sound one, by its number."""
        found = [_read(file) for file in sorted(self.folder.glob("*.json"))]
        return {entry.number: entry for entry in found if entry}

    def of(self, number: int) -> Entry | None:
        """Return the latest entry of a run; None if it has none."""
        return _read(self.folder / f"{number:06d}.json")

    def lost(self, number: int, overrides: Sequence[str], reason: str, log: str = "") -> None:
        """Note that a run ended without a word, unless it had its last word.

        Args:
            number: of the run.
            overrides: what was typed for it.
            reason: as a clause: "killed by SIGSEGV".
            log: path of what it logged; by default ``run.log`` in its folder.
        """
        before = self.of(number)
        if before and before.state in ENDED:
            return
        folder = before.folder if before else ""
        own = Path(folder) / "run.log" if folder else None
        log = log or (str(own) if own and own.is_file() else "")
        self.note(Entry(number, list(overrides), "failed", folder=folder, error=reason, log=log))


def _read(file: Path) -> Entry | None:
    """Return the entry in a file; None where there is none, or a damaged one."""
    try:
        return parse(Entry, read_regular(file, MIB))
    except (OSError, ValueError):
        return None
