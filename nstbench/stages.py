"""Optimising a canvas through the stages of a schedule, or the rest of them after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor

from nstbench.building import build
from nstbench.callbacks.checkpoint import Checkpoint, Stop, read_checkpoint
from nstbench.callbacks.curves import Curves, scalars_of
from nstbench.callbacks.diagnostics import Diagnostics
from nstbench.callbacks.progress import ProgressBar
from nstbench.callbacks.snapshots import Snapshots
from nstbench.config import Config, Stage
from nstbench.encoders.base import Encoder
from nstbench.errors import NonFiniteObjectiveError, UserError
from nstbench.fitting import fit
from nstbench.guides import guides_for
from nstbench.inputs import (
    Inputs,
    Shape,
    canvas_shape,
    content_at,
    content_to_match,
    start_at,
    styles_to_match,
)
from nstbench.losses.base import Formulation
from nstbench.losses.objective import CANVAS, Objective, Term
from nstbench.losses.units import Start, set_units, starts
from nstbench.modules.canvas import Canvas, LuminanceOf
from nstbench.modules.image_optimization import ImageOptimization, check_finite
from nstbench.pictures.colour_control import with_luminance
from nstbench.pictures.io import write_png


@dataclass(frozen=True)
class Optimized:
    """A canvas at the end of its schedule.

    Attributes:
        picture: ``(1, 3, H, W)``, on the CPU, clamped to [0, 1].
        steps: of the optimiser, over all stages and attempts.
        evaluations: of the objective with its gradient, likewise.
        seconds: of optimisation, likewise.
        losses: of the final canvas, named as in the curves.
    """

    picture: Tensor
    steps: int
    evaluations: int
    seconds: float
    losses: dict[str, float]


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
) -> Optimized:
    """Minimise the objective, stage by stage; continue from ``checkpoint.ckpt`` where there is one.

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

    Raises:
        NonFiniteObjectiveError: ``canvas.png`` is then the last good canvas.
    """
    pl.seed_everything(config.seed, verbose=False)
    checkpoint = folder / "checkpoint.ckpt"
    progress = read_checkpoint(checkpoint) or {"stage": 0, "evaluations": 0, "step": 0, "seconds": 0.0}
    resumed = progress["step"] > 0
    canvas: Canvas = build(config.canvas.parametrization)
    if config.colour.control == "luminance":
        canvas = LuminanceOf(canvas)
    curves = Curves(
        folder / "curves.csv",
        loggers,
        config.record.curves_every,
        evaluations=progress["evaluations"],
        seconds=progress["seconds"],
    )
    with ExitStack() as stack:
        own = _callbacks(config, folder, loggers, curves, stack, progress["step"])
        callbacks = [*own, *callbacks, Stop()]
        steps, evaluations = 0, progress["evaluations"]
        for i, stage in enumerate(config.schedule.stages):
            if i < progress["stage"]:
                steps += stage.steps
                continue
            resume = resumed and i == progress["stage"]
            shape = canvas_shape(config, inputs, stage.size)
            if resume:
                canvas.paint(torch.zeros(1, 3, *shape))  # the checkpoint fills it
            elif i == 0:
                canvas.paint(start_at(config, inputs, shape))
            else:
                canvas.paint(canvas.cpu().carried_up(shape))
            module = ImageOptimization(
                canvas,
                encoder,
                Objective(terms),
                build(config.optimizer),
                precision=stage.precision,
                stage=i,
                evaluations=evaluations,
                steps=steps,
                tile=config.blockwise.tile,
            ).to(device)
            _remember(module, config, inputs, shape, stage, device, first=i == 0)
            if i == 0 and not resume and on_start is not None:
                on_start(starts(module.objective, module.encode, module.canvas(), module.measure))
            _fit(module, config, stage, callbacks, folder, checkpoint if resume else None)
            module.to(device)  # when a fit ends, Lightning moves the module to the CPU
            steps, evaluations = steps + stage.steps, module.evaluations
    module.objective.draw_for(steps - 1)  # what the last step sampled, even if an earlier attempt made it
    with torch.no_grad():
        values, _ = module.values()
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
    return Optimized(picture, steps, evaluations, curves.seconds, scalars_of(values))


def _remember(
    module: ImageOptimization,
    config: Config,
    inputs: Inputs,
    shape: Shape,
    stage: Stage,
    device: torch.device,
    *,
    first: bool,
) -> None:
    """Give every term its targets, from the pictures at this stage's size, and its unit."""
    content = content_to_match(config, inputs, shape)
    styles = styles_to_match(config, inputs, shape, stage.size)
    pictures = {
        "content": [] if content is None else [content.to(device)],
        "style": [style.to(device) for style in styles],
    }
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
            sizes = [(style.shape[2], style.shape[3]) for style in styles]
            guides = guides_for(term, module.encoder, config, inputs.masks, shape, sizes, device)
        try:
            if module.blocks is not None:
                module.blocks.remember(term, of_role, blend, guides)
            elif type(term.loss).copies is Formulation.copies:
                term.remember([[features] for features in plain[role][: len(of_role)]], blend, guides)
            else:
                seen = [[_seen(module, copy) for copy in term.loss.copies(p)] for p in of_role]
                term.remember(seen, blend, guides)
        except ValueError as error:
            setting = f"loss.{term.name.replace('/', '.')}"
            hint = "Give a larger size, or other layers."
            raise UserError(setting, term.asks_for, str(error), hint) from error
    # A unit of gradients is measured once, on the initial canvas; a checkpoint carries it on.
    if first or config.weights.unit != "gradient":
        canvas = module.canvas().detach()
        set_units(module.objective, config.weights.unit, module.encode, canvas, module.measure)


def _seen(module: ImageOptimization, picture: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        return {**module.encode(picture), CANVAS: picture}


def _remembered(term: Term, pictures: Mapping[str, Sequence[Tensor]]) -> str:
    """Return which picture a term remembers: of its role, or a regulariser's yardstick."""
    if term.role != "regularizer":
        return term.role
    return term.loss.yardstick if pictures[term.loss.yardstick] else "style"


def _callbacks(
    config: Config, folder: Path, loggers: Sequence[Logger], curves: Curves, stack: ExitStack, done: int
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
        callbacks.append(Checkpoint(folder / "checkpoint.ckpt", record.checkpoint_every, curves))
    return callbacks


def _fit(
    module: ImageOptimization,
    config: Config,
    stage: Stage,
    callbacks: list[pl.Callback],
    folder: Path,
    checkpoint: Path | None,
) -> None:
    """Run one stage; whatever stops it, the last good canvas is kept."""
    try:
        fit(
            module,
            checkpoint,
            accelerator=config.trainer.accelerator,
            max_steps=stage.steps,
            callbacks=callbacks,
            deterministic=config.trainer.deterministic,
            default_root_dir=folder,
        )
    except Exception:
        _keep_last_good(module, folder)
        raise


def _keep_last_good(module: ImageOptimization, folder: Path) -> None:
    """Write the last canvas whose objective was finite; without one, leave what is there."""
    if module.last_good is not None:
        write_png(folder / "canvas.png", module.last_good[:1].clamp(0, 1).cpu())
