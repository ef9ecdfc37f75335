"""Opening regular files, where a path may be a FIFO, a device, a socket or a folder."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a symbolic link",
}


class NotRegularError(OSError):
    """A path that exists and is not a regular file; the message is a clause."""


def open_regular(path: Path, *, follow_links: bool = True) -> BinaryIO:
    """Open a regular file for reading, without ever waiting for another process.

    The kind is checked before opening, since opening a device can have effects, and again on what was
    opened, which may have been replaced in between. A FIFO without a writer does not block.

    Args:
        path: Path of the file.
        follow_links: Whether the last component of the path may be a symbolic link.

    Raises:
        NotRegularError: The path is not a regular file.
        OSError: The file cannot be opened.
    """
    _check(path.stat() if follow_links else path.lstat())
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    if not follow_links:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _check(os.fstat(file.fileno()))
    except BaseException:
        file.close()
        raise
    return file


def _check(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a special file")
        error = NotRegularError(f"this is {kind}, not a regular file")
        error.errno = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
        raise error
