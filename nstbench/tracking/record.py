"""The run record: a run is a folder, and the folder is the truth."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from nstbench.errors import StorageError
from nstbench.runtime.files import write_text

State = Literal["running", "completed", "failed"]
Direction = Literal["min", "max"]

log = logging.getLogger(__name__)


@dataclass
class RunRecord:
    """What ``run.json`` holds.

    Attributes:
        run_id: Name of the folder: what the run is about, and the start of its fingerprint.
        state: ``running`` also says: interrupted, if no process is at work on it.
        fingerprint: What makes two runs the same (`nstbench.tracking.fingerprint`).
        study: The folder above.
        overrides: What was typed.
        config: Resolved, as a plain dict.
        inputs: Sha256 of the pictures and the weights.
        versions: Of what computes.
        device: Name of the device that optimised.
        threads: Of the CPU; another number adds up in another order, so ends in other last bits.
        steps: Optimiser steps made, over all stages.
        evaluations: Of the objective with its gradient, over all stages.
        timings: ``setup_s``, ``optimize_s`` (all attempts; in a batch, the time that all its runs took
            together), ``evaluate_s``.
        peak_memory_bytes: Of the device on a GPU; of the process on the CPU.
        final_losses: Each term of the final canvas, and ``total``; weighted.
        metrics: Name to value.
        directions: Name of a metric to ``max`` where higher is better, ``min`` where lower is; by the class
            that computed it. Readers of records import nothing that a record names.
        unavailable_metrics: Name to the reason.
        layers: The layer names that each term resolved to.
        starts: Each term's weight, value and weighted gradient norm on the initial canvas
            (`nstbench.objective.units.Start`).
        stages: Of each: its size, the steps and evaluations made, how many steps in which ``precision``,
            how many runs were optimised together at its end (``batch``), and why it ``stopped``: its
            ``steps`` were made, or the objective was on a ``plateau``.
        canvas_sha256: SHA-256 of ``canvas.png`` as it was written when the run was completed; empty before.
        error: Of a failed run.
    """

    run_id: str
    state: State
    fingerprint: str
    study: str
    overrides: list[str]
    config: dict[str, Any]
    inputs: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""
    threads: int = 0
    steps: int = 0
    evaluations: int = 0
    timings: dict[str, float] = field(default_factory=dict)
    peak_memory_bytes: int = 0
    final_losses: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    directions: dict[str, Direction] = field(default_factory=dict)
    unavailable_metrics: dict[str, str] = field(default_factory=dict)
    layers: dict[str, list[str]] = field(default_factory=dict)
    starts: dict[str, dict[str, float]] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)
    canvas_sha256: str = ""
    error: str | None = None

    def write(self, folder: Path) -> None:
        """Write ``run.json`` in one piece.

        Raises:
            StorageError: It cannot be written; the record that was there is unchanged.
        """
        write_text(folder / "run.json", json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> RunRecord | None:
        """Return the record in ``folder``; None where there is none, or a damaged one, which is logged."""
        from nstbench.tracking.record_schema import DamagedRecordError, read_record  # needs this class

        try:
            return read_record(folder, folder)
        except FileNotFoundError:
            return None
        except DamagedRecordError as error:
            log.warning("%s is taken for a folder without a record: %s", folder, error)
            return None


def mark_failed(folder: Path, reason: str) -> None:
    """Record that a run whose process has ended failed, unless it had ended before and if there is room."""
    record = RunRecord.read(folder)
    if record is not None and record.state == "running":
        record.state, record.error = "failed", reason
        with suppress(StorageError):  # the sweep goes on, and says itself why the run failed
            record.write(folder)


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a complete run, and files that killed processes left half-written.

    Args:
        folder: Folder of the run, which this process holds: nobody else writes there.
    """
    for pattern in ("checkpoint.*", ".*.part", "snapshots/.*.part"):
        for file in folder.glob(pattern):
            with suppress(OSError):  # the run is complete all the same
                file.unlink()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file; empty where it is no regular file or cannot be read."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        pass
    return ""


def versions() -> dict[str, str]:
    """Return the versions of what a picture depends on."""
    names = ("nstbench", "torch", "torchvision", "pytorch-lightning", "hydra-core", "numpy", "pillow")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            from nstbench import __version__

            found[name] = __version__ if name == "nstbench" else "missing"
    return found
