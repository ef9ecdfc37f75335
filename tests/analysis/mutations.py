"""Damage to the files of a study, chosen by a random generator."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

RECORD_FILES = ("run.json", "curves.csv", "canvas.png", "diagnostics.csv", "config.yaml", "run.log")
STUDY_FILES = (".sweep/commands.txt", ".sweep/elsewhere-7/000000.json")
_VALUES: list[Any] = [
    None, True, 0, -1, 10**30, 10**400, 1e308, -1e300, 1e-320, float("nan"), float("inf"), "", "x", "\ud800",
    "\0", "<script>alert(1)</script>", "../../..", "/etc/passwd", [], {}, [[]], {"": {}}, ["x"], {"x": 1},
    "\x1b]0;t\x07", {"__proto__": 1}, "z" * 70_000, {"_target_": "antigravity.x"},
]  # fmt: skip


def mutate(study: Path, random_: random.Random, times: int = 1) -> list[str]:
    """Damage so many files of a study; return what was done."""
    runs = sorted(f.parent for f in study.glob("*/run.json"))
    files = [run / name for run in runs for name in RECORD_FILES]
    weights = [6 if file.name == "run.json" else 1 for file in files]
    files += [study / name for name in STUDY_FILES]
    weights += [4] * len(STUDY_FILES)
    done = []
    for file in dict.fromkeys(random_.choices(files, weights, k=times)):
        ways: list[Callable[[Path, random.Random], None]] = [_flip, _cut, _insert, _text, _replace]
        if file.suffix == ".json":
            ways += [_value] * 6
        way = random_.choice(ways)
        way(file, random_)
        done.append(f"{way.__name__} {file.relative_to(study)}")
    return done


def _flip(file: Path, random_: random.Random) -> None:
    data = bytearray(file.read_bytes())
    for _ in range(random_.randint(1, 8) if data else 0):
        data[random_.randrange(len(data))] = random_.randrange(256)
    file.write_bytes(data)


def _cut(file: Path, random_: random.Random) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: random_.randrange(len(data) + 1)])


def _insert(file: Path, random_: random.Random) -> None:
    data = file.read_bytes()
    place = random_.randrange(len(data) + 1)
    new = random_.choice(
        [b'"', b"\n", b"\0", b",", b"\xff", b"9" * 5000, b"a" * 2**20, b"[" * 2000, b"1e999"]
    )
    file.write_bytes(data[:place] + new + data[place:])


def _text(file: Path, random_: random.Random) -> None:
    """Replace a number in a text."""
    parts = file.read_bytes().split(b",")
    parts[random_.randrange(len(parts))] = random_.choice(
        [b"1e308", b"-1", b"nan", b"inf", b'"', b"", b"1" * 400]
    )
    file.write_bytes(b",".join(parts))


def _replace(file: Path, random_: random.Random) -> None:
    """Put something else in the place of a file."""
    file.unlink()
    kind = random_.randrange(7)
    if kind == 0:
        os.mkfifo(file)
    elif kind == 1:
        file.mkdir()
    elif kind == 2:
        file.symlink_to("/etc/passwd")
    elif kind == 3:
        file.symlink_to(file.name)
    elif kind == 4:
        file.symlink_to("/dev/zero")
    elif kind == 5:
        file.write_bytes(random_.randbytes(300))
    else:
        file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n" * 9)


def _value(file: Path, random_: random.Random) -> None:
    """Replace, remove or deepen a value of a JSON file."""
    data = json.loads(file.read_bytes())
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(data)
    top = [(data, key) for key in data]
    node, key = random_.choice(random_.choice([places, top]))
    way = random_.randrange(5)
    if way == 0:
        del node[key]
    elif way == 1 and isinstance(node, dict):
        node[random_.choice(["of", "state", "judge", "a.b", "_target_", "\x1b[1m", "folder"])] = node.pop(key)
    elif way == 2:
        for _ in range(random_.choice([5, 30, 900])):
            node[key] = {"deeper": node[key]} if random_.random() < 0.5 else [node[key]]
    else:
        node[key] = random_.choice(_VALUES)
    file.write_text(json.dumps(data), encoding="utf-8", errors="surrogatepass")


def copy(study: Path, to: Path) -> Path:
    """Copy a study, in place of what was there."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(study, to, symlinks=True)
    return to
