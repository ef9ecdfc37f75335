"""Checkpoints, from which an interrupted run continues, to the same bits on a CPU."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from nstbench.callbacks.curves import Curves
from nstbench.errors import FULL, StorageError
from nstbench.modules.image_optimization import ImageOptimization
from nstbench.modules.member import Member
from nstbench.optimizers.rows import State
from nstbench.runtime.files import storage, write_atomically
from nstbench.runtime.tensor_file import DamagedFileError, read_tensors, write_tensors
from nstbench.tracking.record import RunRecord

log = logging.getLogger(__name__)

NAME, PREVIOUS = "checkpoint.ckpt", "checkpoint.previous.ckpt"


@dataclass(frozen=True)
class Saved:
    """A run after one of its steps, as a checkpoint holds it.

    Attributes:
        fingerprint: Fingerprint of the run.
        company: Names of the runs that were optimised in one batch, in the order of its rows.
        seconds: Seconds of optimisation so far, over all attempts.
        stage: Place of the stage in the schedule, from 0.
        steps_before: Steps of earlier stages.
        stage_step: Steps of this stage.
        evaluations: Evaluations so far, over all stages.
        stopped_early: Whether the stage ended on a plateau.
        stages_done: Entries of earlier stages in the record.
        canvas: Parameters of the canvas by name.
        optimizer: State of the optimiser.
        scales: Scale of every part of every term, by the term's name.
        encoding: State of the encoder's precision.
        plateau: State of the plateau's test.
        random_state: State of PyTorch's random numbers.
    """

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    fingerprint: str
    company: tuple[str, ...]
    seconds: float
    stage: int
    steps_before: int
    stage_step: int
    evaluations: int
    stopped_early: bool
    stages_done: list[dict[str, Any]]
    canvas: dict[str, Tensor]
    optimizer: dict[str, Any]
    scales: dict[str, Any]
    encoding: dict[str, Any]
    plateau: list[float]
    random_state: Tensor

    @property
    def step(self) -> int:
        """Steps over all stages."""
        return self.steps_before + self.stage_step


_SAVED = TypeAdapter(Saved)


class Checkpoint(pl.Callback):
    """Write ``checkpoint.ckpt`` every k steps and after the last step of a stage.

    Each is written completely before it takes the place of the one before, which is kept as
    ``checkpoint.previous.ckpt``: a damaged checkpoint costs k steps, and the runs of a batch, which are
    written one after the other, can all continue from the same step.

    Args:
        folder: Folder of the run.
        every: Steps between checkpoints.
        curves: Curves whose seconds are kept, so that they count all attempts.
        fingerprint: Fingerprint of the run.
    """

    def __init__(self, folder: Path, every: int, curves: Curves, fingerprint: str) -> None:
        self.folder, self.every, self.curves, self.fingerprint = folder, every, curves, fingerprint
        self._impossible = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write if a checkpoint is due, or the run is to stop.

        A run whose folder cannot be written to leaves the batch.

        Raises:
            StorageError: The disk is full: all runs of the batch stop, and continue together.
        """
        assert isinstance(pl_module, ImageOptimization)
        names = [member.name for member in pl_module.members]
        if self.folder.name not in names:  # it has left the batch
            return
        row = names.index(self.folder.name)
        member = pl_module.members[row]
        if not self.is_due(member, stopping=pl_module.stopping):
            return
        try:
            self.write(member, pl_module.state_of(member), names)
        except StorageError as error:
            if error.errno in FULL:
                raise
            pl_module.leave({row: error})

    def is_due(self, member: Member, *, stopping: bool) -> bool:
        """Return whether to write one after the present step.

        Args:
            member: Canvas of the run.
            stopping: Whether the run is to stop after this step.
        """
        due = stopping or member.progress.is_at_end or member.progress.step % self.every == 0
        return due and not self._impossible

    def write(self, member: Member, optimizer: State, company: Sequence[str]) -> None:
        """Write the state of a run after its present step.

        Args:
            member: Canvas of the run.
            optimizer: State of the run's optimiser.
            company: Names of the runs in its batch.
        """
        about = {
            "fingerprint": self.fingerprint,
            "company": tuple(company),
            "seconds": float(self.curves.seconds),
        }
        newest, fresh = self.folder / NAME, self.folder / "checkpoint.next.ckpt"
        tree = {**about, **member.state(), "optimizer": optimizer}
        try:
            write_atomically(fresh, lambda file: write_tensors(file, tree))
        except TypeError as error:
            # The state of an optimiser of the user's own may hold anything.
            log.warning("the run cannot be continued if it is interrupted: %s", error)
            self._impossible = True
            return
        previous = self.folder / PREVIOUS
        with storage(self.folder, newest):
            for path in (newest, previous):
                if path.is_dir():  # not written by nstbench: it is kept under another name
                    os.replace(path, path.with_name(f"moved-aside-{time.time_ns()}"))
            if newest.is_file():
                os.replace(newest, previous)
            os.replace(fresh, newest)


