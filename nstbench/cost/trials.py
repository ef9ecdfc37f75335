"""Trials: a few steps of a stage at growing sizes, with their seconds and memory."""

from __future__ import annotations

import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nstbench.blockwise.blocks import cut
from nstbench.config.instantiate import build
from nstbench.config.schema import Config, StageSettings
from nstbench.errors import UserError
from nstbench.losses.base import CANVAS
from nstbench.modules.footprint import kept_by, memory_of
from nstbench.modules.image_optimization import OptimizerFactory
from nstbench.modules.member import Evaluation, EvaluationCallback, Member
from nstbench.objective.objective import Objective
from nstbench.runs.plan import canvas_shape, plan_stages
from nstbench.runs.preparation import Prepared, check_sizes
from nstbench.runs.run import run
from nstbench.runtime.device import (
    free_cached_memory,
    free_memory,
    held_memory,
    peak_memory,
    reset_peak_memory,
)

_SMALLEST = 96  # pixels: below, most of the time does not depend on the size
_SHARE = 0.7  # share of the free memory that a trial may take
_STEPS = (3, 6)  # fewest and most steps of a trial, the first of which is not timed; slow trials have fewer


@dataclass(frozen=True)
class Trial:
    """A few steps of a stage at some size.

    Attributes:
        size: Size of the stage.
        pixels: Pixels of the canvas.
        flops: FLOPs of one evaluation with its gradient; 0 if they were not counted.
        step_seconds: Seconds of a step.
        setup_seconds: Seconds of the stage before its first step: targets, units, warming up.
        metrics_seconds: Seconds of the metrics.
        memory: Peak memory, in bytes.
        kept: Counted bytes for every pixel: of the canvas, the optimiser's included; or of a block, for its
            feature maps. 0 if they were not counted.
        parameters: Number of parameters of the canvas.
        history: Number of pairs in the optimiser's history.
    """

    size: int
    pixels: int
    flops: float
    step_seconds: float
    setup_seconds: float
    metrics_seconds: float
    memory: int
    kept: float
    parameters: int
    history: int


def make_trials(
    config: Config, prepared: Prepared, stage: StageSettings, seconds: float, *, metrics: bool
) -> list[Trial]:
    """Make trials of a stage at growing sizes, as long as the next is not too slow or too large."""
    trials: list[Trial] = []
    few, many = _STEPS
    available = _SHARE * (free_memory(prepared.device) + held_memory(prepared.device))
    for size in _sizes(config, prepared, stage):
        steps = many
        if len(trials) >= 1:
            pixels = math.prod(canvas_shape(config.pictures, prepared.inputs, size))
            last_size = trials[-1].size
            ratio = count_encoded_pixels(config, prepared, size) / count_encoded_pixels(
                config, prepared, last_size
            )
            expected = trials[-1].step_seconds * ratio * 1.2
            steps = max(few, min(many, int(seconds / expected)))
            too_slow = steps * expected + trials[-1].setup_seconds * ratio > seconds
            too_large = extrapolate(trials, "memory", pixels) > available
            if len(trials) >= 2 and (too_slow or too_large):
                break
        trials.append(_make_trial(config, prepared, stage, size, steps, metrics=metrics))
    return trials


def _sizes(config: Config, prepared: Prepared, stage: StageSettings) -> list[int]:
    """Return the possible sizes of trials: the stage's own and halves of it, or multiples of a tile."""
    tile = config.blockwise.tile
    if tile is not None and stage.size > 1.5 * tile:
        # At smaller sizes blocks are smaller than a tile, or have a halo on one side only.
        own = [size for f in (1.0, 1.5, 2.0, 3.0) if (size := int(f * tile)) < stage.size]
        return [*own, stage.size]
    sizes, size = [stage.size], stage.size
    while size // 2 >= _SMALLEST and _is_possible(config, prepared, size // 2):
        size //= 2
        sizes.insert(0, size)
    return sizes


def _is_possible(config: Config, prepared: Prepared, size: int) -> bool:
    try:
        small = _with_stages(config, [replace(config.schedule.stages[-1], size=size)])
        check_sizes(plan_stages(small, prepared.inputs), prepared.encoder, prepared.terms)
    except UserError:
        return False
    return True


def _with_stages(config: Config, stages: list[StageSettings], **changed: Any) -> Config:
    """Return a copy of a configuration with other stages and settings."""
    copy = deepcopy(config)
    copy.schedule.stages, copy.schedule.plateau = stages, None
    for name, value in changed.items():
        setattr(copy, name, value)
    return copy


