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
"""Seconds without a heartbeat after which the owner of a lock is assumed to have ended."""
_WATCHED = 3
"""Heartbeats to wait for, where the file's time is in the future and does not show its age."""
_LONGEST = 4096  # bytes of .owner that are read
_PIDS = 2**31


class BusyError(UserError):
    """Another process works on the run.

    Args:
        folder: Folder of the run.
        by: Host and process number of the other process, in parentheses; "" if unknown.
    """

    def __init__(self, folder: Path, by: str = "") -> None:
        self.folder, self.by = folder, by
        hint = "Wait until it is done, or give another study=…"
        super().__init__("run", folder.name, f"another process is at work on it{by}", hint)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder, self.by)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder.

    There are two locks. The operating system's lock on ``.lock`` is released when the process ends, in
    whatever way; but on some shared file systems of clusters, other nodes do not see it. So the owner also
    writes its host and process number to ``.owner`` and touches that file every `BEAT` seconds. If it has
    not been touched for `STALE` seconds, or the owner was a process of this machine that has ended, the
    folder is taken over.

    Raises:
        BusyError: Another process holds the folder.
        StorageError: The lock cannot be written.
    """
    with storage(folder, folder / ".lock"):
        opened = open_to_append(folder / ".lock")  # nothing is written to it
    with opened as file:
        locked = _take_lock(file)
        if locked is False:
            raise BusyError(folder)
        owner = folder / ".owner"
        other = _read_owner(owner)
        if other is not None and _is_alive(other, owner, locked=bool(locked)):
            raise BusyError(folder, f" ({other['host']}, process {other['pid']})")
        me = {"host": socket.gethostname(), "pid": os.getpid(), "token": secrets.token_hex(8)}
        write_text(owner, json.dumps(me), durable=False)
        done = threading.Event()
        heartbeat_thread = threading.Thread(target=_write_heartbeats, args=(owner, me, done), daemon=True)
        heartbeat_thread.start()
        try:
            yield
        finally:
            done.set()
            heartbeat_thread.join()
            if _read_owner(owner) == me:
                with suppress(OSError):  # if it stays, others see that this process has ended
                    owner.unlink(missing_ok=True)


def is_held(folder: Path) -> bool:
    """Return whether another process holds a run's folder."""
    try:
        with alone_in(folder):
            return False
    except BusyError:
        return True
    except StorageError:  # no process can hold it, and each one that tries reports why
        return False


def _take_lock(file: IO[str]) -> bool | None:
    """Take the operating system's lock; return False if another process has it, None if locks do not work."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None  # Windows, or a file system without locks: there is only the heartbeat
    return True


def _read_owner(path: Path) -> dict[str, Any] | None:
    """Return the host and process number of the owner; None if there is no valid file."""
    try:
        found = json.loads(read_regular(path, _LONGEST))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("host"), str):
        return None
    pid = found.get("pid")
    return found if type(pid) is int and 0 < pid < _PIDS else None


def _is_alive(owner: dict[str, Any], path: Path, *, locked: bool) -> bool:
    """Return whether the owner still works on the run.

    ``locked`` says whether this process got the operating system's lock.
    """
    try:
        beat = path.stat().st_mtime
    except OSError:
        return False
    here = owner["host"] == socket.gethostname()
    # Within a machine the lock is reliable. The process number may belong to another process by now.
    if here and (locked or not psutil.pid_exists(owner["pid"])):
        return False
    # By the file system's clock, as the clocks of two nodes differ.
    probe = path.with_name(f".clock.{os.getpid()}")
    try:
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
    except OSError:
        now = time.time()
    if beat - now >= STALE:  # a clock is wrong: only another heartbeat can show that the owner is alive
        return _wait_for_heartbeat(path, beat)
    return now - beat < STALE


def _wait_for_heartbeat(path: Path, before: float) -> bool:
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


def _write_heartbeats(path: Path, me: dict[str, Any], done: threading.Event) -> None:
    while not done.wait(BEAT):
        with suppress(OSError):  # a shared file system may be unavailable for a moment
            if _read_owner(path) == me:
                os.utime(path)
