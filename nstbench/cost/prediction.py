"""Predictions of the seconds and the peak memory of a run, from a short calibration.

A few steps of each stage are made, at sizes that grow to the stage's own as long as time and memory allow.
If the stage's own size was not measured, its cost is extrapolated: memory and the time before the first step
along a line through the last two sizes, the time of a step in proportion to its work (FLOPs, or the pixels of
exact blocks), which is counted.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from nstbench.config.instantiate import build
from nstbench.config.schema import Config, StageSettings
from nstbench.cost.trials import (
    Trial,
    count_encoded_pixels,
    count_largest_block_pixels,
    extrapolate,
    growth_per_pixel,
    history_size_of,
    make_trials,
)
from nstbench.modules.precision import AUTO_SHARE
from nstbench.pictures.shape import Shape
from nstbench.runs.plan import canvas_shape
from nstbench.runs.preparation import Prepared
from nstbench.runtime.device import fast_bf16, free_memory, held_memory

SECONDS = 30.0  # seconds that the steps at one size may take, as estimated from the size before
_TIMED_STEPS = 24  # steps of the optimiser alone, from which the time of one more pair of the history follows
_TIMED_PARAMETERS = 2**21  # parameters in those steps: more than caches hold
BYTES_PER_PAIR = 8  # bytes of one pair of L-BFGS's history, for every parameter
_OTHER_BYTES = 32  # bytes of all else that a run keeps for every parameter: the canvas, gradients, pictures


@dataclass(frozen=True)
class StageCost:
    """The predicted cost of a stage.

    Attributes:
        stage: Stage of the schedule.
        step_seconds: Seconds of a step, on average.
        seconds: Seconds of the whole stage.
        memory: Peak memory, in bytes.
        sizes: Sizes at which steps were measured; the cost is extrapolated if the last is not the stage's.
        shape: Height and width of the canvas.
        bytes_per_pixel: Bytes of memory for each further pixel.
        vector_bytes: Bytes of ``bytes_per_pixel`` that belong to the canvas and the optimiser.
    """

    stage: StageSettings
    step_seconds: float
    seconds: float
    memory: int
    sizes: list[int]
    shape: Shape
    bytes_per_pixel: float
    vector_bytes: int

    @property
    def pixels(self) -> int:
        """Pixels of the canvas."""
        return math.prod(self.shape)

    @property
    def was_measured(self) -> bool:
        """Whether steps were measured at the stage's own size."""
        return self.sizes[-1] == self.stage.size


@dataclass(frozen=True)
class Cost:
    """The predicted cost of a run.

    Attributes:
        stages: Costs of the stages of the schedule.
        setup_seconds: Seconds until the first stage: those that this process has taken until now.
        metrics_seconds: Seconds of the metrics.
        free: Bytes of memory that the run may take.
    """

    stages: Sequence[StageCost]
    setup_seconds: float
    metrics_seconds: float
    free: int

    @property
    def seconds(self) -> float:
        """Seconds from the command to its end."""
        return self.setup_seconds + sum(s.seconds for s in self.stages) + self.metrics_seconds

    @property
    def memory(self) -> int:
        """Peak memory, in bytes."""
        return max(s.memory for s in self.stages)

    @property
    def fits(self) -> bool:
        """Whether the run fits in the free memory."""
        return self.memory <= self.free


def predict(config: Config, prepared: Prepared, *, seconds: float = SECONDS, since: float = 0.0) -> Cost:
    """Return the predicted cost of a run; no file is left behind.

    Args:
        config: Checked configuration.
        prepared: Parts of the run.
        seconds: Seconds that the steps at one size may take; the two smallest sizes are always measured.
        since: Seconds that the process has taken until now.
    """
    stages, after = [], 0.0
    for stage in config.schedule.stages:
        last = stage is config.schedule.stages[-1]
        cost, seconds_of_metrics = _predict_stage(config, prepared, stage, seconds, last=last)
        stages.append(cost)
        after += seconds_of_metrics
    return Cost(stages, since, after, free_memory(prepared.device) + held_memory(prepared.device))


def _predict_stage(
    config: Config, prepared: Prepared, stage: StageSettings, seconds: float, *, last: bool
) -> tuple[StageCost, float]:
    """Return the cost of a stage in all its precisions, and the seconds of the metrics after it."""
    parts: list[tuple[StageCost, float]] = []
    for precision, share in _precisions_of(stage, prepared.device):
        part = replace(stage, precision=precision)
        trials = make_trials(config, prepared, part, seconds, metrics=last)
        parts.append((_cost_of(config, prepared, part, trials), share))
        after = extrapolate(trials, "metrics_seconds", parts[0][0].pixels)
    whole = max((cost for cost, _ in parts), key=lambda cost: cost.memory)
    step = sum(share * cost.step_seconds for cost, share in parts)
    start = max(cost.seconds - stage.steps * cost.step_seconds for cost, _ in parts)
    return replace(whole, stage=stage, step_seconds=step, seconds=start + stage.steps * step), after


