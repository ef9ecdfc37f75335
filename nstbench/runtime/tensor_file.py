"""Files of tensors and plain values, with a hash that reveals damage: the format of checkpoints.

A file is a safetensors file (a JSON header, then the tensors' bytes). The header's ``__metadata__`` holds a
format version, the SHA-256 of the whole file, and the tree of plain values that contains the tensors. No
part of it is a pickle, so reading never runs code, and a file takes no more memory than its own size.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from nstbench.runtime.regular_files import NotRegularError, open_regular

FORMAT = "nstbench-1"
_UNSIGNED = "0" * 64  # the place of the hash while it is computed
_LARGEST_HEADER = 100_000_000  # bytes; safetensors' own limit
_CHUNK = 1 << 20
_DTYPES: dict[torch.dtype, str] = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class DamagedFileError(ValueError):
    """A file of tensors cannot be used; the message is a clause that says why."""


def write_tensors(file: IO[bytes], tree: Mapping[str, Any]) -> None:
    """Write a tree of tensors and plain values to a binary stream.

    Args:
        file: Stream to write to; it need not seek.
        tree: Nested dicts, lists and tuples of tensors, numbers, strings, booleans and None. Keys are
            strings or integers.

    Raises:
        TypeError: The tree holds a value of another type; nothing was written.
    """
    tensors: list[Tensor] = []
    metadata = {"sha256": _UNSIGNED, "format": FORMAT, "tree": json.dumps(_encode(tree, tensors))}
    entries: dict[str, Any] = {"__metadata__": metadata}
    offset = 0
    for number, tensor in enumerate(tensors):
        size = tensor.numel() * tensor.element_size()
        entries[str(number)] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    found = hashlib.sha256(header)
    for tensor in tensors:  # one at a time, twice: copies of all of them may take gigabytes
        found.update(_bytes(tensor))
    file.write(header.replace(_UNSIGNED.encode(), found.hexdigest().encode(), 1))
    for tensor in tensors:
        file.write(_bytes(tensor))


def read_tensors(path: Path) -> dict[str, Any]:
    """Return the tree of a file that `write_tensors` wrote, on the CPU, after checking its hash.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedFileError: The file is not a regular one, has another format, or is damaged.
    """
    with _open(path) as file:
        header, metadata = _read_header(file)
        digest = hashlib.sha256(header.replace(metadata["sha256"].encode(), _UNSIGNED.encode(), 1))
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        if digest.hexdigest() != metadata["sha256"]:
            raise DamagedFileError("its content does not match its hash")
        try:
            # Imported here: only runs that continue need it.
            from safetensors import SafetensorError, safe_open

            with safe_open(path, framework="pt", device="cpu") as found:
                tree = _decode(json.loads(metadata["tree"]), found.get_tensor)
        except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedFileError(f"its content cannot be read ({type(error).__name__})") from error
    if not isinstance(tree, dict):
        raise DamagedFileError("its content is not a dictionary")
    return tree


def read_values(path: Path) -> dict[str, Any]:
    """Return the tree of a file with None for each tensor. This is quick, as the hash is not checked.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedFileError: The file is not a regular one, has another format, or its header is damaged.
    """
    with _open(path) as file:
        _, metadata = _read_header(file)
    try:
        tree = _decode(json.loads(metadata["tree"]), lambda _: None)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedFileError(f"its header cannot be read ({type(error).__name__})") from error
    if not isinstance(tree, dict):
        raise DamagedFileError("its content is not a dictionary")
    return tree


def digest(tensors: Iterable[Tensor]) -> str:
    """Return the SHA-256 of the shapes and bytes of tensors: equal only if they agree to the last bit."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(str(tuple(tensor.shape)).encode())
        found.update(_bytes(tensor))
    return found.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _open(path: Path) -> IO[bytes]:
    try:
        return open_regular(path)
    except NotRegularError as error:
        raise DamagedFileError(str(error)) from error
    except FileNotFoundError:
        if path.is_symlink():
            raise DamagedFileError("this is a link to a file that does not exist") from None
        raise
    except OSError as error:
        raise DamagedFileError(f"it cannot be opened ({error.strerror or error})") from error


def _read_header(file: IO[bytes]) -> tuple[bytes, dict[str, str]]:
    """Return the bytes of the header, and its metadata."""
    size = int.from_bytes(file.read(8), "little")
    if size > min(_LARGEST_HEADER, os.fstat(file.fileno()).st_size - 8):
        raise DamagedFileError("it is cut short, or of another format")
    file.seek(0)
    header = file.read(8 + size)
    try:
        metadata = json.loads(header[8:])["__metadata__"]
        version, sha256, tree = metadata["format"], metadata["sha256"], metadata["tree"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedFileError("it is empty, damaged, or of another format") from error
    if version != FORMAT:
        raise DamagedFileError(f"its format is {str(version)[:40]!r}, not {FORMAT!r}")
    if not (isinstance(sha256, str) and len(sha256) == len(_UNSIGNED) and isinstance(tree, str)):
        raise DamagedFileError("its header is damaged")
    return header, metadata


def _encode(node: Any, tensors: list[Tensor]) -> Any:
    """Return a node as JSON values; its tensors are appended to ``tensors``."""
    if node is None or isinstance(node, bool | int | float | str):
        return node
    if isinstance(node, Tensor):
        if node.dtype not in _DTYPES:
            raise TypeError(f"a tensor of type {node.dtype} cannot be written")
        tensors.append(node)
        return {"tensor": str(len(tensors) - 1)}
    if isinstance(node, list):
        return [_encode(each, tensors) for each in node]
    if isinstance(node, tuple):
        return {"tuple": [_encode(each, tensors) for each in node]}
    if isinstance(node, Mapping):
        if not all(isinstance(key, str | int) and not isinstance(key, bool) for key in node):
            raise TypeError("keys that can be written are strings or integers")
        return {"dict": [[key, _encode(value, tensors)] for key, value in node.items()]}
    raise TypeError(f"{type(node).__module__}.{type(node).__qualname__} cannot be written")


def _decode(node: Any, tensor: Callable[[str], Any]) -> Any:
    if isinstance(node, list):
        return [_decode(each, tensor) for each in node]
    if not isinstance(node, dict):
        return node
    ((kind, value),) = node.items()
    if kind == "tensor":
        return tensor(value)
    if kind == "tuple":
        return tuple(_decode(each, tensor) for each in value)
    if kind == "dict":
        return {key: _decode(each, tensor) for key, each in value}
    raise ValueError(kind)
