"""Moments of a command: its dealings with files below a folder, as Python's audit events tell them.

They are counted in an undisturbed run; in a trial something happens just before one of them. None of the
program's functions is named, so that the trials do not depend on how the program is written.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}
_WRITING = os.O_WRONLY | os.O_RDWR
Action = Callable[[str, str], object]
"""Called with the label of the moment and the path, just before what the label says is done."""


@dataclass(frozen=True)
class Moment:
    """One of a command's dealings with files.

    Attributes:
        label: Verb and path relative to the folder that is watched.
        occurrence: Which of those with this label, from 1.
    """

    label: str
    occurrence: int

    def __str__(self) -> str:
        return f"{self.label} ({self.occurrence})"


def record_moments(folder: Path, log: Path) -> Callable[[], None]:
    """Return what makes a command write its moments, one a line, to a file outside of the folder."""

    def start() -> None:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        watch(folder, lambda label, _: os.write(file, f"{label}\n".encode()))

    return start


def read_moments(log: Path) -> list[Moment]:
    """Return the moments that a command has written."""
    seen: Counter[str] = Counter()
    moments = []
    for label in log.read_text(encoding="utf-8").splitlines():
        seen[label] += 1
        moments.append(Moment(label, seen[label]))
    return moments


def choose_moment(moments: Sequence[Moment], rng: Random) -> Moment:
    """Return a moment: each kind of file and verb has the same chance, however often it comes."""
    begun = next((i for i, moment in enumerate(moments) if "curves.csv" in moment.label), 0)
    kinds: dict[str, list[Moment]] = {}
    # Most of what can go wrong does so once there is something to lose.
    for moment in moments[begun:] if rng.random() < 0.75 else moments:
        verb, _, path = moment.label.partition(" ")
        kinds.setdefault(f"{verb} {_kind(path)}", []).append(moment)
    return rng.choice(kinds[rng.choice(sorted(kinds))])


def act_at(folder: Path, moment: Moment, action: Action) -> Callable[[], None]:
    """Return what makes a command meet with ``action`` just before a moment."""

    def start() -> None:
        seen: Counter[str] = Counter()

        def count(label: str, path: str) -> None:
            seen[label] += 1
            if label == moment.label and seen[label] == moment.occurrence:
                action(label, path)

        watch(folder, count)

    return start


def kill_group(label: str, path: str) -> None:
    """Kill the command and its workers."""
    os.killpg(0, signal.SIGKILL)


def kill_worker(label: str, path: str) -> None:
    """Kill this process alone: the worker of a pool that deals with the file."""
    os.kill(os.getpid(), signal.SIGKILL)


def send(number: signal.Signals) -> Action:
    """Return what sends a signal to the command and its workers."""
    return lambda label, path: os.killpg(0, number)


def tear(share: float) -> Action:
    """Return what leaves the file half written, then kills the command and its workers.

    Args:
        share: Part of the file that had been written.
    """

    def action(label: str, path: str) -> None:
        with suppress(OSError):
            if label.startswith("rename"):
                os.truncate(path, int(os.path.getsize(path) * share))
            elif label.startswith("append") and os.path.isfile(path):
                last = Path(path).read_bytes().splitlines(keepends=True)[-1]
                with open(path, "ab") as file:
                    file.write(last[: int(len(last) * share)])
            elif label.startswith("write"):
                open(path, "wb").close()
        os.killpg(0, signal.SIGKILL)

    return action


def fill_disk(ballast: Path, left: int) -> Action:
    """Return what fills the file system of ``ballast`` up to ``left`` bytes."""

    def action(label: str, path: str) -> None:
        free = shutil.disk_usage(ballast.parent).free
        with suppress(OSError), ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free - left))

    return action


def remove_folder(folder: Path) -> Action:
    """Return what removes the folder, below ``folder``, that the file is in."""

    def action(label: str, path: str) -> None:
        inside = Path(path).resolve().relative_to(folder.resolve()).parts
        shutil.rmtree(folder.joinpath(*inside[:2]), ignore_errors=True)

    return action


def watch(folder: Path, tell: Action) -> None:
    """Call ``tell`` before each dealing of this process, and of its forks, with files below a folder."""
    below = f"{folder.absolute()}{os.sep}"
    busy = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal busy
        if event not in _EVENTS or busy or not isinstance(arguments[0], str | os.PathLike):
            return
        path = os.fspath(arguments[0])
        if not isinstance(path, str) or not path.startswith(below):
            return
        # A file that is renamed is known by its new name: the old one is made up for the moment.
        known = os.fspath(arguments[1]) if event == "os.rename" else path
        busy = True
        try:
            tell(f"{_verb(event, arguments)} {_lasting(known.removeprefix(below))}", path)
        finally:
            busy = False

    sys.addaudithook(hook)


def _verb(event: str, arguments: tuple[Any, ...]) -> str:
    if event != "open":
        return event.removeprefix("os.")
    _, mode, flags = arguments
    if flags & os.O_APPEND or (mode or "").startswith("a"):
        return "append"
    return "write" if flags & _WRITING else "read"


def _lasting(path: str) -> str:
    """Return a path without what differs between two runs of one command."""
    for pid in (os.getpid(), os.getppid()):
        path = path.replace(str(pid), "PID")
    folder, slash, name = path.rpartition("/")
    return folder + slash + (re.sub(r"[0-9a-f]{12,}", "HEX", name) if name.startswith(".") else name)


def _kind(path: str) -> str:
    """Return a path without what tells runs and steps apart."""
    name = "".join("0" if c.isdigit() else c for c in path.rpartition("/")[2])
    return f".sweep/{name}" if ".sweep/" in path else name
