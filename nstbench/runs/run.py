"""One run, start to end."""

from __future__ import annotations

import faulthandler
import json
import logging
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor

from nstbench.callbacks.progress import show_starts
from nstbench.callbacks.snapshots import write_animation
from nstbench.config.schema import Config, Node
from nstbench.errors import StorageError, UserError
from nstbench.objective.units import Start
from nstbench.pictures.io import to_image, write_png
from nstbench.runs.attempts import Attempt, alone, at_work
from nstbench.runs.metrics import add_missing_metrics, compute_metrics, store_metrics
from nstbench.runs.preparation import Prepared, prepare
from nstbench.runs.stages import optimize
from nstbench.runtime.device import device_name, peak_memory, reset_peak_memory
from nstbench.runtime.files import open_to_append, storage
from nstbench.tracking.files import remove_if_empty, run_folder, run_id, write_config
from nstbench.tracking.fingerprint import fingerprint, fingerprinted_settings
from nstbench.tracking.lock import alone_in
from nstbench.tracking.loggers import RunInfo, build_loggers, finish, log_step, tell_agent
from nstbench.tracking.record import RunRecord, file_sha256, remove_checkpoints, versions

log = logging.getLogger(__name__)


class FailedBeforeError(Exception):
    """The run failed when it was last tried.

    Args:
        folder: of the run.
        error: why it failed.
    """

    def __init__(self, folder: Path, error: str) -> None:
        self.folder, self.error = folder, error
        super().__init__(error)


@dataclass(frozen=True)
class Result:
    """What `run` did.

    Attributes:
        record: of the run.
        folder: where it is.
        skipped: the run was finished before; at most metrics were added.
        metrics: nodes of the metrics that were asked for; the record of a run may name others.
    """

    record: RunRecord
    folder: Path
    skipped: bool = False
    metrics: Mapping[str, Node] = field(default_factory=dict)


def run(
    config: Config,
    overrides: Sequence[str] = (),
    callbacks: Sequence[pl.Callback] = (),
    prepared: Prepared | None = None,
    retry_failed: bool = True,
    on_begin: Callable[[Path], None] | None = None,
) -> Result:
    """Stylise one canvas: read, encode, optimise, judge, record.

    A finished run is not run again; an interrupted one continues from its checkpoint, and so does one
    that failed, if it is to be tried again.

    Args:
        config: from `nstbench.config.validation.validate`.
        overrides: what was typed, for the record.
        callbacks: of the caller's own; an `EvaluationCallback` hears of every evaluation.
        prepared: where `prepare` was called before.
        retry_failed: whether a run that failed before is run again.
        on_begin: told the run's folder once it is this process's, before anything is written; a `UserError`
            of its calls the run off.

    Raises:
        BusyError: another process is at work on it.
        FailedBeforeError: it failed before, and is not to be tried again.
        UserError: a setting or an input cannot be used; nothing was written.
        NonFiniteObjectiveError: the objective diverged; the record says so, and ``canvas.png`` is
            the last good canvas.
        StorageError: a file of the run cannot be written; the same command continues the run.
    """
    return alone(attempt(config, overrides, callbacks, prepared, retry_failed, on_begin))


def attempt(
    config: Config,
    overrides: Sequence[str] = (),
    callbacks: Sequence[pl.Callback] = (),
    prepared: Prepared | None = None,
    retry_failed: bool = True,
    on_begin: Callable[[Path], None] | None = None,
) -> Attempt[Result]:
    """Do what `run` does, but for optimising: each stage is yielded when it is to be optimised."""
    prepared = prepared or prepare(config)
    device, inputs, encoder, terms = prepared.device, prepared.inputs, prepared.encoder, prepared.terms
    hashes = {**inputs.hashes(), "weights": encoder.weights_sha256}
    identity = fingerprint(config.plain, hashes)
    name = run_id([*inputs.names(), *config.loss.style, f"s{config.seed}"], identity)
    folder = run_folder(config.output, config.study, name)
    record = RunRecord(
        run_id=name,
        state="running",
        fingerprint=identity,
        study=config.study,
        overrides=list(overrides),
        config=config.plain,
        inputs=hashes,
        versions=versions(),
        device=device_name(device),
        threads=torch.get_num_threads(),
        layers={term.name: term.layers_needed for term in terms},
        timings={"setup_s": prepared.seconds},
    )
    with alone_in(folder):
        before = RunRecord.read(folder)
        if before and before.state == "completed" and not _has_its_picture(before, folder):
            log.warning("%s: canvas.png is not the picture that was made; it is made again", name)
            before = None
        if before and before.state == "completed":
            remove_checkpoints(folder)  # it may have been killed just before
            judged = add_missing_metrics(config, before, folder, inputs, encoder)
            tell_agent(config.logger, judged, folder)
            return Result(judged, folder, skipped=True, metrics=config.metrics)
        if before and before.state == "failed" and not retry_failed:
            raise FailedBeforeError(folder, before.error or "it failed")
        if on_begin:
            try:
                on_begin(folder)
            except UserError:
                remove_if_empty(folder)
                raise
        record.starts = before.starts if before else {}
        if before and (other := _other_machine(before, record)):
            log.warning("%s was begun on %s: its last bits will be those of neither", name, other)
        yield from _perform(config, record, folder, prepared, callbacks)
    return Result(record, folder, metrics=config.metrics)


