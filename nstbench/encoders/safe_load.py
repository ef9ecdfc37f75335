"""Reading torch's files (.pth, .pt, .ckpt) in bounded memory, without running code in them."""

from __future__ import annotations

import warnings
import zipfile
from io import BytesIO
from pathlib import Path
from typing import IO, Any, cast

from nstbench.encoders.pickle_check import DAMAGED, Contents, TensorFileError, contents_of, objects_error
from nstbench.runtime import regular_files
from nstbench.runtime.regular_files import NotRegularError

__all__ = ["TensorFileError", "load_tensors", "open_regular"]

_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of torch's files from before 2020
_RATIO, _SLACK = 4, 2**20
"""Factor and bytes by which contents may exceed the file's size: torch does not compress files."""


def load_tensors(path: Path, *, max_bytes: int) -> Any:
    """Return the contents of a torch file, on the CPU: tensors, numbers, strings and their containers.

    Before anything is loaded, the file's pickles and archive directory are read: the memory they would
    allocate must be no more than a small multiple of the file's size, and no more than ``max_bytes``.

    Args:
        path: File written by `torch.save`, in either of its formats.
        max_bytes: Largest total size of the tensors, in bytes.

    Raises:
        TensorFileError: If there is no such regular file, it is damaged, it holds other objects, or its
            contents are larger than allowed.
        MemoryError: If there is less memory than the tensors need.
    """
    import torch

    with open_regular(path) as file:
        _check(file, path.stat().st_size, max_bytes)
        file.seek(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about pickles that raise an error anyway
                return torch.load(file, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception as error:  # damaged files raise errors of many types in torch
            # Only the first sentence: the rest advises weights_only=False, which is unsafe.
            has_message = isinstance(error, RuntimeError) and str(error)
            detail = f" ({str(error).splitlines()[0].split('. ')[0]})" if has_message else ""
            raise TensorFileError(DAMAGED + detail) from error


def open_regular(path: Path) -> IO[bytes]:
    """Open a file of weights for reading.

    Raises:
        TensorFileError: If there is no such file, it is not a regular file, or it cannot be read.
    """
    try:
        return regular_files.open_regular(path)
    except NotRegularError as error:
        raise TensorFileError(str(error), "Give the file of weights itself.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise TensorFileError(f"the file cannot be read ({reason})", "Give the path of a file.") from error


class _Bounded:
    """A file that never reads beyond its end: Python would allocate all bytes requested first."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file, self.size = file, size

    def read(self, count: int) -> bytes:
        return self.file.read(max(0, min(count, self.size - self.file.tell())))

    def readline(self) -> bytes:
        return self.file.readline(1000)

    def tell(self) -> int:
        return self.file.tell()


def _check(file: IO[bytes], size: int, max_bytes: int) -> None:
    """Raise TensorFileError if loading would take too much memory, or the file holds other objects."""
    head = file.read(4)
    file.seek(0)
    if head.startswith(b"PK\x03\x04"):
        contents = _check_archive(file, size)
    elif head[:1] == b"\x80":
        contents = _check_legacy(file, size)
    else:
        raise TensorFileError(DAMAGED)
    needed = max(sum(s.bytes for s in contents.storages.values()), contents.tensor_bytes)
    if needed > max_bytes:
        raise too_large(f"its tensors take {_megabytes(needed)}", max_bytes)


def _check_archive(file: IO[bytes], size: int) -> Contents:
    """Check the directory of a zip archive, and its pickle."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > (limit := _RATIO * size + _SLACK):
                raise too_large(f"it unpacks from {_megabytes(size)} to {_megabytes(total)}", limit)
            by_name = {member.filename.lower(): member for member in members}
            # Archives that different readers could read differently are rejected.
            if len(by_name) < len(members) or any(m.filename != m.orig_filename for m in members):
                raise TensorFileError(DAMAGED)
            root = members[0].filename.split("/")[0].lower()
            if f"{root}/constants.pkl" in by_name:  # a TorchScript program
                raise objects_error()
            contents = contents_of(BytesIO(archive.read(by_name[f"{root}/data.pkl"])))
    except TensorFileError:
        raise
    except Exception as error:  # zipfile, zlib and struct raise errors of their own types
        raise TensorFileError(DAMAGED) from error
    for key, storage in contents.storages.items():
        record = by_name.get(f"{root}/data/{key}".lower())
        if record is None or record.file_size < storage.bytes:
            raise TensorFileError(DAMAGED)
    return contents


def _check_legacy(file: IO[bytes], size: int) -> Contents:
    """Check a file from before 2020: pickles of a number, a version, the machine, the object and its keys."""
    bounded = cast("IO[bytes]", _Bounded(file, size))
    head = file.read(2)
    file.seek(0)
    if head[1:] > b"\x02":  # a pickle that torch did not write: its protocol is 2
        raise objects_error()
    if contents_of(bounded).value != _MAGIC:
        raise TensorFileError(DAMAGED)
    contents_of(bounded), contents_of(bounded)
    contents = contents_of(bounded)
    contents_of(bounded)
    # Torch allocates all storages before it reads the first.
    if sum(s.bytes for s in contents.storages.values()) > size - file.tell():
        raise TensorFileError(DAMAGED)
    return contents


def too_large(what: str, limit: int) -> TensorFileError:
    """Return the error for a file whose contents exceed a limit in bytes.

    Args:
        what: Clause with the size of the contents.
        limit: Limit in bytes.
    """
    reason = f"{what}, more than the {_megabytes(limit)} that such a file needs"
    return TensorFileError(reason, "Check that it is the file you mean.")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count >= 10**6 else f"{count / 1e3:,.1f} kB"
