"""Writing files of runs and studies: whole or not at all, with one class for all errors of the disk."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TextIO, cast

from nstbench.errors import StorageError
from nstbench.runtime.regular_files import open_regular

_IRREGULAR = "it is not a regular file"
_LONGEST = 60  # characters of a name that the temporary file keeps: file systems allow 255 bytes


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any], *, durable: bool = True) -> None:
    """Write a file in one piece: readers see the old file or the new one.

    The bytes go to ``.<name>.<pid>.part`` beside it, which replaces the file once it is complete and is
    removed if anything fails, so that it does not keep the space of a full disk.

    Args:
        path: File to write; it is replaced if it exists.
        write: Function that writes to a binary stream. The stream cannot seek, and must not be closed. An
            error of the disk is raised after ``write`` has returned, so that no library in between replaces
            it by an error of its own.
        durable: Whether the bytes must have reached the disk before the old file is replaced. Without
            it, a machine that loses power may leave an empty file.

    Raises:
        StorageError: The file cannot be written; the old one is unchanged.
    """
    part = path.with_name(f".{path.name[:_LONGEST]}.{os.getpid()}.part")
    with storage(path.parent, path):
        try:
            with part.open("wb") as file:
                sink = _Sink(file)
                try:
                    write(cast(IO[bytes], sink))
                except Exception:
                    if sink.error is None:
                        raise
                if sink.error is not None:
                    raise sink.error
                file.flush()
                if durable:
                    _synchronize(file.fileno())
            os.replace(part, path)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file in one piece; see `write_atomically`."""
    write_atomically(path, lambda file: file.write(content), durable=durable)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a UTF-8 file in one piece; see `write_atomically`."""
    write_bytes(path, text.encode("utf-8"), durable=durable)


def append_text(path: Path, text: str) -> None:
    """Append to a UTF-8 file, in one piece: if the disk has no space for all of it, nothing is appended.

    Raises:
        StorageError: The text cannot be written; the file is as it was.
    """
    content = text.encode("utf-8")
    with storage(path.parent, path), open_to_append(path) as opened:
        file = opened.fileno()
        before = os.fstat(file).st_size
        try:
            written = os.write(file, content)
            while written < len(content):
                written += os.write(file, content[written:])
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, before)
            raise


def open_to_append(path: Path) -> TextIO:
    """Open a UTF-8 file to append to.

    Raises:
        OSError: The file cannot be opened, or is not a regular one: writing to a pipe might not end, and a
            link may lead out of the study.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    try:
        flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        file = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:  # links in a study from somebody else may point anywhere
            raise OSError(errno.EINVAL, "it is a link", str(path)) from error
        if error.errno == errno.ENXIO:  # a pipe that nobody reads, or a socket
            raise OSError(errno.EINVAL, _IRREGULAR, str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, _IRREGULAR, str(path))
    return open(file, "a", encoding="utf-8")


def read_regular(path: Path, most: int = -1) -> bytes:
    """Read a regular file. Other kinds are refused: reading a pipe would not end.

    Args:
        path: File to read.
        most: Largest number of bytes to read; -1: all.

    Raises:
        OSError: The file cannot be read, or is not a regular one.
    """
    with open_regular(path) as file:
        return file.read(most)


def make_folder(path: Path) -> None:
    """Make a folder in an existing one, unless it exists.

    Raises:
        StorageError: The folder cannot be made.
    """
    with storage(path.parent, path):
        try:
            path.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error


@contextmanager
def storage(folder: Path, file: Path | None = None) -> Iterator[None]:
    """Raise errors of the operating system inside the block as a `StorageError` that names a folder.

    Args:
        folder: Folder that is written to.
        file: File that is written; None where it is not a single one.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(folder, error, file) from error


class _Sink(io.RawIOBase):
    """A stream that keeps the first error of the disk, and ignores all bytes written after it.

    torch and Pillow replace an error of the stream by errors of their own, which do not name the cause.

    Args:
        file: File that the bytes go to.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def writable(self) -> bool:
        """Return True: the stream can be written to."""
        return True

    def write(self, content: Any) -> int:
        """Write all of ``content``, or nothing after an error; return the number of its bytes."""
        size = memoryview(content).nbytes
        if self.error is None:
            try:
                self.file.write(content)
            except OSError as error:
                self.error = error
        return size


def _synchronize(file: int) -> None:
    """Wait until a file has reached the disk; some file systems report only then that they are full."""
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}:  # not supported here
            raise
