"""Reading the files of a record that may come from somebody else.

A study from somebody else may hold anything: links to files of this machine, pipes that are never written
to, files of any size. All readers of records open files through this module: only regular files below the
study's folder, up to a limit of size.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import IO

from nstbench.runtime.regular_files import open_regular

MIB = 2**20
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


class RefusedFileError(OSError):
    """A file that is not read; the message is a clause that says why."""


def inside(root: Path, path: Path) -> Path:
    """Return the real path of a regular file or folder below ``root``.

    Raises:
        FileNotFoundError: There is no such file.
        RefusedFileError: The path is outside of ``root``, or neither a regular file nor a folder.
        OSError: The path cannot be resolved.
    """
    try:
        real, top = path.resolve(strict=True), root.resolve(strict=True)
        mode = real.stat().st_mode
    except (RuntimeError, ValueError) as error:  # a loop of links; a name with a null character
        raise RefusedFileError(_clause(error)) from error
    if not real.is_relative_to(top):
        raise RefusedFileError("it leads out of the study's folder")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise RefusedFileError("it is not a regular file")
    return real


def open_inside(root: Path, path: Path) -> IO[bytes]:
    """Open a regular file below ``root`` for reading.

    Raises:
        RefusedFileError: The file is outside of ``root`` or not a regular one.
        OSError: The file is missing or cannot be opened.
    """
    return open_regular(inside(root, path), follow_links=False)


def read_inside(root: Path, path: Path, limit: int) -> bytes:
    """Return the content of a regular file below ``root``, of at most ``limit`` bytes.

    Raises:
        RefusedFileError: The file is larger, outside of ``root``, or not a regular one.
        OSError: The file is missing or cannot be read.
    """
    return read_regular(inside(root, path), limit)


def read_regular(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes; links are not followed.

    Raises:
        RefusedFileError: The file is larger, or not a regular one.
        OSError: The file is missing or cannot be read.
    """
    with open_regular(path, follow_links=False) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise RefusedFileError(f"it is larger than {limit / MIB:g} MiB")
    return data


def read_tail(root: Path, path: Path, size: int) -> tuple[bytes, bool]:
    """Return the last ``size`` bytes of a regular file below ``root``, and whether they are all of it.

    Raises:
        RefusedFileError: The file is outside of ``root`` or not a regular one.
        OSError: The file is missing or cannot be read.
    """
    with open_inside(root, path) as file:
        length = os.fstat(file.fileno()).st_size
        file.seek(max(0, length - size))
        return file.read(size), length <= size


def reason_of(error: OSError) -> str:
    """Return why a file could not be read, as a clause in lower case."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


def printable(text: str) -> str:
    """Return a string that a terminal, a page or a table can show.

    Control characters other than line breaks and tabs, lone surrogates and marks that change the direction
    of writing become ``?``.
    """
    return _UNPRINTABLE.sub("?", text.replace("\r\n", "\n"))


def _clause(error: Exception) -> str:
    return "its links lead in a circle" if isinstance(error, RuntimeError) else str(error)
