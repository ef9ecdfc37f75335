"""The lock of a run's folder: two processes never work on one run."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psutil

from nstbench.errors import StorageError, UserError
from nstbench.runtime.files import open_to_append, read_regular, storage, write_text

BEAT = 5.0
"""Seconds between two heartbeats of a process that holds a folder."""
STALE = 60.0
"""Seconds without a heartbeat after which its owner is taken for dead."""
_WATCHED = 3
"""Heartbeats for which an owner is watched whose clock is ahead of ours."""
_LONGEST = 4096  # bytes of what an owner leaves
_PIDS = 2**31


class BusyError(UserError):
    """Another process is at work on the run.

    Args:
        folder: Of the run.
        by: Who that is, where it is known.
    """

    def __init__(self, folder: Path, by: str = "") -> None:
        self.folder, self.by = folder, by
        hint = "Wait until it is done, or give another study=…"
        super().__init__("run", folder.name, f"another process is at work on it{by}", hint)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder, self.by)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a run's folder.

    Two locks in one. The operating system's on ``.lock`` ends with the process, however that ends; but
    some file systems that clusters share do not pass it on to other nodes. So the owner also leaves its
    name in ``.owner`` and touches it every `BEAT` seconds: where that has not happened for `STALE`
    seconds, or the owner was a process of this machine that is no more, the folder is taken over.

    Raises:
        BusyError: Another process holds it.
        StorageError: The lock cannot be written.
    """
    with storage(folder, folder / ".lock"):
        opened = open_to_append(folder / ".lock")  # nothing is written to it
    with opened as file:
        locked = _locked(file)
        if locked is False:
            raise BusyError(folder)
        owner = folder / ".owner"
        other = _owner(owner)
        if other is not None and _alive(other, owner, locked=bool(locked)):
            raise BusyError(folder, f" ({other['host']}, process {other['pid']})")
        me = {"host": socket.gethostname(), "pid": os.getpid(), "token": secrets.token_hex(8)}
        write_text(owner, json.dumps(me), durable=False)
        done = threading.Event()
        heart = threading.Thread(target=_beat, args=(owner, me, done), daemon=True)
        heart.start()
        try:
            yield
        finally:
            done.set()
            heart.join()
            if _owner(owner) == me:
                with suppress(OSError):  # it is stale as soon as this process has ended
                    owner.unlink(missing_ok=True)


def is_held(folder: Path) -> bool:
    """Return whether another process holds a run's folder."""
    try:
        with alone_in(folder):
            return False
    except BusyError:
        return True
    except StorageError:  # nobody can hold it; whoever tries is told why
        return False


def _locked(file: IO[str]) -> bool | None:
    """Take the operating system's lock; return False if another process has it, None if there are none."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None  # Windows, or a file system without locks: the heartbeat must do
    return True


def _owner(path: Path) -> dict[str, Any] | None:
    """Return what the owner left of itself; None where there is nothing that can be understood."""
    try:
        found = json.loads(read_regular(path, _LONGEST))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("host"), str):
        return None
    pid = found.get("pid")
    return found if type(pid) is int and 0 < pid < _PIDS else None


def _alive(owner: dict[str, Any], path: Path, *, locked: bool) -> bool:
    """Return whether the owner is still at work, given whether the operating system's lock could be had."""
    try:
        beat = path.stat().st_mtime
    except OSError:
        return False
    here = owner["host"] == socket.gethostname()
    # Within a machine the lock is sure. A process number may be another process's by now.
    if here and (locked or not psutil.pid_exists(owner["pid"])):
        return False
    # By the file system's clock, not ours: those of two nodes differ.
    probe = path.with_name(f".clock.{os.getpid()}")
    try:
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
    except OSError:
        now = time.time()
    if beat - now >= STALE:  # by a clock that is wrong: whether it beats is all that can be known
        return _beats(path, beat)
    return now - beat < STALE


def _beats(path: Path, before: float) -> bool:
    """Watch a heartbeat for a while; return whether there was another one."""
    until = time.monotonic() + _WATCHED * BEAT
    while time.monotonic() < until:
        time.sleep(BEAT / 5)
        try:
            if path.stat().st_mtime != before:
                return True
        except OSError:
            return False
    return False


def _beat(path: Path, me: dict[str, Any], done: threading.Event) -> None:
    while not done.wait(BEAT):
        with suppress(OSError):  # a shared file system may be away for a moment
            if _owner(path) == me:
                os.utime(path)
