"""Commands whose end is known, and what is wrong where a trial of them ends otherwise."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.robustness.commands import Outcome, run_command
from benchmarks.robustness.moments import Moment, read_moments, record_moments

LAUNCHERS = ("single", "basic", "pool", "batched")
_BASE = (
    *("encoder=random", "encoder.shape=vgg11", "encoder.width=0.0625", "canvas=pixels", "canvas.start=noise"),
    *("size=64", "steps=4", "metrics=none", "logger=none", "trainer=cpu", "trainer.threads=1"),
    *("record.progress=false", "record.curves_every=1", "study=study"),
)
_OPTIMIZERS = {"lbfgs": ("optimizer=lbfgs",), "adam": ("optimizer=adam", "optimizer.lr=0.02")}
_SEEDS = {"single": "0", "basic": "0,1", "pool": "0,1", "batched": "0,1,2"}
# A batch that goes on with other company computes with other last bits; more is another picture.
_LAST_BITS = 32 / 255
_ALL_WRITTEN = ("metrics=fast", "record.snapshot_every=1", "record.diagnostics_every=1")
_WRITTEN = ("steps", "evaluations", "final_losses", "stages", "state")


@dataclass(frozen=True)
class Setup:
    """What a trial runs.

    Attributes:
        launcher: One of `LAUNCHERS`; ``single``: a run, no sweep.
        stages: One or two.
        optimizer: ``lbfgs`` or ``adam``.
        every: Steps between checkpoints.
        extra: Further overrides.
    """

    launcher: str = "single"
    stages: int = 1
    optimizer: str = "lbfgs"
    every: int = 2
    extra: tuple[str, ...] = ()

    def __str__(self) -> str:
        words = [self.launcher, f"{self.stages} stage{'s'[: self.stages - 1]}", self.optimizer]
        return ", ".join([*words, f"checkpoint_every={self.every}", *self.extra])

    def arguments(self, output: Path, pictures: Path) -> list[str]:
        """Return what is typed after ``nstbench``."""
        given = [f"content={pictures / 'photo.png'}", f"style={pictures / 'painting.png'}", *_BASE]
        given += [*_OPTIMIZERS[self.optimizer], f"record.checkpoint_every={self.every}"]
        given += [f"seed={_SEEDS[self.launcher]}", f"output={output}", *self.extra]
        given += ["schedule=two_sizes"] if self.stages == 2 else []
        given = list({each.partition("=")[0]: each for each in given}.values())  # of each setting, the last
        if self.launcher == "single":
            return ["run", *given]
        given += [f"hydra/launcher={self.launcher}"]
        given += ["hydra.launcher.workers=2"] if self.launcher == "pool" else []
        return ["run", "-m", *given]


def matrix() -> list[Setup]:
    """Return a setup for every launcher, number of stages and optimiser."""
    return [Setup(*each) for each in product(LAUNCHERS, (1, 2), ("lbfgs", "adam"))]


@dataclass(frozen=True)
class Fault:
    """Something that a trial showed to be wrong.

    Attributes:
        kind: What it is counted as.
        text: Details, one line.
    """

    kind: str
    text: str


class Undisturbed:
    """The undisturbed run or sweep of a setup.

    Args:
        setup: What to run.
        folder: New folder for it.
        pictures: Folder with photo.png and painting.png.
    """

    def __init__(self, setup: Setup, folder: Path, pictures: Path) -> None:
        self.setup, self.folder, self.pictures = setup, folder, pictures
        folder.mkdir(parents=True)
        watch = record_moments(folder / "out", folder / "moments")
        self.outcome = run_command(setup.arguments(folder / "out", pictures), folder, prepare=watch)
        if self.outcome.status != 0:
            raise RuntimeError(f"the undisturbed run of {setup} failed:\n{self.outcome.output}")

    @cached_property
    def moments(self) -> list[Moment]:
        """What it had to do with files."""
        return read_moments(self.folder / "moments")

    @cached_property
    def runs(self) -> dict[str, Path]:
        """Folders of its runs, by name."""
        return run_folders(self.folder / "out")

    @cached_property
    def alone(self) -> Undisturbed:
        """The same runs, one after the other."""
        setup = replace(self.setup, launcher="basic", extra=("seed=0,1,2",))
        return Undisturbed(setup, self.folder / "alone", self.pictures)

    def seen_as(self, setup: Setup) -> Undisturbed:
        """Return what of these runs and moments another setup has as well."""
        seen = copy(self)
        seen.setup = setup
        if setup.launcher == "single":
            seen.runs = dict([*self.runs.items()][:1])
        moments = []
        for moment in self.moments:
            label, occurrence = moment.label, moment.occurrence
            if setup.launcher == "single" and not any(name in label for name in seen.runs):
                continue
            if "snapshots" in label and not any("snapshot" in each for each in setup.extra):
                continue
            if "checkpoint" in label:
                occurrence = (occurrence + setup.every - 1) // setup.every
            moments.append(Moment(label, occurrence))
        seen.moments = moments
        return seen


class Setups:
    """Undisturbed runs, each made once.

    Args:
        folder: Folder for them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: dict[Setup, Undisturbed] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for name, size, seed in (("photo", (64, 64), 1), ("painting", (40, 40), 2)):
            pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(folder / f"{name}.png")

    def of(self, setup: Setup) -> Undisturbed:
        """Return the undisturbed runs of a setup.

        What is written besides the pictures changes none of their bytes: setups that differ in that share
        the runs of one that writes all of it. Nor does the launcher, but for batches.
        """
        launcher = "batched" if setup.launcher == "batched" else "basic"
        key = replace(setup, launcher=launcher, every=1, extra=_ALL_WRITTEN)
        if key not in self._made:
            self._made[key] = Undisturbed(key, self.folder / f"setup-{len(self._made)}", self.folder)
        return self._made[key].seen_as(setup)


