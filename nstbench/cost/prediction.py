"""What a run will cost, before it is begun: seconds and peak memory, from a short calibration.

The run itself is made small: a few steps of each stage, at sizes that grow to the stage's own as long as
time and memory allow. What was not measured at the stage's own size is extrapolated: memory and the
beginning of a stage along the last two sizes, steps by the work that they are (FLOPs, or the pixels of
exact blocks), which is counted, not timed.
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
    encoded,
    encoded_at_once,
    extrapolate,
    growth_per_pixel,
    history_size_of,
    trials_of,
)
from nstbench.modules.precision import AUTO_SHARE
from nstbench.pictures.shape import Shape
from nstbench.runs.plan import canvas_shape
from nstbench.runs.preparation import Prepared
from nstbench.runtime.device import fast_bf16, free_memory, held_memory

SECONDS = 30.0  # that the steps at one size may take, by what the size before took
_REHEARSED = 24  # steps of the optimiser alone, which tell what remembering one more costs
_NUMBERS = 2**21  # in that rehearsal: more than caches hold
PAIR = 8  # bytes that a remembered step takes for every parameter
_OTHER = 32  # and what else a run keeps for every parameter: the canvas, gradients, pictures


@dataclass(frozen=True)
class StageCost:
    """What a stage will cost.

    Attributes:
        stage: of the schedule.
        step: seconds of one, on average.
        seconds: of all of it.
        memory: bytes at the highest.
        sizes: at which it was tried; the last is its own, or else the rest is extrapolated.
        shape: of the canvas.
        slope: bytes that each further pixel takes ...
        vectors: ... and those of them that are the canvas's own, and the optimiser's.
    """

    stage: StageSettings
    step: float
    seconds: float
    memory: int
    sizes: list[int]
    shape: Shape
    slope: float
    vectors: int

    @property
    def pixels(self) -> int:
        """Of the canvas."""
        return math.prod(self.shape)

    @property
    def was_measured(self) -> bool:
        """Whether it was tried at its own size."""
        return self.sizes[-1] == self.stage.size


@dataclass(frozen=True)
class Cost:
    """What a run will cost.

    Attributes:
        stages: of the schedule.
        before: seconds until the first stage: what this process has taken until now.
        after: seconds of judging.
        free: bytes that the run may take.
    """

    stages: Sequence[StageCost]
    before: float
    after: float
    free: int

    @property
    def seconds(self) -> float:
        """Seconds from the command to its end."""
        return self.before + sum(s.seconds for s in self.stages) + self.after

    @property
    def memory(self) -> int:
        """Bytes at the highest."""
        return max(s.memory for s in self.stages)

    @property
    def fits(self) -> bool:
        """Whether there is so much memory."""
        return self.memory <= self.free


def predict(config: Config, prepared: Prepared, *, seconds: float = SECONDS, since: float = 0.0) -> Cost:
    """Predict what a run costs; nothing of it is kept.

    Args:
        config: checked.
        prepared: its parts.
        seconds: that the steps at one size may take; the two smallest sizes are always tried.
        since: seconds that the process has taken until now.
    """
    stages, after = [], 0.0
    for stage in config.schedule.stages:
        last = stage is config.schedule.stages[-1]
        cost, judging = _of_stage(config, prepared, stage, seconds, last=last)
        stages.append(cost)
        after += judging
    return Cost(stages, since, after, free_memory(prepared.device) + held_memory(prepared.device))


def _of_stage(
    config: Config, prepared: Prepared, stage: StageSettings, seconds: float, *, last: bool
) -> tuple[StageCost, float]:
    """Return the cost of a stage in all its precisions, and the seconds of judging after it."""
    parts: list[tuple[StageCost, float]] = []
    for precision, share in _phases(stage, prepared.device):
        part = replace(stage, precision=precision)
        trials = trials_of(config, prepared, part, seconds, metrics=last)
        parts.append((_cost(config, prepared, part, trials), share))
        after = extrapolate(trials, "after", parts[0][0].pixels)
    whole = max((cost for cost, _ in parts), key=lambda cost: cost.memory)
    step = sum(share * cost.step for cost, share in parts)
    start = max(cost.seconds - stage.steps * cost.step for cost, _ in parts)
    return replace(whole, stage=stage, step=step, seconds=start + stage.steps * step), after


def _phases(
    stage: StageSettings, device: torch.device
) -> list[tuple[Literal["fp32", "tf32", "bf16"], float]]:
    """Return the precisions of a stage and their shares of its steps, if it does not settle early."""
    if stage.precision != "auto":
        return [(stage.precision, 1.0)]
    exact: Literal["tf32", "fp32"] = "tf32" if device.type == "cuda" else "fp32"
    if not fast_bf16(device):
        return [(exact, 1.0)]
    return [("bf16", AUTO_SHARE), (exact, 1 - AUTO_SHARE)]


def _cost(config: Config, prepared: Prepared, stage: StageSettings, trials: Sequence[Trial]) -> StageCost:
    """Return what trials say of a stage."""
    last, shape = trials[-1], canvas_shape(config.pictures, prepared.inputs, stage.size)
    pixels = math.prod(shape)
    grown = 1.0 if last.size == stage.size else _grown(config, prepared, trials, stage.size)
    parameters = round(last.parameters * pixels / last.pixels)
    # A history that fills up makes the steps slower, and is held beside all else.
    history = min(history_size_of(config), stage.steps)
    filled = sum(min(i, history) for i in range(stage.steps)) / stage.steps
    further = max(0.0, filled - last.remembered / 2)  # remembered, on average
    step = last.step * grown + further * _per_remembered(config, parameters, prepared.device)
    more = max(0, history - last.remembered) * PAIR
    slope, grows = _memory(config, prepared, trials, stage.size, more)
    memory = round(last.memory + grows) + more * parameters
    before = extrapolate(trials, "before", pixels)
    return StageCost(
        stage=stage,
        step=step,
        seconds=before + stage.steps * step,
        memory=memory,
        sizes=[trial.size for trial in trials],
        slope=slope + more * parameters / pixels,
        shape=shape,
        vectors=round((history * PAIR + _OTHER) * parameters / pixels),
    )


def _memory(
    config: Config, prepared: Prepared, trials: Sequence[Trial], size: int, more: int
) -> tuple[float, float]:
    """Return the bytes that each further pixel takes, and by how many the last trial falls short of ``size``.

    Small tensors leave gaps in the heap, and trials at small sizes grow faster than what is kept. Where that
    was counted, it is the measure.

    Args:
        more: bytes for every parameter that the optimiser will remember, and did not in the last trial.
    """
    last, tile = trials[-1], config.blockwise.tile
    further = math.prod(canvas_shape(config.pictures, prepared.inputs, size)) - last.pixels
    kept = [trial.kept for trial in trials if trial.kept]
    per_pixel = last.parameters / last.pixels
    slope = growth_per_pixel(trials, "memory")
    if tile is not None:
        # What grows is the canvas, and the optimiser's copies of it; and a block has more halo inside.
        slope = min(slope, (last.remembered * PAIR + _OTHER) * per_pixel)
        of_block = [encoded_at_once(config, prepared, s, tile) for s in (last.size, size)]
        return slope, slope * further + (kept[-1] if kept else 0.0) * (of_block[1] - of_block[0])
    if kept:
        slope = min(slope, kept[-1] - more * per_pixel)
    return slope, slope * further


def _grown(config: Config, prepared: Prepared, trials: Sequence[Trial], size: int) -> float:
    """Return how many times the work of the last trial an evaluation at ``size`` is."""
    last, counted = trials[-1], [trial for trial in trials if trial.flops]
    if len(counted) < 2:
        return encoded(config, prepared, size) / encoded(config, prepared, last.size)
    # Encoders do so much per pixel, losses at most something for every pair of them.
    a, b = counted[-2:]
    per_pair = max(0.0, (b.flops / b.pixels - a.flops / a.pixels) / (b.pixels - a.pixels))
    per_pixel = b.flops / b.pixels - per_pair * b.pixels

    def flops(pixels: int) -> float:
        return (per_pixel + per_pair * pixels) * pixels

    return flops(math.prod(canvas_shape(config.pictures, prepared.inputs, size))) / flops(last.pixels)


def _per_remembered(config: Config, parameters: int, device: torch.device) -> float:
    """Return by how many seconds a step is slower for every step that the optimiser remembers."""
    history = min(history_size_of(config), _REHEARSED)
    if history <= 4:
        return 0.0
    n = min(parameters, _NUMBERS)
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
