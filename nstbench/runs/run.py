"""One run, start to end."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType

import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import Logger
from torch import Tensor

from nstbench.callbacks.checkpoint import Checkpoint, Saved, latest_checkpoint
from nstbench.callbacks.curves import Curves, scalars_of
from nstbench.callbacks.diagnostics import Diagnostics
from nstbench.callbacks.progress import ProgressBar, show_starts
from nstbench.callbacks.snapshots import Snapshots, write_animation
from nstbench.config.schema import Config, Node
from nstbench.errors import NonFiniteObjectiveError, StorageError, UserError
from nstbench.modules.member import Member, Progress, check_finite
from nstbench.modules.plateau import Plateau
from nstbench.objective.units import starts
from nstbench.pictures.colour_control import with_luminance
from nstbench.pictures.io import to_image, write_png
from nstbench.runs.inputs import content_at, start_at
from nstbench.runs.metrics import compute_metrics, missing_metrics, store_metrics
from nstbench.runs.plan import StagePlan
from nstbench.runs.preparation import Prepared, prepare
from nstbench.runs.stages import StageTargets, describe_stage, make_canvas, make_member, optimize
from nstbench.runs.targets import EncodedPictures
from nstbench.runtime.device import device_name, peak_memory, reset_peak_memory
from nstbench.runtime.files import storage
from nstbench.tracking.files import remove_if_empty, run_folder, run_id, write_config
from nstbench.tracking.fingerprint import fingerprint, fingerprinted_settings
from nstbench.tracking.lock import alone_in
from nstbench.tracking.loggers import RunInfo, build_loggers, finish, log_step, tell_agent
from nstbench.tracking.record import RunRecord, file_sha256, remove_checkpoints, versions
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


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        record: Record of the run.
        folder: Folder of the run.
        skipped: Whether the run was finished before; at most metrics were added.
        metrics: Nodes of the metrics that were asked for; the record of a run may name others.
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
    """Stylise one canvas: read, encode, optimise, compute metrics, record.

    A finished run is not run again; an interrupted one continues from its checkpoint, and so does one
    that failed, if it is to be tried again.

    Args:
        config: Configuration, from `nstbench.config.validation.validate`.
        overrides: Overrides as they were typed, for the record.
        callbacks: Callbacks of the caller; an `EvaluationCallback` is called for every evaluation.
        prepared: Parts of the run, where `prepare` was called before.
        retry_failed: Whether a run that failed before is run again.
        on_begin: Function that is called with the run's folder once it is locked, before anything is
            written; if it raises `UserError`, nothing is.

    Raises:
        BusyError: Another process is at work on the run.
        FailedBeforeError: It failed before, and is not to be tried again.
        UserError: A setting or an input cannot be used; nothing was written.
        NonFiniteObjectiveError: The objective diverged; the record says so, and ``canvas.png`` is
            the last good canvas.
        StorageError: A file of the run cannot be written; the same command continues the run.
    """
    prepared = prepared or prepare(config)
    with Run.open(config, prepared, overrides, callbacks, retry_failed, on_begin) as opened:
        if opened.is_finished:
            return opened.add_missing_metrics()
        while opened.stages_left:
            opened.begin_stage()
            optimize([opened])
            opened.end_stage()
        return opened.finish()


class Run:
    """A run: its folder, which is locked while it is open, its record, and its canvas.

    `open`, then for every stage `begin_stage`, `nstbench.runs.stages.optimize` and `end_stage`, then
    `finish`. Several runs can be open, whose stages are optimised as one batch. A run that ends in any
    other way than by `finish` can be continued by opening it again; `fail`, or an error that leaves its
    ``with`` block, records why.

    Attributes:
        config: Settings.
        prepared: Pictures, encoder and terms.
        folder: Folder of the run.
        record: What ``run.json`` holds.
        is_finished: Whether it was finished before it was opened.
        stages_left: Stages that are still to be ended.
        company: Names of the runs in the batch whose checkpoint is continued; None: the stage is begun anew.
        log: Messages of the run.
    """

    log: RunLog

    def __init__(self, config: Config, prepared: Prepared, overrides: Sequence[str]) -> None:
        self.config, self.prepared = config, prepared
        self.record = _new_record(config, prepared, overrides)
        self.folder = run_folder(config.output, config.study, self.record.run_id)
        self.is_finished = self._is_closed = False
        self.stages_left: list[StagePlan] = list(prepared.stages)
        self.company: tuple[str, ...] | None = None
        self._canvas = make_canvas(config)
        self._progress = Progress()
        self._saved: Saved | None = None
        self._member: Member | None = None
        self._loggers: list[Logger] = []
        self._while_open, self._while_optimizing = ExitStack(), ExitStack()

    @property
    def name(self) -> str:
        """Name of the run, which is that of its folder."""
        return self.folder.name

    @property
    def member(self) -> Member:
        """The canvas with its objective, in the stage that has been begun."""
        assert self._member is not None
        return self._member

    @classmethod
    def open(
        cls,
        config: Config,
        prepared: Prepared,
        overrides: Sequence[str] = (),
        callbacks: Sequence[pl.Callback] = (),
        retry_failed: bool = True,
        on_begin: Callable[[Path], None] | None = None,
    ) -> Run:
        """Lock the run's folder, and begin its record and dashboards, unless it is finished.

        See `run` for the arguments and errors.
        """
        opened = cls(config, prepared, overrides)
        with ExitStack() as stack:
            stack.enter_context(alone_in(opened.folder))
            before = opened._read_record()
            opened.is_finished = before is not None and before.state == "completed"
            if not opened.is_finished:
                if before and before.state == "failed" and not retry_failed:
                    raise FailedBeforeError(opened.folder, before.error or "it failed")
                opened._start(before, on_begin)
                stack.callback(opened.log.close)
                try:
                    with opened.log.attached():
                        opened._continue(callbacks)
                except BaseException as error:
                    opened._end(error)
                    raise
            opened._while_open = stack.pop_all()
        return opened

    def _read_record(self) -> RunRecord | None:
        """Return the record that is in the folder, unless its picture is not the one that was made."""
        before = RunRecord.read(self.folder)
        if before and before.state == "completed" and not _has_its_picture(before, self.folder):
            log.warning("%s: canvas.png is not the picture that was made; it is made again", self.name)
            return None
        return before

    def _start(self, before: RunRecord | None, on_begin: Callable[[Path], None] | None) -> None:
        """Open dashboards and log; if they cannot be had, leave nothing behind."""
        try:
            if on_begin:
                on_begin(self.folder)
            self.record.starts = before.starts if before else {}
            if before and (other := _other_machine(before, self.record)):
                log.warning("%s was begun on %s: its last bits will be those of neither", self.name, other)
            self._loggers = build_loggers(self.config.logger, RunInfo.of(self.record, self.folder))
        except UserError:
            remove_if_empty(self.folder)
            raise
        try:
            self.log = RunLog(self.folder / "run.log")
        except StorageError:
            finish(self._loggers, {}, step=0, success=False)
            raise

    def _continue(self, callbacks: Sequence[pl.Callback]) -> None:
        """Write the record, and take up the checkpoint if there is one."""
        write_config(self.folder, self.config.plain)
        self.record.write(self.folder)
        reset_peak_memory(self.prepared.device)
        saved = self._saved = self._usable(latest_checkpoint(self.folder, self.record.fingerprint))
        if saved is not None:
            self.stages_left = self.stages_left[saved.stage :]
            steps = saved.steps_before
            self._progress = Progress(
                steps_before=steps, evaluations=saved.evaluations, stages_done=saved.stages_done
            )
        self._curves = Curves(
            self.folder / "curves.csv",
            self._loggers,
            self.config.record.curves_every,
            evaluations=saved.evaluations if saved else 0,
            seconds=saved.seconds if saved else 0.0,
        )
        self._callbacks = [*self._own_callbacks(saved.step if saved else 0), *callbacks]

    def _usable(self, saved: Saved | None) -> Saved | None:
        """Return a checkpoint if it fits the schedule and the canvas, which its fingerprint promises."""
        if saved is None:
            return None
        stages = self.prepared.stages
        if 0 <= saved.stage < len(stages) and 0 <= saved.stage_step <= stages[saved.stage].steps:
            canvas = make_canvas(self.config)
            canvas.paint(torch.zeros(1, 3, *stages[saved.stage].shape))
            needed = {name: (value.shape, value.dtype) for name, value in canvas.state_dict().items()}
            if needed == {name: (value.shape, value.dtype) for name, value in saved.canvas.items()}:
                return saved
        log.warning("the checkpoint is of another schedule or canvas; the run starts anew")
        return None

    def _own_callbacks(self, steps_done: int) -> list[pl.Callback]:
        record, evaluations = self.config.record, self._curves.evaluations
        callbacks: list[pl.Callback] = [self._curves]
        if record.progress:
            total = sum(stage.steps for stage in self.prepared.stages)
            bar = ProgressBar(self.name, total, steps_done)
            callbacks.append(self._while_optimizing.enter_context(bar))
        if record.diagnostics_every:
            path, every = self.folder / "diagnostics.csv", record.diagnostics_every
            callbacks.append(Diagnostics(path, self._loggers, every, evaluations=evaluations))
        if record.snapshot_every:
            callbacks.append(Snapshots(self.folder / "snapshots", self._loggers, record.snapshot_every))
        if record.checkpoint_every:
            identity = self.record.fingerprint
            callbacks.append(Checkpoint(self.folder, record.checkpoint_every, self._curves, identity))
        return callbacks

    def begin_stage(self, encoded: EncodedPictures | None = None) -> None:
        """Paint the canvas, and compute targets and units for the next stage, or take those of the
        checkpoint.

        Args:
            encoded: Feature maps of pictures that other runs of a batch have computed.

        Raises:
            UserError: A loss cannot use a picture at this size.
        """
        stage, config = self.stages_left[0], self.config
        with self.log.attached():
            resumed, self._saved = self._saved, None
            if self._member is None:
                pl.seed_everything(config.seed, verbose=False)
            self._paint(stage, resumed)
            until = config.schedule.plateau
            self._progress = Progress(
                stage=stage.number,
                stage_steps=stage.steps,
                steps_before=self._progress.steps_before,
                evaluations=self._progress.evaluations,
                plateau=Plateau(**asdict(until)) if until else None,
                stages_done=self._progress.stages_done,
            )
            member = make_member(self.name, config, self.prepared, stage, self._canvas, self._progress)
            targets = StageTargets(config, self.prepared, stage, encoded)
            targets.compute(member)
            if stage.number == 0 and resumed is None:
                self._record_starts(member)
            targets.compute_rounded(member)
            if resumed is not None:
                member.restore(resumed)
            self.company = resumed.company if resumed else None
            member.callbacks = self._callbacks
            self._member = member

    def _paint(self, stage: StagePlan, resumed: Saved | None) -> None:
        """Paint the canvas with what the stage starts from."""
        canvas = self._canvas
        if resumed is not None:
            canvas.paint(torch.zeros(1, 3, *stage.shape))  # the checkpoint replaces it
        elif stage.number == 0:
            control, inputs = self.config.colour.control, self.prepared.inputs
            canvas.paint(start_at(self.config.canvas, self.config.seed, inputs, stage.shape, control))
        else:
            canvas.paint(canvas.cpu().carried_up(stage.shape))

    def _record_starts(self, member: Member) -> None:
        with member.full_precision():
            found = starts(member.terms, member.encode, member.canvas(), member.measure)
        self.record.starts = {name: asdict(start) for name, start in found.items()}
        self.record.write(self.folder)
        if self.config.record.progress:
            show_starts(found)

    def end_stage(self) -> None:
        """Check that the stage was made, and carry its canvas on.

        Raises:
            NonFiniteObjectiveError: The objective diverged; ``canvas.png`` is the last good canvas.
            Exception: Whatever else ended the stage.
        """
        member, stage = self.member, self.stages_left[0]
        if member.error is not None:
            if not isinstance(member.error, StorageError):  # there is no room for a picture, either
                self._keep_last_good()
            raise member.error
        self._canvas.to(self.prepared.device)  # when a fit ends, Lightning moves the canvas to the CPU
        member.check_optimized()
        progress = self._progress
        progress.stages_done = [*progress.stages_done, describe_stage(member, stage)]
        self.stages_left.pop(0)
        if self.stages_left:
            progress.steps_before, progress.stage_step = progress.step, 0

    def finish(self) -> Result:
        """Write the picture and its metrics, and complete the record."""
        with self.log.attached():
            self._while_optimizing.close()
            picture = self._final_picture()
            record, folder, progress = self.record, self.folder, self._progress
            record.steps, record.evaluations = progress.step, progress.evaluations
            record.timings["optimize_s"] = self._curves.seconds
            record.peak_memory_bytes = peak_memory(self.prepared.device)
            record.stages = progress.stages_done
            record.canvas_sha256 = _write_canvas(folder, picture, _provenance(record))
            log_step(self._loggers, progress.evaluations, {}, {"image/final": picture[0]})
            if self.config.record.animation == "gif":
                with storage(folder):
                    write_animation(folder / "snapshots", folder / "canvas.png", folder / "canvas.gif")
            began = time.monotonic()
            self._compute_metrics(self.config.metrics)
            record.timings["evaluate_s"] = time.monotonic() - began
            record.state = "completed"
            record.write(folder)
            remove_checkpoints(folder)  # a hundred times the picture's size
        return Result(record, folder, metrics=self.config.metrics)

    def _final_picture(self) -> Tensor:
        """Return the finished picture, ``(1, 3, H, W)`` on the CPU, and record its losses."""
        member, progress = self.member, self._progress
        for term in member.terms:
            term.set_draw(progress.step - 1)  # what the last step sampled, even if an earlier attempt made it
        values = member.final_values()
        try:
            check_finite(values, progress.evaluations)  # the last step's canvas was not evaluated yet
        except NonFiniteObjectiveError:
            self._keep_last_good()
            raise
        self._curves.write(member, values)
        self.record.final_losses = scalars_of(values)
        picture = self._canvas.finished().cpu()
        if self.config.colour.control == "luminance":
            content = content_at(self.prepared.inputs, self.prepared.stages[-1].shape)
            assert content is not None
            picture = with_luminance(content, picture)
        return picture

    def add_missing_metrics(self) -> Result:
        """Add the metrics that a finished run was not asked for when it ran."""
        before = RunRecord.read(self.folder)
        assert before is not None
        self.record = before
        remove_checkpoints(self.folder)  # it may have been killed just before
        if missing := missing_metrics(before, self.config.metrics):
            before.config["metrics"].update(missing)
            self._compute_metrics(missing)
            before.write(self.folder)
        tell_agent(self.config.logger, before, self.folder)
        return Result(before, self.folder, skipped=True, metrics=self.config.metrics)

    def _compute_metrics(self, metrics: Mapping[str, Node]) -> None:
        formulations = list(self.config.loss.style)
        store_metrics(self.record, compute_metrics(metrics, self.folder, self.prepared, formulations))

    def fail(self, error: BaseException | None) -> None:
        """Record why the run ended, and close it; None: it was finished."""
        with self._while_open:
            if not (self.is_finished or self._is_closed):
                self._end(error)
            self._is_closed = True

    def _end(self, error: BaseException | None) -> None:
        """Record how the run ended.

        After Ctrl-C, a signal or a full disk the state stays "running": the same command continues the run.
        """
        self._while_optimizing.close()
        record = self.record
        if isinstance(error, Exception):
            self.log.write_error(error)
            record.state = "running"
            if not isinstance(error, StorageError):
                record.state, record.error = "failed", f"{type(error).__name__}: {error}"
        if record.state != "completed":
            with suppress(StorageError):  # the error is reported, not what follows from it
                record.write(self.folder)
        metrics = {f"metrics/{k}": v for k, v in record.metrics.items()}
        summary, completed = {**record.final_losses, **metrics}, record.state == "completed"
        finish(self._loggers, summary, step=record.evaluations, success=completed)

    def _keep_last_good(self) -> None:
        """Write the last canvas whose objective was finite; without one, leave what is there."""
        if self.member.last_good is not None:
            write_png(self.folder / "canvas.png", self.member.last_good.clamp(0, 1).cpu())

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.fail(error)


def _new_record(config: Config, prepared: Prepared, overrides: Sequence[str]) -> RunRecord:
    inputs = prepared.inputs
    hashes = {**inputs.hashes(), "weights": prepared.encoder.weights_sha256}
    identity = fingerprint(config.plain, hashes)
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
        timings={"setup_s": prepared.seconds},
    )


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
