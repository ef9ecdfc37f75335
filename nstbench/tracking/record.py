"""The run record: a run is a folder, and its files are the only source of results."""

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
    """The content of ``run.json``.

    Attributes:
        run_id: Name of the folder: words that describe the run, and the start of its fingerprint.
        state: State of the run; ``running`` also stands for interrupted, if no process works on it.
        fingerprint: Hash of what determines the picture (`nstbench.tracking.fingerprint`).
        study: Name of the study, and of the folder above.
        overrides: Overrides of the run, as typed.
        config: Resolved configuration as a plain dict.
        inputs: SHA-256 of the pictures and the weights.
        versions: Versions of the libraries that compute.
        device: Name of the device that optimised.
        threads: CPU threads; another number sums in another order, so the last bits differ.
        steps: Number of optimiser steps made, over all stages.
        evaluations: Number of evaluations of the objective and its gradient, over all stages.
        timings: Durations in seconds: ``setup_s``, ``optimize_s`` (all attempts; in a batch, the time of all
            its runs together), ``evaluate_s``.
        peak_memory_bytes: Peak memory: of the device on a GPU, of the process on the CPU.
        final_losses: Weighted loss of each term on the final canvas, and their ``total``.
        metrics: Value of each metric, by its name.
        directions: Direction of each metric, by its name: ``max`` where higher is better, ``min`` where
            lower is, as its class said. Readers of records use this, and import no class that a record names.
        unavailable_metrics: Reason why a metric has no value, by its name.
        layers: Names of the layers of each term, by the term's name.
        channels: Number of channels, of those that never fired (``dead``) and of those that rarely did
            (``rare``) in the calibration pictures, by layer; empty without ``encoder.normalize_activations``.
        starts: Weight, value and weighted gradient norm of each term on the initial canvas, by its name
            (`nstbench.objective.units.Start`).
        stages: Facts of each stage: its size, the steps and evaluations made, the steps in each
            ``precision``, the number of runs that were optimised together at its end (``batch``), and the
            reason why it ``stopped``: its ``steps`` were made, or the objective was on a ``plateau``.
        warnings: What the run told while it was optimised, such as that it stalls.
        canvas_sha256: SHA-256 of ``canvas.png`` as it was written when the run was completed; empty before.
        error: Reason of a failure; None if the run has not failed.
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
    channels: dict[str, dict[str, int]] = field(default_factory=dict)
    starts: dict[str, dict[str, float]] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    canvas_sha256: str = ""
    error: str | None = None

    def write(self, folder: Path) -> None:
        """Write ``run.json`` in one piece.

        Raises:
            StorageError: The record cannot be written; an earlier one is unchanged.
        """
        write_text(folder / "run.json", json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> RunRecord | None:
        """Return the record in ``folder``; None if there is none, or a damaged one, which is logged."""
        from nstbench.tracking.record_schema import DamagedRecordError, read_record  # needs this class

        try:
            return read_record(folder, folder)
        except FileNotFoundError:
            return None
        except DamagedRecordError as error:
            log.warning("the record in %s is ignored: %s", folder, error)
            return None


def mark_failed(folder: Path, reason: str) -> None:
    """Record that a run failed because its process ended; a record in another state is left unchanged."""
    record = RunRecord.read(folder)
    if record is not None and record.state == "running":
        record.state, record.error = "failed", reason
        with suppress(StorageError):  # the sweep continues, and reports the reason itself
            record.write(folder)


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a complete run, and half-written files of killed processes.

    Args:
        folder: Folder of the run, whose lock this process holds.
    """
    for pattern in ("checkpoint.*", ".*.part", "snapshots/.*.part"):
        for file in folder.glob(pattern):
            with suppress(OSError):  # the run is complete even if a file stays
                file.unlink()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file; "" if it is not a regular file or cannot be read."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        pass
    return ""


def versions() -> dict[str, str]:
    """Return the versions of Python and the libraries that a picture depends on."""
    names = ("nstbench", "torch", "torchvision", "pytorch-lightning", "hydra-core", "numpy", "pillow")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            from nstbench import __version__

            found[name] = __version__ if name == "nstbench" else "missing"
    return found