class Stop(pl.Callback):
    """End the runs after the step at which the user asked to stop."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop as Ctrl-C does, if asked to.

        Raises:
            KeyboardInterrupt: The user asked for it.
        """
        assert isinstance(pl_module, ImageOptimization)
        if pl_module.stopping:
            raise KeyboardInterrupt


def latest_checkpoint(folder: Path, fingerprint: str) -> Saved | None:
    """Return the newest undamaged checkpoint, from which a run continues; None if it starts anew.

    A checkpoint that is damaged, or another run's, is reported in the log and not used. The runs of a
    batch write theirs one after the other; where that was interrupted, all continue from the last
    step of which all have a checkpoint.

    Args:
        folder: Folder of the run.
        fingerprint: Fingerprint of the run.
    """
    newest = read_checkpoint(folder / NAME, fingerprint)
    if newest is not None and _reached_by_all(newest, folder):
        return newest
    before = read_checkpoint(folder / PREVIOUS, fingerprint)
    if before is not None and (newest is None or _reached_by_all(before, folder)):
        return before
    if newest is not None and not (folder / PREVIOUS).exists():
        return None  # the first checkpoint of the batch: other runs have none, so all begin anew
    return newest


def read_checkpoint(path: Path, fingerprint: str | None = None) -> Saved | None:
    """Return an undamaged checkpoint; None if there is none, or none that can be used, which is logged.

    Args:
        path: Path of the checkpoint.
        fingerprint: Fingerprint of the run that it must be of; None: of any.
    """
    try:
        saved = _SAVED.validate_python(read_tensors(path))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        reason = f"its {'.'.join(map(str, error.errors()[0]['loc']))} cannot be used"
    except DamagedFileError as error:
        reason = str(error)
    else:
        if fingerprint in (None, saved.fingerprint):
            return saved
        reason = "it belongs to a run with other settings"
    log.warning("%s is not used: %s", path, reason)
    return None


def warn_of_other_company(name: str, before: Sequence[str] | None, now: Sequence[str]) -> None:
    """Log that a run continues in another batch than the one it began in.

    Sums are rounded otherwise for another number of canvases, so the picture ends in other last bits.

    Args:
        name: Name of the run.
        before: Names of the runs of the batch whose checkpoint is continued; None: none is.
        now: Names of the runs that are optimised together now.
    """
    if before is not None and set(before) != set(now):
        log.warning(
            "%s was begun in a batch of %d and continues in one of %d (or of others): "
            "its last bits will be those of neither",
            name,
            len(before),
            len(now),
        )


def _reached_by_all(saved: Saved, folder: Path) -> bool:
    """Return whether all unfinished runs of its batch have a checkpoint of its step."""
    others = [folder.parent / name for name in saved.company if name != folder.name]
    return all(saved.step in _usable_steps(other) for other in others if _is_running(other))


def _is_running(folder: Path) -> bool:
    record = RunRecord.read(folder)
    return record is not None and record.state == "running"


def _usable_steps(folder: Path) -> set[int | None]:
    """Return the steps from which a run can continue, by its undamaged checkpoints."""
    found = set()
    for name in (NAME, PREVIOUS):
        with suppress(OSError):
            status = (folder / name).stat()
            found.add(_usable_step(folder / name, status.st_mtime_ns, status.st_size, status.st_ino))
    return found


@lru_cache(maxsize=256)  # each run of a batch reads the checkpoints of all others
def _usable_step(path: Path, *version: int) -> int | None:
    try:
        saved = _SAVED.validate_python(read_tensors(path))
    except (OSError, DamagedFileError, ValidationError):
        return None
    # The name of a run's folder ends with the start of its fingerprint.
    return saved.step if saved.fingerprint.startswith(path.parent.name.rpartition("-")[2]) else None
