"""Damage to files: to their bytes, to JSON, and things of other kinds in their place."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

BYTES: dict[str, Callable[[bytes, Random], bytes]] = {
    "bits flipped": lambda data, rng: _flipped(data, rng),
    "cut": lambda data, rng: data[: rng.randrange(max(1, len(data)))],
    "emptied": lambda data, rng: b"",
    "zeros": lambda data, rng: _overwritten(data, rng, bytes),
    "noise": lambda data, rng: _overwritten(data, rng, rng.randbytes),
    "appended": lambda data, rng: data + rng.randbytes(rng.randint(1, 64)),
    "doubled": lambda data, rng: data + data,
    "replaced by noise": lambda data, rng: rng.randbytes(rng.randint(1, 4096)),
    "not UTF-8": lambda data, rng: data[:20] + b"\xff\xfe\x00\x80" + data[20:],
    "a long line": lambda data, rng: data + b'"' + b"9" * 2**20,
}
_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 10**400, float("nan"), float("inf"), "", "text", "../../etc", "\x00"),
    *("\ud800", [], [[]], {}, {"": {}}, [1, "a", None], "9" * 5000, {"_target_": "os.system"}),
)


def damage_bytes(path: Path, way: str, rng: Random) -> None:
    """Damage a file in one of the ways of `BYTES`."""
    path.write_bytes(BYTES[way](path.read_bytes(), rng))


def put_in_place(path: Path, kind: str) -> None:
    """Put a thing of another kind in the place of a file."""
    path.unlink()
    if kind == "folder":
        path.mkdir()
        (path / "inside").touch()
    elif kind == "FIFO":
        os.mkfifo(path)
    else:
        targets = {
            "dangling link": "nowhere",
            "link to itself": path.name,
            "link to /etc/passwd": "/etc/passwd",
        }
        path.symlink_to(targets.get(kind, "/dev/null"))


def damage_json(text: str, rng: Random) -> tuple[str, str]:
    """Return JSON with one of its values changed, and what was changed."""
    data = json.loads(text)
    places: list[tuple[Any, Any, str]] = []
    _collect(data, "", places)
    container, key, name = rng.choice(places)
    what = rng.choice(("value", "value", "value", "removed", "deep", "wrapped", "many"))
    if what == "removed":
        del container[key]
    elif what == "deep":
        # Written as text: json.dumps itself would not go so deep.
        container[key] = "@deep@"
        nested = "[" * 3000 + "]" * 3000
        return json.dumps(data).replace('"@deep@"', nested), f"{name} nested 3,000 deep"
    elif what == "wrapped":
        container[key] = rng.choice(([container[key]], {"value": container[key]}))
    elif what == "many":
        container[key] = [0] * 100_000
    else:
        container[key] = rng.choice(_VALUES)
        return json.dumps(data), f"{name} = {str(container[key])[:30]!r}"
    return json.dumps(data), f"{name} {what}"


def new_folder(folder: Path) -> Path:
    """Return an empty folder in the place of what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _collect(node: Any, name: str, places: list[tuple[Any, Any, str]]) -> None:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        places.append((node, key, f"{name}.{key}".removeprefix(".")))
        _collect(value, f"{name}.{key}", places)


def _flipped(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwritten(data: bytes, rng: Random, make: Callable[[int], bytes]) -> bytes:
    length = min(len(data), rng.choice((1, 16, 512, 4096)))
    start = rng.randrange(len(data) - length + 1)
    return data[:start] + make(length) + data[start + length :]