def _perform(
    config: Config,
    record: RunRecord,
    folder: Path,
    prepared: Prepared,
    callbacks: Sequence[pl.Callback],
) -> Attempt[None]:
    """Optimise and judge, keeping the record true to the state of things."""
    device, inputs, encoder, terms = prepared.device, prepared.inputs, prepared.encoder, prepared.terms
    try:
        loggers = build_loggers(config.logger, RunInfo.of(record, folder))
    except UserError:
        remove_if_empty(folder)
        raise
    try:
        with _logged_to(folder / "run.log"):
            write_config(folder, config.plain)
            record.write(folder)
            reset_peak_memory(device)

            def on_start(starts: Mapping[str, Start]) -> None:
                record.starts = {name: asdict(start) for name, start in starts.items()}
                record.write(folder)
                if config.record.progress:
                    show_starts(starts)

            optimized = yield from optimize(
                config,
                encoder,
                terms,
                inputs,
                folder,
                loggers,
                device,
                callbacks,
                on_start,
                record.fingerprint,
            )
            record.steps, record.evaluations = optimized.steps, optimized.evaluations
            record.timings["optimize_s"] = optimized.seconds
            record.peak_memory_bytes = peak_memory(device)
            record.final_losses, record.stages = optimized.losses, optimized.stages
            record.canvas_sha256 = _write_canvas(folder, optimized.picture, _provenance(record))
            log_step(loggers, optimized.evaluations, {}, {"image/final": optimized.picture[0]})
            if config.record.animation == "gif":
                with storage(folder):
                    write_animation(folder / "snapshots", folder / "canvas.png", folder / "canvas.gif")
            judged = time.monotonic()
            store_metrics(record, compute_metrics(config, config.metrics, folder, inputs, encoder))
            record.timings["evaluate_s"] = time.monotonic() - judged
            record.state = "completed"
            record.write(folder)
            remove_checkpoints(folder)  # a hundred times the picture's size
    except StorageError:
        # Not a failure of the run: the state stays "running", and the same command continues it.
        record.state = "running"
        raise
    except Exception as error:
        record.state, record.error = "failed", f"{type(error).__name__}: {error}"
        raise
    finally:
        # After Ctrl-C or a signal the state stays "running": the same command continues the run.
        if record.state != "completed":
            with suppress(StorageError):  # what stopped the run is told, not what follows from it
                record.write(folder)
        metrics = {f"metrics/{k}": v for k, v in record.metrics.items()}
        summary, completed = {**record.final_losses, **metrics}, record.state == "completed"
        finish(loggers, summary, step=record.evaluations, success=completed)


def _has_its_picture(record: RunRecord, folder: Path) -> bool:
    return bool(record.canvas_sha256) and file_sha256(folder / "canvas.png") == record.canvas_sha256


def _write_canvas(folder: Path, picture: Tensor, provenance: Mapping[str, str]) -> str:
    """Write the picture, check that it can be read back as it is, and return the SHA-256 of the file."""
    path = folder / "canvas.png"
    write_png(path, picture, provenance)
    with storage(folder, path), Image.open(path) as written:
        if written.tobytes() != to_image(picture).tobytes():
            raise RuntimeError("canvas.png is not the picture that was optimised")
    return file_sha256(path)


def _other_machine(before: RunRecord, now: RunRecord) -> str:
    """Return what a run was begun on, if it was another device, number of threads or PyTorch."""
    if (before.device, before.threads) != (now.device, now.threads):
        return f"{before.device} with {before.threads} threads"
    torch_before = before.versions.get("torch")
    return f"PyTorch {torch_before}" if torch_before != now.versions.get("torch") else ""


def _provenance(record: RunRecord) -> dict[str, str]:
    """Return what a picture says of its making. Nothing in it depends on when or where it was made."""

    return {
        "Software": f"nstbench {record.versions['nstbench']}",
        "nstbench:run": record.run_id,
        "nstbench:fingerprint": record.fingerprint,
        "nstbench:config": json.dumps(fingerprinted_settings(record.config), sort_keys=True),
        "nstbench:inputs": json.dumps(record.inputs, sort_keys=True),
    }


class _RunLog(logging.StreamHandler[TextIO]):
    """Writes what a run logs; what there is no room for is left out, as the run itself says why it stops."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Do not print a traceback."""


@contextmanager
def _logged_to(path: Path) -> Iterator[None]:
    """Write to a file what the run logs, the traceback of a failure, and where it crashed or hung."""
    with storage(path.parent, path):
        handler = _RunLog(open_to_append(path))
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    me = at_work()
    handler.addFilter(lambda _: at_work() in (None, me))  # what others of a batch say is not about this run
    root = logging.getLogger()
    root.addHandler(handler)
    ours = not faulthandler.is_enabled()
    if ours:
        faulthandler.enable(handler.stream.fileno())
        if hasattr(signal, "SIGUSR2") and signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN:
            # A worker of a pool (sweeps/launchers); elsewhere the signal is others', such as submitit's.
            faulthandler.register(signal.SIGUSR2, handler.stream.fileno())
    try:
        yield
    except StorageError as error:
        log.error("the run stopped: %s", error)
        raise
    except Exception:
        log.exception("the run failed")
        raise
    finally:
        root.removeHandler(handler)
        if ours:
            faulthandler.disable()
            if hasattr(signal, "SIGUSR2"):
                faulthandler.unregister(signal.SIGUSR2)
        with suppress(OSError):  # what was not written yet has no room
            handler.stream.close()