def _precisions_of(
    stage: StageSettings, device: torch.device
) -> list[tuple[Literal["fp32", "tf32", "bf16"], float]]:
    """Return the precisions of a stage and their shares of its steps, if bfloat16 does not end early."""
    if stage.precision != "auto":
        return [(stage.precision, 1.0)]
    exact: Literal["tf32", "fp32"] = "tf32" if device.type == "cuda" else "fp32"
    if not fast_bf16(device):
        return [(exact, 1.0)]
    return [("bf16", AUTO_SHARE), (exact, 1 - AUTO_SHARE)]


def _cost_of(config: Config, prepared: Prepared, stage: StageSettings, trials: Sequence[Trial]) -> StageCost:
    """Return the cost of a stage in one precision, from its trials."""
    last, shape = trials[-1], canvas_shape(config.pictures, prepared.inputs, stage.size)
    pixels = math.prod(shape)
    ratio = 1.0 if last.size == stage.size else _work_ratio(config, prepared, trials, stage.size)
    parameters = round(last.parameters * pixels / last.pixels)
    # As the history fills, steps become slower and memory grows.
    history = min(history_size_of(config), stage.steps)
    mean_history = sum(min(i, history) for i in range(stage.steps)) / stage.steps
    further = max(0.0, mean_history - last.history / 2)
    step = last.step_seconds * ratio + further * _seconds_per_pair(config, parameters, prepared.device)
    more = max(0, history - last.history) * BYTES_PER_PAIR
    slope, growth = _memory_growth(config, prepared, trials, stage.size, more)
    memory = round(last.memory + growth) + more * parameters
    before = extrapolate(trials, "setup_seconds", pixels)
    return StageCost(
        stage=stage,
        step_seconds=step,
        seconds=before + stage.steps * step,
        memory=memory,
        sizes=[trial.size for trial in trials],
        bytes_per_pixel=slope + more * parameters / pixels,
        shape=shape,
        vector_bytes=round((history * BYTES_PER_PAIR + _OTHER_BYTES) * parameters / pixels),
    )


def _memory_growth(
    config: Config, prepared: Prepared, trials: Sequence[Trial], size: int, more: int
) -> tuple[float, float]:
    """Return the bytes of each further pixel, and the bytes that ``size`` takes beyond the last trial.

    Small tensors leave gaps in the heap, so that the memory of small trials grows faster than the bytes that
    are kept. Where those were counted, they limit the growth.

    Args:
        config: Checked configuration.
        prepared: Parts of the run.
        trials: Trials of the stage.
        size: Size of the stage.
        more: Bytes for every parameter of the pairs that the history held in no trial.
    """
    last, tile = trials[-1], config.blockwise.tile
    further = math.prod(canvas_shape(config.pictures, prepared.inputs, size)) - last.pixels
    kept = [trial.kept for trial in trials if trial.kept]
    per_pixel = last.parameters / last.pixels
    slope = growth_per_pixel(trials, "memory")
    if tile is not None:
        # The canvas and the optimiser's copies of it grow, and a block can have a halo on more sides.
        slope = min(slope, (last.history * BYTES_PER_PAIR + _OTHER_BYTES) * per_pixel)
        of_block = [count_largest_block_pixels(config, prepared, s, tile) for s in (last.size, size)]
        return slope, slope * further + (kept[-1] if kept else 0.0) * (of_block[1] - of_block[0])
    if kept:
        slope = min(slope, kept[-1] - more * per_pixel)
    return slope, slope * further


def _work_ratio(config: Config, prepared: Prepared, trials: Sequence[Trial], size: int) -> float:
    """Return the work of an evaluation at ``size``, divided by that in the last trial."""
    last, counted = trials[-1], [trial for trial in trials if trial.flops]
    if len(counted) < 2:
        return count_encoded_pixels(config, prepared, size) / count_encoded_pixels(
            config, prepared, last.size
        )
    # The work of encoders is proportional to the pixels, that of losses at most to the pairs of pixels.
    a, b = counted[-2:]
    per_pair = max(0.0, (b.flops / b.pixels - a.flops / a.pixels) / (b.pixels - a.pixels))
    per_pixel = b.flops / b.pixels - per_pair * b.pixels

    def flops(pixels: int) -> float:
        return (per_pixel + per_pair * pixels) * pixels

    return flops(math.prod(canvas_shape(config.pictures, prepared.inputs, size))) / flops(last.pixels)


def _seconds_per_pair(config: Config, parameters: int, device: torch.device) -> float:
    """Return the seconds by which a step is slower for every pair in the optimiser's history."""
    history = min(history_size_of(config), _TIMED_STEPS)
    if history <= 4:
        return 0.0
    n = min(parameters, _TIMED_PARAMETERS)
    x = nn.Parameter(torch.zeros(1, n, device=device))
    stiffness = torch.logspace(0, 3, n, device=device)
    optimizer = build(config.optimizer)([x])

    def closure() -> Tensor:
        x.grad = stiffness * (x.detach() - 1)
        return torch.dot(x.grad[0], x.detach()[0] - 1) / 2

    times = []
    for _ in range(history + 3):
        began = time.perf_counter()
        float(optimizer.step(closure))
        times.append(time.perf_counter() - began)
    more: float = statistics.median(times[-3:]) - statistics.median(times[2:5])
    return max(0.0, more / (history - 3)) * parameters / float(n)
