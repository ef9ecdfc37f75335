"""Optimising a canvas through the stages of a schedule, or the rest of them after an interruption."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor

from nstbench.callbacks.checkpoint import (
    Checkpoint,
    Saved,
    Stop,
    latest_checkpoint,
    warn_of_other_company,
)
from nstbench.callbacks.curves import Curves, scalars_of
from nstbench.callbacks.diagnostics import Diagnostics
from nstbench.callbacks.progress import ProgressBar
from nstbench.callbacks.snapshots import Snapshots
from nstbench.canvas.base import Canvas
from nstbench.canvas.luminance import LuminanceCanvas
from nstbench.config.instantiate import build
from nstbench.config.schema import Config, Stage
from nstbench.encoders.base import Encoder
from nstbench.errors import NonFiniteObjectiveError, StorageError, UserError
from nstbench.losses.base import CANVAS, Formulation
from nstbench.modules.image_optimization import ImageOptimization, check_finite
from nstbench.modules.plateau import Plateau
from nstbench.objective.guides import guides_for
from nstbench.objective.objective import Objective
from nstbench.objective.term import Term
from nstbench.objective.units import Start, set_units, starts
from nstbench.pictures.colour_control import with_luminance
from nstbench.pictures.io import write_png
from nstbench.pictures.shape import Shape
from nstbench.runs.attempts import Attempt, Fit
from nstbench.runs.inputs import Inputs, canvas_shape, content_at, content_to_match, start_at, styles_to_match
from nstbench.runs.targets import encoded
from nstbench.runtime.trainer import fit

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Optimized:
    """A canvas at the end of its schedule.

    Attributes:
        picture: ``(1, 3, H, W)``, on the CPU, clamped to [0, 1].
        steps: of the optimiser, over all stages and attempts.
        evaluations: of the objective with its gradient, likewise.
        seconds: of optimisation, likewise.
        losses: of the final canvas, named as in the curves; in float32.
        stages: what became of each stage, for the record.
    """

    picture: Tensor
    steps: int
    evaluations: int
    seconds: float
    losses: dict[str, float]
    stages: list[dict[str, Any]]


def optimize(
    config: Config,
    encoder: Encoder,
    terms: Sequence[Term],
    inputs: Inputs,
    folder: Path,
    loggers: Sequence[Logger],
    device: torch.device,
    callbacks: Sequence[pl.Callback] = (),
    on_start: Callable[[dict[str, Start]], None] | None = None,
    identity: str = "",
) -> Attempt[Optimized]:
    """Minimise the objective, stage by stage; continue from a checkpoint where there is a sound one.

    Yields each stage when it is to be optimised.

    Args:
        config: checked.
        encoder: frozen.
        terms: of the objective, before they have seen a picture.
        inputs: the pictures.
        folder: of the run.
        loggers: dashboards.
        device: where to compute.
        callbacks: of the caller's own.
        on_start: told how every term starts; not called where a checkpoint is continued.
        identity: Fingerprint of the run, which its checkpoints must have.

    Raises:
        NonFiniteObjectiveError: ``canvas.png`` is then the last good canvas.
    """
    pl.seed_everything(config.seed, verbose=False)
    saved = _usable(latest_checkpoint(folder, identity), config, inputs)
    canvas = _unpainted(config)
    curves = Curves(
        folder / "curves.csv",
        loggers,
        config.record.curves_every,
        evaluations=saved.evaluations if saved else 0,
        seconds=saved.seconds if saved else 0.0,
    )
    with ExitStack() as stack:
        own = _callbacks(config, folder, loggers, curves, stack, saved.step if saved else 0, identity)
        callbacks = [*own, *callbacks, Stop()]
        until = config.schedule.plateau
        steps, evaluations = (saved.steps_before, saved.evaluations) if saved else (0, 0)
        done: list[dict[str, Any]] = saved.stages_done if saved else []
        for i, stage in enumerate(config.schedule.stages):
            if saved and i < saved.stage:
                continue
            resumed = saved if saved and i == saved.stage else None
            shape = canvas_shape(config, inputs, stage.size)
            if resumed:
                canvas.paint(torch.zeros(1, 3, *shape))  # the checkpoint fills it below
            elif i == 0:
                canvas.paint(start_at(config, inputs, shape))
            else:
                canvas.paint(canvas.cpu().resized(shape))
            module = ImageOptimization(
                canvas,
                encoder,
                Objective(terms),
                build(config.optimizer),
                precision=stage.precision,
                plateau=Plateau(**asdict(until)) if until else None,
                compile=config.trainer.compile,
                channels_last=config.trainer.channels_last,
                stage=i,
                evaluations=evaluations,
                steps_before=steps,
                stage_steps=stage.steps,
                stages_done=done,
                tile=config.blockwise.tile,
            ).to(device)
            pictures = _remember(module, config, inputs, shape, stage, device, first=i == 0)
            if i == 0 and not resumed and on_start is not None:
                with module.full_precision():
                    on_start(starts(module.objective, module.encode, module.canvas(), module.measure))
            if module.encoding.phase(device) == "bf16":
                exact = module.objective.targets
                _see(module, config, inputs, shape, pictures, device)
                module.set_targets(exact, rounded=module.objective.targets)
            if resumed:
                module.restore(resumed)
            fit_alone = partial(_fit, module, config, callbacks, folder, resumed)
            try:
                yield Fit(
                    module, config, stage, callbacks, folder, resumed.company if resumed else None, fit_alone
                )
            except StorageError:
                raise  # there is no room for a picture, either
            except Exception:
                _keep_last_good(module, folder)
                raise
            module.to(device)  # when a fit ends, Lightning moves the module to the CPU
            module.check_optimized()
            done = [*done, _became_of(module, stage, module.stage_step, done, device)]
            steps, evaluations = steps + module.stage_step, module.evaluations
    module.objective.set_draw(steps - 1)  # what the last step sampled, even if an earlier attempt made it
    values = module.final_values()
    try:
        check_finite(values, evaluations)  # the last step's canvas was not evaluated yet
    except NonFiniteObjectiveError:
        _keep_last_good(module, folder)
        raise
    curves.write(module, evaluations, steps, values)
    picture = canvas.finished().cpu()
    if config.colour.control == "luminance":
        content = content_at(inputs, shape)
        assert content is not None
        picture = with_luminance(content, picture)
    return Optimized(picture, steps, evaluations, curves.seconds, scalars_of(values), done)


def _became_of(
    module: ImageOptimization,
    stage: Stage,
    steps: int,
    before: Sequence[dict[str, Any]],
    device: torch.device,
) -> dict[str, Any]:
    """Return what the record says of a stage that is over."""
    return {
        "size": stage.size,
        "steps": steps,
        "evaluations": module.evaluations - sum(stage["evaluations"] for stage in before),
        "precision": module.encoding.phases(steps, device),
        "batch": module.batch,
        "stopped": "plateau" if module.stopped_early else "steps",
    }


def _remember(
    module: ImageOptimization,
    config: Config,
    inputs: Inputs,
    shape: Shape,
    stage: Stage,
    device: torch.device,
    *,
    first: bool,
) -> Mapping[str, Sequence[Tensor]]:
    """Give every term its targets, from the pictures at this stage's size, and its unit.

    Returns:
        the pictures, by role.
    """
    content = content_to_match(config, inputs, shape)
    styles = styles_to_match(config, inputs, shape, stage.size)
    pictures = {
        "content": [] if content is None else [content.to(device)],
        "style": [style.to(device) for style in styles],
    }
    with module.full_precision():
        _see(module, config, inputs, shape, pictures, device)
        # A unit of gradients is measured once, on the initial canvas; a checkpoint carries it on.
        if first or config.weights.unit != "gradient":
            canvas = module.canvas().detach()
            set_units(module.objective, config.weights.unit, module.encode, canvas, module.measure)
    return pictures


def _see(
    module: ImageOptimization,
    config: Config,
    inputs: Inputs,
    shape: Shape,
    pictures: Mapping[str, Sequence[Tensor]],
    device: torch.device,
) -> None:
    """Give every term its targets."""
    # Most terms remember the pictures themselves: each is encoded once for all of them.
    plain = {
        role: [_seen(module, picture) for picture in of_role if module.blocks is None]
        for role, of_role in pictures.items()
    }
    for term in module.objective.terms:
        role = _remembered(term, pictures)
        of_role = pictures[role][:1] if term.role == "regularizer" else pictures[role]
        blend = inputs.blend if role == "style" and len(of_role) > 1 else (1.0,)
        guides = None
        if term.regions:
            sizes = [(style.shape[2], style.shape[3]) for style in pictures["style"]]
            guides = guides_for(term, module.encoder, config, inputs.masks, shape, sizes, device)
        try:
            if module.blocks is not None:
                module.blocks.compute_targets(term, of_role, blend, guides)
            elif type(term.loss).copies is Formulation.copies:
                term.compute_targets([[features] for features in plain[role][: len(of_role)]], blend, guides)
            else:
                seen = [[_seen(module, copy) for copy in term.loss.copies(p)] for p in of_role]
                term.compute_targets(seen, blend, guides)
        except ValueError as error:
            setting = f"loss.{term.name.replace('/', '.')}"
            hint = "Give a larger size, or other layers."
            raise UserError(setting, term.layers_needed, str(error), hint) from error


def _seen(module: ImageOptimization, picture: Tensor) -> dict[str, Tensor]:
    return {**encoded(module, picture), CANVAS: picture}


def _remembered(term: Term, pictures: Mapping[str, Sequence[Tensor]]) -> str:
    """Return which picture a term remembers: of its role, or a regulariser's target_picture."""
    if term.role != "regularizer":
        return term.role
    return term.loss.target_picture if pictures[term.loss.target_picture] else "style"


