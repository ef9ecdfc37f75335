"""The folder of an open run: its lock, record, dashboards and log."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from nstbench.config.schema import Config
from nstbench.errors import StorageError, UserError
from nstbench.pictures.io import to_image, write_png
from nstbench.runs.preparation import Prepared
from nstbench.runtime.device import device_name, reset_peak_memory
from nstbench.runtime.files import storage
from nstbench.tracking.dashboards import Dashboards
from nstbench.tracking.files import remove_if_empty, run_folder, run_id, write_config
from nstbench.tracking.fingerprint import fingerprint, fingerprinted_settings
from nstbench.tracking.lock import alone_in
from nstbench.tracking.loggers import RunInfo
from nstbench.tracking.record import RunRecord, file_sha256, versions
from nstbench.tracking.run_log import RunLog

log = logging.getLogger(__name__)


class FailedBeforeError(Exception):
    """The run failed when it was last tried.

    Args:
        folder: Folder of the run.
        error: Reason why it failed.
    """

    def __init__(self, folder: Path, error: str) -> None:
        self.folder, self.error = folder, error
        super().__init__(error)


class Recording:
    """The files and dashboards of a run, from the locking of its folder to its release.

    Args:
        config: Settings of the run.
        prepared: Parts of the run.
        overrides: Overrides as they were typed.

    Attributes:
        record: Contents of ``run.json``.
        folder: Folder of the run.
        is_finished: Whether the run was finished before it was opened; ``record`` is then its record.
        dashboards: Dashboards.
        log: Messages of the run.
    """

    log: RunLog

    def __init__(self, config: Config, prepared: Prepared, overrides: Sequence[str]) -> None:
        self.config, self.prepared = config, prepared
        self.record = _new_record(config, prepared, overrides)
        self.folder = run_folder(config.output, config.study, self.record.run_id)
        self.is_finished = False
        self.dashboards = Dashboards()
        self._open = ExitStack()

    def open(self, retry_failed: bool, on_begin: Callable[[Path], None] | None) -> None:
        """Lock the folder, and begin the record and the dashboards, unless the run is finished.

        See `nstbench.runs.run.run` for the arguments and errors.
        """
        with ExitStack() as stack:
            stack.enter_context(alone_in(self.folder))
            before = self._read_record()
            if before is not None and before.state == "completed":
                self.record, self.is_finished = before, True
            elif before is not None and before.state == "failed" and not retry_failed:
                raise FailedBeforeError(self.folder, before.error or "it failed")
            else:
                self._start(before, on_begin)
                stack.callback(self.log.close)
                stack.push(self._record_end)
                write_config(self.folder, self.config.plain)
                self.write()
                reset_peak_memory(self.prepared.device)
            self._open = stack.pop_all()

    def write(self) -> None:
        """Write the record."""
        self.record.write(self.folder)

    def close(self, error: BaseException | None) -> None:
        """Record how the run ended, and release its folder; closing it again changes nothing.

        After Ctrl-C, a signal or a full disk the state stays "running": the same command continues the run.

        Args:
            error: Reason why the run did not finish; None: it did.
        """
        self._open.__exit__(type(error) if error else None, error, None)

    def write_picture(self, picture: Tensor) -> None:
        """Write ``canvas.png``, check that it can be read back as it is, and record its SHA-256."""
        path = self.folder / "canvas.png"
        write_png(path, picture, _provenance(self.record))
        with storage(self.folder, path), Image.open(path) as written:
            if written.tobytes() != to_image(picture).tobytes():
                raise RuntimeError("canvas.png is not the picture that was optimised")
        self.record.canvas_sha256 = file_sha256(path)

    def _read_record(self) -> RunRecord | None:
        """Return the record that is in the folder, unless its picture is not the one that was made."""
        before = RunRecord.read(self.folder)
        if before and before.state == "completed" and not _has_its_picture(before, self.folder):
            log.warning("%s: canvas.png is not the picture that was made; it is made again", self.folder.name)
            return None
        return before

    def _start(self, before: RunRecord | None, on_begin: Callable[[Path], None] | None) -> None:
        """Open dashboards and log; if a setting of theirs cannot be used, leave nothing behind."""
        try:
            if on_begin:
                on_begin(self.folder)
            self.record.starts = before.starts if before else {}
            self.record.warnings = before.warnings if before else []
            if before and (other := _other_machine(before, self.record)):
                what = "%s was begun on %s: its last bits will be those of neither"
                log.warning(what, self.folder.name, other)
            self.dashboards = Dashboards.open(self.config.logger, RunInfo.of(self.record, self.folder))
        except UserError:
            remove_if_empty(self.folder)
            raise
        try:
            self.log = RunLog(self.folder / "run.log")
        except StorageError:
            self.dashboards.finish({}, step=0, success=False)
            raise

    def _record_end(self, _: object, error: BaseException | None, __: object) -> None:
        record = self.record
        if isinstance(error, Exception):
            self.log.write_error(error)
            record.state = "running"
            if not isinstance(error, StorageError):
                record.state, record.error = "failed", f"{type(error).__name__}: {error}"
        if record.state != "completed":
            with suppress(StorageError):  # the first error is reported, not one that follows from it
                self.write()
        metrics = {f"metrics/{k}": v for k, v in record.metrics.items()}
        summary, completed = {**record.final_losses, **metrics}, record.state == "completed"
        self.dashboards.finish(summary, step=record.evaluations, success=completed)


def _new_record(config: Config, prepared: Prepared, overrides: Sequence[str]) -> RunRecord:
    inputs = prepared.inputs
    hashes = {**inputs.hashes(), "weights": prepared.encoder.weights_sha256}
    identity = fingerprint(config.plain, hashes)
    counts = prepared.encoder.channel_counts
    layers = dict.fromkeys(layer for term in prepared.terms for layer in term.layers_needed)
    return RunRecord(
        run_id=run_id([*inputs.names(), *config.loss.style, f"s{config.seed}"], identity),
        state="running",
        fingerprint=identity,
        study=config.study,
        overrides=list(overrides),
        config=config.plain,
        inputs=hashes,
        versions=versions(),
        device=device_name(prepared.device),
        threads=torch.get_num_threads(),
        layers={term.name: term.layers_needed for term in prepared.terms},
        channels={layer: counts[layer]._asdict() for layer in layers if layer in counts},
        timings={"setup_s": prepared.seconds},
    )


def _has_its_picture(record: RunRecord, folder: Path) -> bool:
    return bool(record.canvas_sha256) and file_sha256(folder / "canvas.png") == record.canvas_sha256


def _other_machine(before: RunRecord, now: RunRecord) -> str:
    """Return the device and threads, or the PyTorch, with which a run began, if they were others."""
    if (before.device, before.threads) != (now.device, now.threads):
        return f"{before.device} with {before.threads} threads"
    torch_before = before.versions.get("torch")
    return f"PyTorch {torch_before}" if torch_before != now.versions.get("torch") else ""


def _provenance(record: RunRecord) -> dict[str, str]:
    """Return the metadata of a picture, which do not depend on the time or the machine."""
    return {
        "Software": f"nstbench {record.versions['nstbench']}",
        "nstbench:run": record.run_id,
        "nstbench:fingerprint": record.fingerprint,
        "nstbench:config": json.dumps(fingerprinted_settings(record.config), sort_keys=True),
        "nstbench:inputs": json.dumps(record.inputs, sort_keys=True),
    }
