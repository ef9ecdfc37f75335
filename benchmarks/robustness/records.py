"""Damaged records of a study: they are listed, the others are shown, and what was damaged is made again."""

from __future__ import annotations

import csv
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from benchmarks.robustness.commands import run_command
from benchmarks.robustness.damage import BYTES, damage_bytes, damage_json, new_folder, put_in_place
from benchmarks.robustness.studies import (
    Fault,
    Setup,
    Setups,
    Undisturbed,
    faults_of_outcome,
    faults_of_results,
)
from benchmarks.robustness.tally import Tally

_EXTRA = (
    "loss/style=[gram],[moments]",
    "seed=0,1,2",
    "metrics=fast",
    "record.diagnostics_every=1",
    "record.snapshot_every=2",
)
_SETUP = Setup("basic", 1, "adam", every=2, extra=_EXTRA)
_FILES = ("run.json", "run.json", "config.yaml", "curves.csv", "diagnostics.csv", "canvas.png", "run.log")
_SWEEP_FILES = ("commands.txt", "multirun.yaml")
_KINDS = ("folder", "FIFO", "dangling link", "link to itself", "link to /dev/null", "link to /etc/passwd")
_TEXT_LINES = (
    *("1,2,3", '"', "nan,nan,nan,nan", "," * 500, "1e999,-1,0", "a: &a [*a]", "? ", "{" * 2000, "\x00"),
    *("!!python/object/apply:os.system ['true']", "\u2028,\u202e"),
)
_MOST_MEGABYTES = 1600
_FOLDER = re.compile(r"(\S+) is a folder, and a file is to be written there\. Remove it")


def run_records(tally: Tally, count: int, seed: int, folder: Path) -> None:
    """Damage files of a completed study and read it with all commands that read studies.

    One file a trial; a few trials (less than 50) are made five at a time.
    """
    setups = Setups(folder / "undisturbed")
    reference = Undisturbed(_SETUP, folder / "undisturbed" / "study", setups.folder)
    together = 1 if count >= 50 else min(count, len(reference.runs) - 1)
    for number in range(0, count, together):
        rng = Random(f"{seed}/records/{number}")
        trial = new_folder(folder / "trial")
        shutil.copytree(reference.folder / "out", trial / "out")
        victims = rng.sample([*reference.runs], min(together, count - number))
        done = [_damage(trial / "out" / "study", victim, rng) for victim in victims]
        faults = _read_and_repeat(reference, trial, set(victims))
        tally.add("; ".join(done), faults, len(victims))


def _damage(study: Path, victim: str, rng: Random) -> str:
    """Damage one file of a run, or of the sweep; return what was done."""
    file = study / victim / rng.choice(_FILES)
    if rng.random() < 0.1:
        file = study / ".sweep" / rng.choice(_SWEEP_FILES)
    if not os.path.lexists(file):
        file.write_text("")
    elif not file.is_file():
        return f"{file.name}: as it was left"
    ways = _ways(file)
    what = rng.choice(sorted(ways))
    return f"{file.name}: {ways[what](file, rng) or what}"


def _ways(file: Path) -> dict[str, Callable[[Path, Random], str | None]]:
    """Return ways to damage a file, by name; each returns details of what it did, or None."""
    ways: dict[str, Callable[[Path, Random], str | None]] = {}
    if file.stat().st_size:
        ways |= {way: lambda path, rng, way=way: damage_bytes(path, way, rng) for way in BYTES}  # type: ignore[misc]
    ways["another kind of file"] = _replace
    if file.suffix == ".json":
        for i in range(2 * len(BYTES)):  # mostly so
            ways[f"json {i}"] = _json
    if file.suffix in {".csv", ".yaml", ".txt", ".log"}:
        for i in range(len(BYTES)):
            ways[f"line {i}"] = _line
    if file.suffix == ".csv" and file.stat().st_size:
        for i in range(len(BYTES)):
            ways[f"cell {i}"] = _cell
    return ways


def _replace(path: Path, rng: Random) -> str:
    kind = rng.choice(_KINDS)
    put_in_place(path, kind)
    return f"{kind} in its place"


def _json(path: Path, rng: Random) -> str:
    text, what = damage_json(path.read_text(encoding="utf-8"), rng)
    path.write_text(text, encoding="utf-8")
    return what


def _line(path: Path, rng: Random) -> str:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    line = rng.choice(_TEXT_LINES)
    lines.insert(rng.randint(0, len(lines)), line + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return f"a line {line[:20]!r}"


def _cell(path: Path, rng: Random) -> str:
    with path.open(encoding="utf-8", newline="") as file:
        rows = [*csv.reader(file)]
    row = rng.randrange(len(rows))
    column = rng.randrange(len(rows[row]))
    rows[row][column] = rng.choice(("", "nan", "-inf", "1e400", "text", "9" * 400, "-1", "0x10", "1_000"))
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return f"cell {row},{column} = {rows[row][column][:20]!r}"


def _read_and_repeat(reference: Undisturbed, trial: Path, victims: set[str]) -> list[Fault]:
    """Compare, report, and give the command of the study again."""
    study = trial / "out" / "study"
    faults = []
    sound = [run for run in reference.runs if run not in victims]
    for command in ("compare", "report"):
        outcome = run_command([command, str(study)], trial)
        faults += faults_of_outcome(outcome, (0, 2) if command == "compare" else (0,), command)
        if outcome.megabytes > _MOST_MEGABYTES:
            faults.append(Fault("memory", f"{command}: {outcome.megabytes} MB"))
    page = "".join(_text(file) for file in sorted((study / "report").glob("*.*")))
    if lost := [run for run in sound if run not in page]:
        faults.append(Fault("not shown", f"{', '.join(lost)} is not on the page"))
    if "root:x:0" in page:
        faults.append(Fault("leak", "a file outside of the study is on the page"))
    table = _text(study / "comparison" / "runs.csv")
    if table and (lost := [run for run in sound if run not in table]):
        faults.append(Fault("not shown", f"{', '.join(lost)} is not in runs.csv"))
    arguments = [*reference.setup.arguments(trial / "out", reference.pictures), "retry_failed=true"]
    outcome = run_command(arguments, trial)
    if outcome.status == 1 and (found := _FOLDER.search(outcome.output)):
        # A run does not remove a folder that it did not make: it says which one is to be removed.
        for blocking in study.glob(f"*/{found[1]}/"):
            shutil.rmtree(blocking)
        outcome = run_command(arguments, trial)
    faults += faults_of_outcome(outcome, (0,), "given again")
    wrong = faults_of_results(reference, trial / "out")
    # A record, or a table, that is damaged in a way that reads well is nobody's to find.
    return [*faults, *(f for f in wrong if f.kind != "record" or f.text.partition(":")[0] in sound)]


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