class _Measurement(EvaluationCallback):
    """Record when steps end and the number of parameters; count the FLOPs and memory of an evaluation.

    Args:
        make_optimizer: Function from parameters to the optimiser.
        counts: Whether to count FLOPs and memory. Counting takes time, and more memory than the evaluation
            itself; neither is part of the measurement.
    """

    def __init__(self, make_optimizer: OptimizerFactory, *, counts: bool) -> None:
        self.make_optimizer, self.counts = make_optimizer, counts
        self.ends: list[float] = []
        self.parameters, self.memory = 0, 0
        self.kept, self.flops, self.counting = 0.0, 0.0, 0.0

    def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
        """Count at the first evaluation."""
        self.parameters = sum(p.numel() for p in member.canvas.parameters())
        if self.kept or not self.counts:
            return
        began = time.perf_counter()
        self.memory = peak_memory(member.device)
        if member.blocks is None:
            self._count(member, evaluation.picture)
        else:
            self._count_block(member, evaluation.picture)
        free_cached_memory()
        reset_peak_memory(member.device)
        self.counting = time.perf_counter() - began

    def _count(self, member: Member, picture: Tensor) -> None:
        leaf = picture.clone().requires_grad_()
        with torch.enable_grad(), FlopCounterMode(display=False) as counter:
            total, _ = Objective([member.terms], member.device)(member.encode(leaf), leaf)
            total.sum().backward()  # type: ignore[no-untyped-call]
        optimizer = self.make_optimizer(member.canvas.parameters())
        self.flops = float(counter.get_total_flops())
        self.kept = memory_of(member, optimizer) / picture[0, 0].numel()

    def _count_block(self, member: Member, picture: Tensor) -> None:
        assert member.blocks is not None
        tile = member.blocks.tile
        block = picture[..., :tile, :tile].clone().requires_grad_()
        self.kept = kept_by(member, lambda: member.encode(block)) / block[0, 0].numel()

    def on_train_batch_end(self, *_: Any) -> None:
        """Record the time."""
        self.ends.append(time.perf_counter())


def _make_trial(
    config: Config, prepared: Prepared, stage: StageSettings, size: int, steps: int, *, metrics: bool
) -> Trial:
    """Make a few steps of a stage, in a folder that is removed."""
    measurement = _Measurement(build(config.optimizer), counts=size != stage.size)
    free_cached_memory()
    with tempfile.TemporaryDirectory() as output:
        small = _with_stages(
            config,
            [replace(stage, size=size, steps=steps)],
            output=output,
            logger={},
            metrics=config.metrics if metrics else {},
            record=replace(config.record, progress=False),
            trainer=replace(config.trainer, compile=config.trainer.compile and size == stage.size),
        )
        parts = replace(prepared, stages=plan_stages(small, prepared.inputs))
        record = run(small, callbacks=[measurement], prepared=parts).record
    # The first step warms up.
    step = statistics.median(b - a for a, b in itertools.pairwise(measurement.ends))
    return Trial(
        size=size,
        pixels=math.prod(canvas_shape(config.pictures, prepared.inputs, size)),
        flops=measurement.flops,
        step_seconds=step,
        setup_seconds=max(0.0, record.timings["optimize_s"] - steps * step - measurement.counting),
        metrics_seconds=record.timings["evaluate_s"],
        memory=max(measurement.memory, record.peak_memory_bytes),
        kept=measurement.kept,
        parameters=measurement.parameters,
        history=min(steps, history_size_of(config)),
    )


def growth_per_pixel(trials: Sequence[Trial], what: str) -> float:
    """Return the growth of a measurement with every pixel, from the last two trials."""
    b = trials[-1]
    if len(trials) < 2:
        return float(getattr(b, what)) / b.pixels
    a = trials[-2]
    growth = float(getattr(b, what) - getattr(a, what))
    return max(0.0, growth / (b.pixels - a.pixels))


def extrapolate(trials: Sequence[Trial], what: str, pixels: int) -> float:
    """Return a measurement extrapolated to another number of pixels, along a line through the last two."""
    last = trials[-1]
    return float(getattr(last, what)) + growth_per_pixel(trials, what) * (pixels - last.pixels)


def count_encoded_pixels(config: Config, prepared: Prepared, size: int) -> int:
    """Return the number of pixels that one evaluation encodes, with the halos of blocks."""
    return sum(_block_pixels(config, prepared, size, config.blockwise.tile))


def count_largest_block_pixels(config: Config, prepared: Prepared, size: int, tile: int | None) -> int:
    """Return the number of pixels of the largest block with its halo; without blocks, of the canvas."""
    return max(_block_pixels(config, prepared, size, tile))


def _block_pixels(config: Config, prepared: Prepared, size: int, tile: int | None) -> list[int]:
    """Return the number of pixels of each block, with its halo."""
    shape = canvas_shape(config.pictures, prepared.inputs, size)
    layers = dict.fromkeys(
        layer for term in prepared.terms for layer in term.layers_needed if layer != CANVAS
    )
    if tile is None or not layers:
        return [math.prod(shape)]
    blocks = cut(prepared.encoder, list(layers), shape, tile)
    return [math.prod(side.stop - side.start for side in block.crop) for block in blocks]


def history_size_of(config: Config) -> int:
    """Return the number of pairs that the optimiser's history can hold; 0 if it has none."""
    optimizer = build(config.optimizer)([nn.Parameter(torch.zeros(1, 1))])
    size: int = optimizer.param_groups[0].get("history_size", 0)
    return size
