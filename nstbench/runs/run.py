"""One run, start to end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType

import pytorch_lightning as pl
import torch
from torch import Tensor

from nstbench.callbacks.checkpoint import Checkpoint, Saved, latest_checkpoint
from nstbench.callbacks.curves import Curves, scalars_of
from nstbench.callbacks.diagnostics import Diagnostics
from nstbench.callbacks.progress import ProgressBar, show_continued, show_starts
from nstbench.callbacks.snapshots import Snapshots, write_animation
from nstbench.callbacks.stall import StallWatch
from nstbench.config.schema import Config, Node
from nstbench.errors import NonFiniteObjectiveError, StorageError
from nstbench.modules.member import Member, Progress, check_finite
from nstbench.modules.plateau import Plateau
from nstbench.objective.units import starts
from nstbench.pictures.colour_control import with_luminance
from nstbench.pictures.io import write_png
from nstbench.runs.inputs import content_at, start_at
from nstbench.runs.metrics import compute_metrics, missing_metrics, store_metrics
from nstbench.runs.plan import StagePlan
from nstbench.runs.preparation import Prepared, prepare
from nstbench.runs.recording import Recording
from nstbench.runs.stages import (
    StageTargets,
    describe_stage,
    make_canvas,
    make_member,
    optimize,
    usable_checkpoint,
)
from nstbench.runs.targets import EncodedPictures
from nstbench.runtime.device import peak_memory
from nstbench.runtime.files import storage
from nstbench.tracking.dashboards import log_for_agent
from nstbench.tracking.record import RunRecord, remove_checkpoints
from nstbench.tracking.run_log import RunLog

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        record: Record of the run.
        folder: Folder of the run.
        skipped: Whether the run was finished before; at most metrics were added.
        metrics: Nodes of the metrics that were asked for; the record of a run may name others.
        evaluated: Names of the metrics that were added to a finished run, or computed again by another judge.
    """

    record: RunRecord
    folder: Path
    skipped: bool = False
    metrics: Mapping[str, Node] = field(default_factory=dict)
    evaluated: Sequence[str] = ()


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
        UserError: A setting or an input cannot be used. Nothing was written, unless it is a loss that cannot
            use a picture, which shows when targets are computed.
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
    """A run that is open: its folder, which is locked, and its canvas.

    `open`, then for every stage `begin_stage`, `nstbench.runs.stages.optimize` and `end_stage`, then
    `finish`. Several runs can be open, whose stages are optimised as one batch. A run that ends in any other
    way than by `finish` can be continued by opening it again; `close`, or an error that leaves its ``with``
    block, records why it ended.

    Args:
        config: Settings.
        prepared: Pictures, encoder, terms and stages.
        recording: Folder, record, dashboards and log.

    Attributes:
        stages_left: Stages that have not ended.
        company: Names of the runs in the batch whose checkpoint is continued; None: the stage is begun anew.
    """

    def __init__(self, config: Config, prepared: Prepared, recording: Recording) -> None:
        self.config, self.prepared, self.recording = config, prepared, recording
        self.folder, self.name = recording.folder, recording.folder.name
        self.stages_left: list[StagePlan] = list(prepared.stages)
        self.company: tuple[str, ...] | None = None
        self._canvas = make_canvas(config)
        self._progress = Progress()
        self._saved: Saved | None = None
        self._member: Member | None = None
        self._while_optimizing = ExitStack()

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
        recording = Recording(config, prepared, overrides)
        opened = cls(config, prepared, recording)
        recording.open(retry_failed, on_begin)
        if not recording.is_finished:
            try:
                with opened.log.attached():
                    opened._prepare_callbacks(callbacks)
            except BaseException as error:
                opened.close(error)
                raise
        return opened

    @property
    def is_finished(self) -> bool:
        """Whether the run was finished before it was opened."""
        return self.recording.is_finished

    @property
    def log(self) -> RunLog:
        """Messages of the run."""
        return self.recording.log

    @property
    def member(self) -> Member:
        """The canvas with its objective, in the stage that has been begun."""
        assert self._member is not None
        return self._member

    def _prepare_callbacks(self, callbacks: Sequence[pl.Callback]) -> None:
        """Read the checkpoint if there is one, and make the callbacks."""
        record, stages = self.recording.record, self.prepared.stages
        saved = usable_checkpoint(latest_checkpoint(self.folder, record.fingerprint), self.config, stages)
        if saved is not None:
            self._saved, self.stages_left = saved, self.stages_left[saved.stage :]
            self._progress = Progress(
                steps_before=saved.steps_before,
                evaluations=saved.evaluations,
                stages_done=saved.stages_done,
            )
        self._curves = Curves(
            self.folder / "curves.csv",
            self.recording.dashboards,
            self.config.record.curves_every,
            evaluations=saved.evaluations if saved else 0,
            seconds=saved.seconds if saved else 0.0,
        )
        self._callbacks = [self._curves, *self._own_callbacks(record.fingerprint), *callbacks]
        if self.config.record.progress:
            total = sum(stage.steps for stage in stages)
            if saved is not None:
                show_continued(self.name, saved.step, total)
            bar = ProgressBar(self.name, total, saved.step if saved else 0)
            self._callbacks.insert(0, self._while_optimizing.enter_context(bar))

    def _own_callbacks(self, fingerprint: str) -> list[pl.Callback]:
        settings, evaluations = self.config.record, self._curves.evaluations
        dashboards = self.recording.dashboards
        record = self.recording.record
        stall = StallWatch(self._warn, self.config.optimizer, told=bool(record.warnings))
        callbacks: list[pl.Callback] = [stall]
        if every := settings.diagnostics_every:
            path = self.folder / "diagnostics.csv"
            callbacks.append(Diagnostics(path, dashboards, every, evaluations=evaluations))
        if every := settings.snapshot_every:
            callbacks.append(Snapshots(self.folder / "snapshots", dashboards, every))
        if every := settings.checkpoint_every:
            callbacks.append(Checkpoint(self.folder, every, self._curves, fingerprint))
        return callbacks

    def _warn(self, message: str) -> None:
        log.warning("%s: %s", self.name, message)
        self.recording.record.warnings.append(message)
        self.recording.write()

    def begin_stage(self, encoded: EncodedPictures | None = None) -> None:
        """Paint the canvas, and compute targets and units for the next stage.

        Where a checkpoint is continued, its canvas and units take their place.

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
            canvas.paint(canvas.cpu().resized(stage.shape))

    def _record_starts(self, member: Member) -> None:
        with member.full_precision():
            found = starts(member.terms, member.encode, member.canvas(), member.measure)
        self.recording.record.starts = {name: asdict(start) for name, start in found.items()}
        self.recording.write()
        if self.config.record.progress:
            show_starts(found)

    def end_stage(self) -> None:
        """Check that the stage was made, and prepare the next.

        Raises:
            NonFiniteObjectiveError: The objective diverged; ``canvas.png`` is the last good canvas.
            Exception: Another error ended the stage.
        """
        member, stage = self.member, self.stages_left[0]
        if member.error is not None:
            if not isinstance(member.error, StorageError):  # a picture could not be written, either
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
        record, folder, progress = self.recording.record, self.folder, self._progress
        with self.log.attached():
            self._while_optimizing.close()
            picture = self._final_picture()
            record.steps, record.evaluations = progress.step, progress.evaluations
            record.timings["optimize_s"] = self._curves.seconds
            record.peak_memory_bytes = peak_memory(self.prepared.device)
            record.stages = progress.stages_done
            self.recording.write_picture(picture)
            self.recording.dashboards.log(progress.evaluations, {}, {"image/final": picture[0]})
            if self.config.record.animation == "gif":
                with storage(folder):
                    write_animation(folder / "snapshots", folder / "canvas.png", folder / "canvas.gif")
            began = time.monotonic()
            self._compute_metrics(self.config.metrics)
            record.timings["evaluate_s"] = time.monotonic() - began
            record.state = "completed"
            self.recording.write()
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
        self.recording.record.final_losses = scalars_of(values)
        picture = self._canvas.finished().cpu()
        if self.config.colour.control == "luminance":
            content = content_at(self.prepared.inputs, self.prepared.stages[-1].shape)
            assert content is not None
            picture = with_luminance(content, picture)
        return picture

    def add_missing_metrics(self) -> Result:
        """Add the metrics that a finished run has not, or has from other settings, such as another judge."""
        record = self.recording.record
        remove_checkpoints(self.folder)  # the run may have been killed before they were removed
        changed: list[str] = []
        if missing := missing_metrics(record, self.config.metrics):
            changed = [name for name in missing if record.config["metrics"].get(name) != missing[name]]
            record.config["metrics"].update(missing)
            record.config["judge"] = self.config.judge
            self._compute_metrics(missing)
            self.recording.write()
        log_for_agent(self.config.logger, record, self.folder)
        return Result(record, self.folder, True, self.config.metrics, changed)

    def _compute_metrics(self, metrics: Mapping[str, Node]) -> None:
        formulations = list(self.config.loss.style)
        judgement = compute_metrics(metrics, self.folder, self.prepared, formulations)
        store_metrics(self.recording.record, judgement)

    def close(self, error: BaseException | None = None) -> None:
        """Record how the run ended, and release its folder; closing it again changes nothing.

        Args:
            error: Reason why it did not finish; None: it did.
        """
        self._while_optimizing.close()
        self.recording.close(error)

    def _keep_last_good(self) -> None:
        """Write the last canvas whose objective was finite, if there is one."""
        if self.member.last_good is not None:
            write_png(self.folder / "canvas.png", self.member.last_good.clamp(0, 1).cpu())

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(error)
