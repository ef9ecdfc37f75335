"""Whether a downloaded file holds the bytes that it should.

What is known of a file lies beside it in nstbench's folder: `<file>.verified` (its hash when it was last
read) and, where no hash was ever published, `<file>.sha256` (the hash of the first copy seen).
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from nstbench.errors import UserError


class Wanted(Protocol):
    """A file that a registry names, and what is particular to its sort: weights, pictures."""

    @property
    def name(self) -> str:
        """What a user types."""

    @property
    def file(self) -> str:
        """The file's name in nstbench's folder."""

    @property
    def urls(self) -> tuple[str, ...]:
        """Mirrors of the same bytes, the best first."""

    @property
    def sha256(self) -> str:
        """The full hash or its first digits; "" when none was published."""

    @property
    def variable(self) -> str:
        """The environment variable that names another folder."""

    @property
    def largest(self) -> int | None:
        """Bytes that no such file exceeds: a download of more is given up. None: no limit."""

    @property
    def resumable(self) -> bool:
        """Whether what has arrived is kept when a transfer breaks off, for the next to continue."""

    def what_else(self, path: Path) -> str:
        """Return what a file of unknown sha256 visibly is instead, as in "it is a web page"; or ""."""

    def by_hand(self, folder: Path) -> str:
        """Return what to do when no mirror delivers, after "Get": "the file by hand and …"."""

    def as_it_is(self, source: Path) -> str:
        """Return how a user's own file is used although it is not the one that the registry means."""


def verify(
    wanted: Wanted,
    path: Path,
    folder: Path,
    *,
    rehash: bool = False,
    setting: str = "weights",
    hint: str = "Delete the file and get it again.",
) -> str:
    """Return the full sha256 of a file that is the one the registry means, or raise.

    Entries without a published hash are pinned: the hash of the first copy seen is stored in `folder` as
    `<file>.sha256` (readable by `sha256sum -c`), and every copy is held to it from then on.

    Args:
        wanted: what it should be.
        path: the file, in `folder` or elsewhere.
        folder: nstbench's own folder, where what is known of the file is remembered.
        rehash: read the file even when it has not changed since it was last verified.
        setting: the setting to name in messages.
        hint: what to do about a wrong hash.

    Raises:
        UserError: another hash than expected.
        OSError: the file cannot be read.
    """
    # Before hashing: a file that changes meanwhile must not be remembered as verified.
    stat = path.stat()
    sha256 = ("" if rehash else remembered(path, folder)) or hash_file(path)
    if problem := what_is_wrong(wanted, path, sha256, expected_sha256(wanted, folder)):
        with suppress(OSError):
            _record(path, folder).unlink()
        raise UserError(setting, wanted.name, f"{path} is damaged or is another file: {problem}", hint)
    # What cannot be remembered (a read-only folder) is only slower.
    with suppress(OSError):
        remember(wanted, path, stat, sha256, folder)
    return sha256


def hash_file(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remembered(path: Path, folder: Path) -> str:
    """Return the sha256 that was found when `path` was last verified, "" if it has changed or never was.

    Hashing 500 MB of weights takes seconds, at each start of each run. So size and modification time stand
    for the bytes, as for `make` and `git`; `nstbench weights verify` reads the bytes. The memory lies in
    nstbench's folder even for a file in torch's cache: that folder is not ours to write to.
    """
    try:
        known = json.loads(_record(path, folder).read_text())
        stat = path.stat()
        same = (known["size"], known["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns)
        return str(known["sha256"]) if same else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def remember(wanted: Wanted, path: Path, stat: os.stat_result, sha256: str, folder: Path) -> None:
    """Store that `path`, as `stat` describes it, has this hash; pin it where none was published."""
    folder.mkdir(parents=True, exist_ok=True)
    if not expected_sha256(wanted, folder):
        _write(folder / f"{wanted.file}.sha256", f"{sha256}  {wanted.file}\n")
    known = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha256}
    if remembered(path, folder) != sha256:
        _write(_record(path, folder), json.dumps(known) + "\n")


def expected_sha256(wanted: Wanted, folder: Path) -> str:
    """Return the hash (or its known prefix) that the file must have: published, else pinned, else ""."""
    try:
        return wanted.sha256 or (folder / f"{wanted.file}.sha256").read_text().split()[0].lower()
    except (OSError, IndexError):
        return ""


def what_is_wrong(wanted: Wanted, path: Path, sha256: str, expected: str) -> str:
    """Return why a file with this hash cannot be the expected one, "" if nothing speaks against it."""
    if not expected:
        return wanted.what_else(path)
    if sha256.startswith(expected):
        return ""
    what = describe(path)
    short = "…" if len(expected) < 64 else ""
    return f"{f'it is {what}; ' if what else ''}its sha256 is {sha256}, expected {expected}{short}"


def describe(path: Path) -> str:
    """Return what a file is by its first bytes, when it is one of the usual mistakes; else ""."""
    with path.open("rb") as file:
        return describe_head(file.read(512))


def describe_head(head: bytes) -> str:
    """Return what a file that begins so is, when it is one of the usual mistakes; else ""."""
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