def run_folders(output: Path) -> dict[str, Path]:
    """Return the folders of runs in the study below an output folder, by name."""
    return {file.parent.name: file.parent for file in sorted(output.glob("study/*/config.yaml"))}


def faults_of_outcome(outcome: Outcome, statuses: Sequence[int] = (0,), what: str = "") -> list[Fault]:
    """Return what is wrong with how a command ended.

    Args:
        outcome: How it ended.
        statuses: Exit statuses that are expected.
        what: Words that tell the command from the others of its trial.
    """
    last = f"{what}{': ' if what else ''}{outcome.last_line[:200]}"
    if outcome.hung:
        return [Fault("hang", last)]
    if outcome.has_traceback:
        return [Fault("traceback", last)]
    if outcome.status not in statuses:
        return [Fault("exit status", f"{last} (exit {outcome.status})")]
    return []


def faults_of_results(reference: Undisturbed, output: Path) -> list[Fault]:
    """Return how what a command left differs from what it leaves undisturbed."""
    faults = []
    for name, undisturbed in reference.runs.items():
        folder = output / "study" / name
        if (picture := _difference(reference, name, folder)) is not None:
            faults.append(picture)
            if picture.kind != "company":
                continue
        differences = _record_differences(undisturbed, folder, exact=picture is None)
        last_bits = reference.setup.launcher == "batched" and picture is None
        if differences and last_bits and not _record_differences(undisturbed, folder, exact=False):
            faults.append(Fault("company", f"{name}: the same picture; {', '.join(differences)} differ"))
            differences = []
        faults += [Fault("record", f"{name}: {each}") for each in differences]
        left = {p.name for pattern in ("*checkpoint*", ".owner", "*.part") for p in folder.glob(pattern)}
        if left:
            faults.append(Fault("left behind", f"{name}: {', '.join(sorted(left))}"))
    if foreign := run_folders(output).keys() - reference.runs.keys():
        faults.append(Fault("record", f"runs that were not asked for: {', '.join(sorted(foreign))}"))
    return faults


def _difference(reference: Undisturbed, name: str, folder: Path) -> Fault | None:
    """Return what is wrong with the picture of a run; None: it has the same bytes."""
    expected, found = reference.runs[name] / "canvas.png", folder / "canvas.png"
    if not found.is_file():
        return Fault("no picture", name)
    if found.read_bytes() == expected.read_bytes():
        return None
    try:
        mine, theirs = (np.asarray(Image.open(f), dtype=np.float32) / 255 for f in (found, expected))
    except OSError as error:
        return Fault("broken picture", f"{name}: {error}")
    if mine.shape != theirs.shape:
        return Fault("different", f"{name}: size {mine.shape} instead of {theirs.shape}")
    if mine.std() < 1e-3:
        return Fault("blank", f"{name}: every pixel is {mine.ravel()[0] * 255:.0f}")
    largest = float(np.abs(mine - theirs).max())
    text = f"{name}: up to {largest * 255:.0f}/255 from the undisturbed run"
    if largest == 0:
        return Fault("different", f"{name}: the same pixels in other bytes")
    if reference.setup.launcher == "batched" and largest < _LAST_BITS:
        alone = (reference.alone.runs[name] / "canvas.png").read_bytes() == found.read_bytes()
        return Fault("company", f"{text}{'; the bytes of the run alone' if alone else ''}")
    return Fault("different", text)


def _record_differences(undisturbed: Path, folder: Path, *, exact: bool) -> list[str]:
    """Return in what the record and the tables of a run differ; values only where they must be exact."""
    try:
        expected, found = (json.loads((f / "run.json").read_text()) for f in (undisturbed, folder))
        tables = [_table(f / "curves.csv") for f in (undisturbed, folder)]
    except (OSError, ValueError, csv.Error) as error:
        return [f"{type(error).__name__}: {error}"]
    keys = _WRITTEN if exact else ("steps", "state")
    differences = [f"{key} of run.json" for key in keys if expected.get(key) != found.get(key)]
    if not exact:
        tables = [[{"evaluation": row["evaluation"]} for row in table] for table in tables]
    if tables[0] != tables[1]:
        differences.append("rows of curves.csv")
    if (folder / "snapshots").exists():
        snapshots = [{p.name: p.read_bytes() for p in f.glob("snapshots/*")} for f in (undisturbed, folder)]
        same = snapshots[0] == snapshots[1] if exact else snapshots[0].keys() == snapshots[1].keys()
        differences += [] if same else ["snapshots"]
    return differences


def _table(file: Path) -> list[dict[str, Any]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(opened)]
