"""Verifying downloaded files by their hashes.

nstbench's folder holds, for each file, `<file>.verified` (its hash when it was last read) and, if no hash
was published, `<file>.sha256` (the hash of the first copy found).
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from nstbench.errors import UserError

if TYPE_CHECKING:
    from nstbench.downloads.wheels import Wheel


class RegisteredFile(Protocol):
    """A file that a registry names, with what differs between weights and pictures."""

    @property
    def name(self) -> str:
        """Name to type."""

    @property
    def file(self) -> str:
        """Name of the file in nstbench's folder."""

    @property
    def urls(self) -> tuple[str, ...]:
        """Mirrors of the same bytes, the best first."""

    @property
    def wheel(self) -> Wheel | None:
        """Wheel that the file is made from, if it has no mirrors."""

    @property
    def sha256(self) -> str:
        """Full hash or its first digits; "" if none was published."""

    @property
    def variable(self) -> str:
        """Environment variable that names another folder."""

    @property
    def largest(self) -> int | None:
        """Largest size in bytes, above which a download is aborted. None: no limit."""

    @property
    def resumable(self) -> bool:
        """Whether the bytes of an interrupted transfer are kept, so that the next one continues."""

    def find_mismatch(self, path: Path) -> str:
        """Return why a file of unknown sha256 cannot be this one, as in "it is a web page"; or ""."""

    def manual_steps(self, folder: Path) -> str:
        """Return what to do if no mirror works, as the continuation of "Get": "the file by hand and …"."""

    def own_file_hint(self, source: Path) -> str:
        """Return how to use a file that differs from the registry's."""


def verify(
    wanted: RegisteredFile,
    path: Path,
    folder: Path,
    *,
    rehash: bool = False,
    setting: str = "weights",
    hint: str = "Delete the file and get it again.",
) -> str:
    """Return the full sha256 of a file that has the registry's hash, or raise.

    Entries without a published hash are pinned: the hash of the first copy found is stored in `folder` as
    `<file>.sha256` (readable by `sha256sum -c`), and every later copy must have it.

    Args:
        wanted: Entry of the registry.
        path: Path of the file, in `folder` or elsewhere.
        folder: Folder of nstbench, where hashes are recorded.
        rehash: Whether to read the file even if it has not changed since it was last verified.
        setting: Setting to name in messages.
        hint: What to do about a wrong hash, as a sentence.

    Raises:
        UserError: If the hash is not the expected one.
        OSError: If the file cannot be read.
    """
    # Before hashing: a file that changes meanwhile must not be recorded as verified.
    stat = path.stat()
    sha256 = ("" if rehash else recorded_hash(path, folder)) or hash_file(path)
    if problem := find_mismatch(wanted, path, sha256, expected_sha256(wanted, folder)):
        with suppress(OSError):
            _record(path, folder).unlink()
        raise UserError(setting, wanted.name, f"{path} is damaged or is another file: {problem}", hint)
    # If the hash cannot be recorded (a read-only folder), the file is hashed again next time.
    with suppress(OSError):
        record_hash(wanted, path, stat, sha256, folder)
    return sha256


def hash_file(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recorded_hash(path: Path, folder: Path) -> str:
    """Return the sha256 of `path` when it was last verified; "" if never, or if it has changed since.

    Hashing 500 MB of weights takes seconds, at each start of each run. So a file of the same size and
    modification time counts as unchanged, as for `make` and `git`; `nstbench weights verify` reads the
    bytes. The record is in nstbench's folder even for a file in torch's cache, where nothing is written.
    """
    try:
        known = json.loads(_record(path, folder).read_text())
        stat = path.stat()
        same = (known["size"], known["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns)
        return str(known["sha256"]) if same else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def record_hash(wanted: RegisteredFile, path: Path, stat: os.stat_result, sha256: str, folder: Path) -> None:
    """Record the hash of `path` at the state `stat`; pin it if none was published."""
    folder.mkdir(parents=True, exist_ok=True)
    if not expected_sha256(wanted, folder):
        _write(folder / f"{wanted.file}.sha256", f"{sha256}  {wanted.file}\n")
    known = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha256}
    if recorded_hash(path, folder) != sha256:
        _write(_record(path, folder), json.dumps(known) + "\n")


def expected_sha256(wanted: RegisteredFile, folder: Path) -> str:
    """Return the hash (or its known prefix) that the file must have: published, else pinned, else ""."""
    try:
        return wanted.sha256 or (folder / f"{wanted.file}.sha256").read_text().split()[0].lower()
    except (OSError, IndexError):
        return ""


def find_mismatch(wanted: RegisteredFile, path: Path, sha256: str, expected: str) -> str:
    """Return why a file with this hash cannot be the expected one, as a clause; "" if it can."""
    if not expected:
        return wanted.find_mismatch(path)
    if sha256.startswith(expected):
        return ""
    what = describe(path)
    short = "…" if len(expected) < 64 else ""
    return f"{f'it is {what}; ' if what else ''}its sha256 is {sha256}, expected {expected}{short}"


def describe(path: Path) -> str:
    """Return what a file is by its first bytes if it is a common mistake, such as "a web page"; else ""."""
    with path.open("rb") as file:
        return describe_head(file.read(512))


def describe_head(head: bytes) -> str:
    """Return what a file with these first bytes is if it is a common mistake; else ""."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")):
        return "a web page"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer (Git LFS did not fetch the file)"
    return "" if head else "an empty file"


def _record(path: Path, folder: Path) -> Path:
    return folder / f"{path.name}.verified"


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.{uuid4().hex[:8]}.tmp")
    unfinished.write_text(text)
    os.replace(unfinished, path)
