"""A disk that has little room: for tests of what happens when it is full, and again when there is room."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PLENTY = 2**28
_PRINTED = 2**14  # bytes that a test prints, to a file of pytest's


class SmallDisk:
    """A folder in which there is only so much room.

    As root it is a file system in memory (tmpfs). Elsewhere, and where SMALL_DISK=limit is set, only the size
    of each file is limited (RLIMIT_FSIZE): the nearest that needs no permission. Writes then fail halfway in
    the same way, though in any folder, and small files still fit.

    Args:
        folder: Folder that is there.

    Attributes:
        folder: Folder that has the room.
        real: Whether it is a file system of its own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.real = _mount(folder)
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def leave(self, room: int, largest: int = 0) -> None:
        """Leave room for so many bytes.

        Args:
            room: Bytes that can still be written.
            largest: Bytes of a file at most, where only that can be limited; never below 16 KiB.
        """
        if self.real:
            used = _used(self.folder)
            self._remount(used + max(room, 0))
        else:
            limit = max(largest, _PRINTED)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, self._limits[1]))

    def enlarge(self) -> None:
        """Leave room for whatever is written."""
        if self.real:
            self._remount(PLENTY)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)

    def close(self) -> None:
        """Give the folder back."""
        self.enlarge()
        if self.real:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def _remount(self, size: int) -> None:
        pages = max(1, -(-size // 4096))  # a size of 0 would mean: without limit
        subprocess.run(["mount", "-o", f"remount,size={pages * 4096}", str(self.folder)], check=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """Make a folder a small disk, with plenty of room at first."""
    folder.mkdir(parents=True, exist_ok=True)
    disk = SmallDisk(folder)
    try:
        yield disk
    finally:
        disk.close()


def _mount(folder: Path) -> bool:
    if os.environ.get("SMALL_DISK") == "limit":
        return False
    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={PLENTY}", "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:  # there is no such program
        return False


def _used(folder: Path) -> int:
    import os

    stat = os.statvfs(folder)
    return (stat.f_blocks - stat.f_bfree) * stat.f_frsize