def _callbacks(
    config: Config,
    folder: Path,
    loggers: Sequence[Logger],
    curves: Curves,
    stack: ExitStack,
    done: int,
    identity: str,
) -> list[pl.Callback]:
    record = config.record
    callbacks: list[pl.Callback] = [curves]
    if record.progress:
        total = sum(stage.steps for stage in config.schedule.stages)
        callbacks.append(stack.enter_context(ProgressBar(folder.name, total, done)))
    if record.diagnostics_every:
        path, before = folder / "diagnostics.csv", curves.evaluations
        callbacks.append(Diagnostics(path, loggers, record.diagnostics_every, evaluations=before))
    if record.snapshot_every:
        callbacks.append(Snapshots(folder / "snapshots", loggers, record.snapshot_every))
    if record.checkpoint_every:
        callbacks.append(Checkpoint(folder, record.checkpoint_every, curves, identity))
    return callbacks


def _fit(
    module: ImageOptimization,
    config: Config,
    callbacks: list[pl.Callback],
    folder: Path,
    resumed: Saved | None,
) -> None:
    """Make the steps of one run's stage that are left."""
    if module.is_at_end:
        return
    warn_of_other_company(folder.name, resumed.company if resumed else None, [folder.name])
    fit(
        module,
        accelerator=config.trainer.accelerator,
        max_steps=module.stage_steps - module.stage_step,
        callbacks=callbacks,
        deterministic=config.trainer.deterministic,
        default_root_dir=folder,
    )


def _unpainted(config: Config) -> Canvas:
    canvas: Canvas = build(config.canvas.parametrization)
    return LuminanceCanvas(canvas) if config.colour.control == "luminance" else canvas


def _usable(saved: Saved | None, config: Config, inputs: Inputs) -> Saved | None:
    """Return a checkpoint if it fits the schedule and the canvas, which its fingerprint promises."""
    if saved is None:
        return None
    stages = config.schedule.stages
    if 0 <= saved.stage < len(stages) and 0 <= saved.stage_step <= stages[saved.stage].steps:
        canvas = _unpainted(config)
        canvas.paint(torch.zeros(1, 3, *canvas_shape(config, inputs, stages[saved.stage].size)))
        needed = {name: (value.shape, value.dtype) for name, value in canvas.state_dict().items()}
        if needed == {name: (value.shape, value.dtype) for name, value in saved.canvas.items()}:
            return saved
    log.warning("the checkpoint is of another schedule or canvas; the run starts anew")
    return None


def _keep_last_good(module: ImageOptimization, folder: Path) -> None:
    """Write the last canvas whose objective was finite; without one, leave what is there."""
    if module.last_good is not None:
        write_png(folder / "canvas.png", module.last_good[:1].clamp(0, 1).cpu())
