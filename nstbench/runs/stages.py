"""Stages of runs: their canvases and targets, and the optimisation of one run or of several as a batch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

from nstbench.callbacks.checkpoint import Saved, Stop, warn_of_other_company
from nstbench.canvas.base import Canvas
from nstbench.canvas.luminance import LuminanceCanvas
from nstbench.config.instantiate import build
from nstbench.config.schema import Config
from nstbench.errors import UserError
from nstbench.modules.image_optimization import ImageOptimization
from nstbench.modules.member import Member, Progress
from nstbench.modules.precision import Encoding
from nstbench.objective.guides import guides_for
from nstbench.objective.term import Guides
from nstbench.objective.units import set_units
from nstbench.optimizers.lbfgs import LBFGS
from nstbench.runs.inputs import content_to_match, styles_to_match
from nstbench.runs.plan import StagePlan
from nstbench.runs.preparation import Prepared
from nstbench.runs.targets import EncodedPictures, Pictures, compute_targets
from nstbench.runtime.device import free_cached_memory
from nstbench.runtime.trainer import fit

if TYPE_CHECKING:
    from nstbench.runs.run import Run


log = logging.getLogger(__name__)


def make_canvas(config: Config) -> Canvas:
    """Return the canvas of a configuration, not yet painted."""
    canvas: Canvas = build(config.canvas.parametrization)
    return LuminanceCanvas(canvas) if config.colour.control == "luminance" else canvas


def usable_checkpoint(saved: Saved | None, config: Config, stages: Sequence[StagePlan]) -> Saved | None:
    """Return a checkpoint if it fits the schedule and the canvas; equal fingerprints imply that it does."""
    if saved is None:
        return None
    if 0 <= saved.stage < len(stages) and 0 <= saved.stage_step <= stages[saved.stage].steps:
        canvas = make_canvas(config)
        canvas.paint(torch.zeros(1, 3, *stages[saved.stage].shape))
        needed = {name: (value.shape, value.dtype) for name, value in canvas.state_dict().items()}
        if needed == {name: (value.shape, value.dtype) for name, value in saved.canvas.items()}:
            return saved
    log.warning("the checkpoint is of another schedule or canvas; the run starts anew")
    return None


def make_member(
    name: str, config: Config, prepared: Prepared, stage: StagePlan, canvas: Canvas, progress: Progress
) -> Member:
    """Return a canvas with the objective that it has in a stage, not yet with its targets.

    Args:
        name: Name of the run.
        config: Settings of the run.
        prepared: Parts of the run.
        stage: Stage of the schedule.
        canvas: Canvas, painted with what the stage starts from.
        progress: Progress of the run.

    Raises:
        UserError: The canvas and the optimiser do not fit together.
    """
    encoding = Encoding(
        prepared.encoder.to(prepared.device),
        stage.precision,
        compile=config.trainer.compile,
        channels_last=config.trainer.channels_last,
    )
    canvas.to(prepared.device)
    optimizer = build(config.optimizer)(canvas.parameters())
    if isinstance(optimizer, LBFGS) and any(p.shape[:1] != (1,) for p in canvas.parameters()):
        reason = "its parameters do not have the number of pictures as their first dimension"
        hint = "Type optimizer=lbfgs_torch, which does not need it."
        raise UserError("canvas.parametrization", config.canvas.parametrization["_target_"], reason, hint)
    if canvas.bounds is not None and isinstance(optimizer, torch.optim.LBFGS):
        reason = "PyTorch's own L-BFGS knows no bounds, and pixels moved back within them would mislead it"
        hint = "Type optimizer=lbfgs, or canvas.parametrization.bounded=false."
        raise UserError("canvas.parametrization.bounded", True, reason, hint)
    return Member(name, canvas, prepared.terms, encoding, progress, config.blockwise.tile)


def pictures_of(config: Config, prepared: Prepared, stage: StagePlan) -> Pictures:
    """Return the pictures of which targets are computed, at their sizes in a stage, on the device."""
    inputs, control, device = prepared.inputs, config.colour.control, prepared.device
    content = content_to_match(inputs, stage.shape, control)
    styles = styles_to_match(inputs, stage.shape, stage.style_shapes, control)
    return {
        "content": [] if content is None else [content.to(device)],
        "style": [style.to(device) for style in styles],
    }


def guides_of(config: Config, prepared: Prepared, stage: StagePlan) -> dict[str, dict[str, Guides]]:
    """Return the guides of every term that has regions, by the term's name, on the device."""
    how, masks = config.pictures.guide_propagation, prepared.inputs.masks
    found = {}
    for term in (term for term in prepared.terms if term.regions):
        guides = guides_for(term, prepared.encoder, how, masks, stage.shape, stage.style_shapes)
        found[term.name] = {region: guide.to(prepared.device) for region, guide in guides.items()}
    return found


