"""The output folder of a comparison or a report."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path

import psutil

from nstbench.errors import UserError

_PART = re.compile(r"\..+\.([0-9]{1,9})\.part")
_AGE = 60.0  # seconds; newer files may be written by a process of another machine that shares the disk


def output_folder(study: Path, typed: Path | None, name: str) -> Path:
    """Return the output folder: the one typed, or ``name`` in the study.

    Raises:
        UserError: If the latter is a link out of the study, as a study that is not trusted may contain.
    """
    if typed is not None:
        return typed.expanduser()
    output = study / name
    try:
        real, top = output.resolve(), study.resolve()
    except (OSError, RuntimeError, ValueError):  # reading the study then raises an error
        return output
    if not real.is_relative_to(top):
        reason = f"it is a link to {real}, out of the study"
        raise UserError("STUDY", output, reason, f"If results are to be written there, type --output {real}")
    return output


def remove_leftovers(folder: Path) -> None:
    """Remove partial files of killed processes from a folder."""
    with suppress(OSError):
        for file in folder.glob(".*.part"):
            found = _PART.fullmatch(file.name)
            if found and not psutil.pid_exists(int(found[1])):
                with suppress(OSError):
                    if time.time() - file.lstat().st_mtime > _AGE:
                        file.unlink()
