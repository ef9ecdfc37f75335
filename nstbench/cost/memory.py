"""Whether a run fits in memory; and if not, what would."""

from __future__ import annotations

import logging
import math

from nstbench.config.schema import Config
from nstbench.cost.prediction import PAIR, Cost, StageCost, predict
from nstbench.cost.trials import encoded_at_once, history_size_of
from nstbench.errors import UserError
from nstbench.formatting import format_bytes
from nstbench.runs.preparation import Prepared, check_blockwise
from nstbench.runtime.device import free_memory, held_memory

log = logging.getLogger(__name__)

_SAFE = 0.85  # share of the free memory that a prediction may fill: it can be so wrong
_TILE = 512
_SECONDS = 4.0  # that it may take to find out, at each size
_FEWEST = 3  # steps that are worth remembering
# Bytes per pixel that no configuration of ours has been seen to take: below, no run is tried beforehand.
_AT_MOST = 6000


def check_memory(config: Config, prepared: Prepared) -> None:
    """Refuse a run that memory has no room for, before it is begun; say so where it is close.

    Only large runs are tried for it, at small sizes, which takes seconds.

    Raises:
        UserError: naming the size, what it would take, and settings that fit.
    """
    device = prepared.device
    pixels = max(stage.pixels for stage in prepared.stages)
    if not config.trainer.check_memory or pixels * _AT_MOST < free_memory(device) + held_memory(device):
        return
    cost = predict(config, prepared, seconds=_SECONDS)
    raise_if_too_large(config, prepared, cost)
    if cost.memory > _SAFE * cost.free:
        need, free = format_bytes(cost.memory), format_bytes(cost.free)
        log.warning("this run is expected to take about %s of the %s that are free", need, free)


def raise_if_too_large(config: Config, prepared: Prepared, cost: Cost) -> None:
    """Raise if a run does not fit.

    Raises:
        UserError: naming the size, what it would take, and settings that fit.
    """
    if cost.fits:
        return
    largest = max(cost.stages, key=lambda stage: stage.memory)
    where = "" if prepared.device.type == "cpu" else " on the GPU"
    need, free = format_bytes(cost.memory), format_bytes(cost.free)
    reason = f"it would take about {need} of memory, and {free} is free{where}"
    settings = ", or ".join(settings_that_fit(config, prepared, cost))
    hint = f"What fits: {settings}." if settings else "Give a smaller size."
    hint += " With trainer.check_memory=false it is tried all the same."
    setting = "size" if largest.stage.size == config.size else "schedule.stages"
    raise UserError(setting, largest.stage.size, reason, hint)


def settings_that_fit(config: Config, prepared: Prepared, cost: Cost) -> list[str]:
    """Return settings with each of which a run would fit, as they are typed; perhaps none."""
    room = _SAFE * cost.free
    stage = max(cost.stages, key=lambda stage: stage.memory)
    remembered = min(history_size_of(config), stage.stage.steps)
    per_step = PAIR * 3 * stage.pixels

    def fewer(memory: float) -> str:
        """Return the history for which what takes so much would fit, as it is typed."""
        history = remembered - math.ceil(max(0.0, memory - room) / per_step)
        return f"optimizer.history_size={history}" if _FEWEST <= history < remembered else ""

    found = [fewer(stage.memory)]
    in_blocks = _in_blocks(config, prepared, stage)
    if in_blocks < room:
        found.append(f"blockwise.tile={_TILE}")
    elif math.isfinite(in_blocks) and (history := fewer(in_blocks)):
        found.append(f"blockwise.tile={_TILE} {history}")
    pixels = stage.pixels - (stage.memory - room) / stage.slope
    size = int(stage.stage.size * math.sqrt(max(0.0, pixels) / stage.pixels)) // 16 * 16
    if size >= 64:
        found.append(f"size={size}")
    return [each for each in found if each]


def _in_blocks(config: Config, prepared: Prepared, stage: StageCost) -> float:
    """Return about how many bytes a stage takes in blocks; infinite where it cannot be computed so."""
    if config.blockwise.tile is not None:
        return math.inf
    try:
        check_blockwise(prepared.stages, prepared.encoder, prepared.terms, _TILE)
    except UserError:
        return math.inf
    # All but the canvas's own numbers are there for one block only.
    block = encoded_at_once(config, prepared, stage.stage.size, _TILE)
    return stage.memory - (stage.slope - stage.vectors) * max(0, stage.pixels - block)
