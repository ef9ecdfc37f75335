"""Files of a run's folder."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from nstbench.errors import FULL, StorageError, UserError
from nstbench.runtime.files import append_text, read_regular, storage, write_bytes, write_text


def append_row(path: Path, row: Mapping[str, object]) -> None:
    """Write a row at the end of a table, in one piece, and its header if it is the first.

    Raises:
        StorageError: The table cannot be written; it is unchanged.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(row), lineterminator="\n")
    with storage(path.parent, path):
        empty = not path.exists() or path.stat().st_size == 0
    if empty:
        writer.writeheader()
    writer.writerow(row)
    append_text(path, text.getvalue())


def drop_rows(path: Path, start: int) -> None:
    """Keep only the complete rows whose first number is below ``start``.

    Raises:
        StorageError: The table cannot be written, or is not a regular file.
    """
    with storage(path.parent, path):
        if not path.exists():
            return
        content = read_regular(path)
    header, *lines = content.splitlines(keepends=True) or [b""]
    columns = header.count(b",")
    # A spreadsheet may have quoted a number, and damage may have changed it to anything.
    rows = [r for r in lines if r.endswith(b"\n") and r.count(b",") == columns and _first_number(r) < start]
    if rows and header.endswith(b"\n"):
        if header + b"".join(rows) != content:
            write_bytes(path, header + b"".join(rows))
    else:
        with storage(path.parent, path):
            path.unlink()


def _first_number(row: bytes) -> float:
    """Return the first number of a row; infinity if there is none."""
    try:
        return int(row.split(b",", 1)[0])
    except ValueError:
        return math.inf


def run_folder(output: str, study: str, run_id: str) -> Path:
    """Create and return ``<output>/<study>/<run_id>``.

    Raises:
        UserError: The folder cannot be made or written to.
        StorageError: The disk is full.
    """
    folder = Path(output).expanduser() / study / run_id
    made: list[Path] = []
    try:
        made = [f for f in (folder, *folder.parents) if not f.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        for each in made:  # remove the folders just made, the deepest first
            with suppress(OSError):
                each.rmdir()
        if error.errno in FULL:
            raise StorageError(folder, error) from error
        reason = f"results cannot be written there ({error.strerror or error})"
        raise UserError("output", output, reason, "Give a folder you may write to: output=…") from error
    return folder


def remove_if_empty(folder: Path) -> None:
    """Undo `run_folder`: remove the folder and the two above it, if they are empty."""
    with suppress(OSError):
        for name in (".lock", ".owner"):
            (folder / name).unlink(missing_ok=True)
        for each in (folder, folder.parent, folder.parent.parent):
            each.rmdir()


def run_id(label: list[str], fingerprint: str) -> str:
    """Return a folder name: words that describe the run, and the start of its fingerprint."""
    words = "-".join(re.sub(r"[^A-Za-z0-9_.]+", "_", word).strip("_.") for word in label if word)
    return f"{words[:80].strip('-_.')}-{fingerprint[:8]}".lstrip("-")


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write the resolved configuration as ``config.yaml``."""
    write_text(folder / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