class StageTargets:
    """The targets and units of a stage's terms.

    Args:
        config: Settings of the run.
        prepared: Parts of the run.
        stage: Stage of the schedule.
        encoded: Feature maps that other runs have computed.
    """

    def __init__(
        self, config: Config, prepared: Prepared, stage: StagePlan, encoded: EncodedPictures | None
    ) -> None:
        self.pictures = pictures_of(config, prepared, stage)
        self.guides = guides_of(config, prepared, stage)
        self.blend, self.encoded = prepared.inputs.blend, encoded
        # The unit `gradient` is measured on the initial canvas; later stages keep it.
        self.unit = config.weights.unit
        self.sets_units = stage.number == 0 or self.unit != "gradient"

    def compute(self, member: Member) -> None:
        """Compute the targets and units in float32."""
        with member.full_precision():
            self._compute(member)
            if self.sets_units:
                canvas = member.canvas().detach()
                set_units(member.terms, self.unit, member.encode, canvas, member.measure)

    def compute_rounded(self, member: Member) -> None:
        """Also compute the targets in bfloat16, if the stage begins in it."""
        if member.encoding.phase(member.device) == "bf16":
            exact = member.targets
            self._compute(member)
            member.set_targets(exact, rounded=member.targets)

    def _compute(self, member: Member) -> None:
        compute_targets(member, self.pictures, self.blend, self.guides, self.encoded)


def optimize(runs: Sequence[Run]) -> None:
    """Make the remaining steps of the present stage, of one run or of several as one batch.

    If a run does not finish the stage, `Member.error` is the reason, which `Run.end_stage` raises. A batch
    that does not fit in memory is halved, if that shows before a canvas was evaluated.

    Args:
        runs: Runs of one `nstbench.runs.batch.batch_key`.

    Raises:
        KeyboardInterrupt: The user has asked to stop.
        SystemExit: The process was asked to end.
    """
    members = [run.member for run in runs]
    if members[0].progress.is_at_end:
        return
    for run in runs:
        warn_of_other_company(run.name, run.company, [member.name for member in members])
    before = [member.progress.evaluations for member in members]
    fits = _optimize_batch(runs, members)
    if not fits and len(runs) > 1 and before == [member.progress.evaluations for member in members]:
        for member in members:
            member.error = None
        free_cached_memory()
        half = len(runs) // 2
        optimize(runs[:half])
        optimize(runs[half:])


def _optimize_batch(runs: Sequence[Run], members: Sequence[Member]) -> bool:
    """Make the remaining steps; return whether there was enough memory."""
    config, progress = runs[0].config, members[0].progress
    states = [member.optimizer_state for member in members]
    module = ImageOptimization(members, build(config.optimizer))
    callbacks = [callback for member in members for callback in member.callbacks]
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(run.log.attached())
        try:
            fit(
                module,
                accelerator=config.trainer.accelerator,
                max_steps=progress.stage_steps - progress.stage_step,
                callbacks=[*callbacks, Stop()],
                deterministic=config.trainer.deterministic,
                default_root_dir=runs[0].folder,
            )
        except Exception as error:
            enough = not isinstance(error, torch.OutOfMemoryError)
            for member in module.members:
                member.error = error
            if not enough and len(runs) > 1:
                error.__traceback__ = None  # it refers to tensors of the batch
                for member, state in zip(members, states, strict=True):
                    member.optimizer_state = state
            return enough
    return True


def describe_stage(member: Member, stage: StagePlan) -> dict[str, Any]:
    """Return the record's entry of a stage that has ended."""
    progress = member.progress
    steps = progress.stage_step
    return {
        "size": stage.size,
        "steps": steps,
        "evaluations": progress.evaluations - sum(done["evaluations"] for done in progress.stages_done),
        "precision": member.encoding.phases(steps, member.device),
        "batch": member.batch,
        "stopped": "plateau" if progress.stopped_early else "steps",
    }
