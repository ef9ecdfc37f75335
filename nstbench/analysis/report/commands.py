"""The commands of a study, and the command that repeats a run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nstbench.tracking.record import RunRecord
from nstbench.tracking.record_files import MIB, printable, read_inside

_MOST_BYTES = 4 * MIB
_ESCAPED = re.compile(r"\\([\\()\[\]{}:=, \t])")  # how Hydra writes a text that is not quoted


class Command(NamedTuple):
    """A command, and the time at which it was typed; "" if unknown."""

    text: str
    when: str = ""


def typed(study: Path) -> list[Command]:
    """Return the commands that the sweeps of a study recorded in ``.sweep/commands.txt``, newest first.

    A command that was typed several times is returned once, with the last time.
    """
    try:
        data = read_inside(study, study / ".sweep" / "commands.txt", _MOST_BYTES)
    except OSError:
        return []
    lines = [printable(line) for line in data.decode("utf-8", errors="replace").splitlines()]
    parted = [line.partition("\t") for line in lines if line.strip()]
    newest: dict[str, Command] = {}
    for when, _, text in reversed(parted):
        newest.setdefault(text or when, Command(text, when) if text else Command(when))
    return list(newest.values())


def of_run(record: RunRecord) -> str:
    """Return the command that repeats a run."""
    return _line(_overrides(record))


def reconstructed(records: Sequence[RunRecord]) -> list[Command]:
    """Return commands that repeat all runs: one sweep if they are all its combinations.

    The list is empty if several runs have equal overrides, as runs of a program may.
    """
    runs = [dict(each.split("=", 1) for each in _overrides(record) if "=" in each) for record in records]
    plain = [each for record in records for each in _overrides(record) if "=" not in each]
    if not runs:
        return []
    names = dict.fromkeys(name for run in runs for name in run)
    values = {name: list(dict.fromkeys(run[name] for run in runs if name in run)) for name in names}
    distinct = {tuple(sorted(run.items())) for run in runs}
    if len(distinct) < len(runs):
        return []  # they differ in settings that were not typed
    combinations = 1
    for name in names:
        combinations *= len(values[name])
    if len(distinct) == combinations and not plain and all(len(run) == len(names) for run in runs):
        swept = [f"{name}={','.join(values[name])}" for name in names]
        return [Command(_line([*(["-m"] if combinations > 1 else []), *swept]))]
    return [Command(text) for text in dict.fromkeys(of_run(record) for record in records)]


def _overrides(record: RunRecord) -> list[str]:
    overrides = [_as_typed(each) for each in record.overrides]
    if not any(each.lstrip("+").startswith("study=") for each in overrides) and record.study:
        overrides.insert(0, f"study={record.study}")
    return overrides


def _as_typed(override: str) -> str:
    """Undo Hydra's escapes, which `nstbench run` adds itself and would add again."""
    name, equals, value = override.partition("=")
    if value.startswith(("'", '"')) or "\\" not in value:
        return override
    plain = _ESCAPED.sub(r"\1", value)
    return f'{name}{equals}"{plain}"' if "," in plain else f"{name}{equals}{plain}"


def _line(arguments: Sequence[str]) -> str:
    return " ".join(["nstbench run", *(shlex.quote(each) for each in arguments)])
