"""Check that a run fits in memory, and find settings with which it would."""

from __future__ import annotations

import logging
import math

from nstbench.config.schema import Config
from nstbench.cost.prediction import BYTES_PER_PAIR, Cost, StageCost, predict
from nstbench.cost.trials import count_largest_block_pixels, history_size_of
from nstbench.errors import UserError
from nstbench.formatting import format_bytes
from nstbench.runs.preparation import Prepared, check_blockwise
from nstbench.runtime.device import free_memory, held_memory

log = logging.getLogger(__name__)

_SAFE_SHARE = 0.85  # share of the free memory that a prediction may fill, as predictions have an error
_TILE = 512
_SECONDS = 4.0  # seconds that the steps at one size may take
_SMALLEST_HISTORY = 3  # steps; a shorter history is not suggested
# Bytes per pixel, more than any configuration of nstbench took: a run for which so much is free is not tried.
_MAX_BYTES_PER_PIXEL = 6000


def check_memory(config: Config, prepared: Prepared) -> None:
    """Check that a run fits in memory, before it begins; log a warning if it only just fits.

    For large runs, a few steps are made at small sizes, which takes seconds.

    Raises:
        UserError: It does not fit. The message has the size, the memory that it needs, and settings that fit.
    """
    device = prepared.device
    pixels = max(stage.pixels for stage in prepared.stages)
    if not config.trainer.check_memory or pixels * _MAX_BYTES_PER_PIXEL < free_memory(device) + held_memory(
        device
    ):
        return
    cost = predict(config, prepared, seconds=_SECONDS)
    raise_if_too_large(config, prepared, cost)
    if cost.memory > _SAFE_SHARE * cost.free:
        need, free = format_bytes(cost.memory), format_bytes(cost.free)
        log.warning("this run is expected to take about %s of the %s that are free", need, free)


def raise_if_too_large(config: Config, prepared: Prepared, cost: Cost) -> None:
    """Raise an error if a run does not fit in memory.

    Raises:
        UserError: It does not. The message has the size, the memory that it needs, and settings that fit.
    """
    if cost.fits:
        return
    largest = max(cost.stages, key=lambda stage: stage.memory)
    where = "" if prepared.device.type == "cpu" else " on the GPU"
    need, free = format_bytes(cost.memory), format_bytes(cost.free)
    reason = f"it would take about {need} of memory, and {free} is free{where}"
    settings = ", or ".join(settings_that_fit(config, prepared, cost))
    hint = f"Settings that fit: {settings}." if settings else "Give a smaller size."
    hint += " With trainer.check_memory=false the run starts without this check."
    setting = "size" if largest.stage.size == config.size else "schedule.stages"
    raise UserError(setting, largest.stage.size, reason, hint)


def settings_that_fit(config: Config, prepared: Prepared, cost: Cost) -> list[str]:
    """Return settings, as they are typed, each of which makes a run fit in memory; the list may be empty."""
    available = _SAFE_SHARE * cost.free
    stage = max(cost.stages, key=lambda stage: stage.memory)
    history_size = min(history_size_of(config), stage.stage.steps)
    per_pair = BYTES_PER_PAIR * 3 * stage.pixels

    def shorter_history(memory: float) -> str:
        """Return the setting of a history with which so many bytes would fit; empty if there is none."""
        history = history_size - math.ceil(max(0.0, memory - available) / per_pair)
        is_usable = _SMALLEST_HISTORY <= history < history_size
        return f"optimizer.history_size={history}" if is_usable else ""

    found = [shorter_history(stage.memory)]
    in_blocks = _memory_in_blocks(config, prepared, stage)
    if in_blocks < available:
        found.append(f"blockwise.tile={_TILE}")
    elif math.isfinite(in_blocks) and (history := shorter_history(in_blocks)):
        found.append(f"blockwise.tile={_TILE} {history}")
    pixels = stage.pixels - (stage.memory - available) / stage.bytes_per_pixel
    size = int(stage.stage.size * math.sqrt(max(0.0, pixels) / stage.pixels)) // 16 * 16
    if size >= 64:
        found.append(f"size={size}")
    return [each for each in found if each]


def _memory_in_blocks(config: Config, prepared: Prepared, stage: StageCost) -> float:
    """Return the approximate bytes of a stage in blocks; infinite if it cannot be computed in blocks."""
    if config.blockwise.tile is not None:
        return math.inf
    try:
        check_blockwise(prepared.stages, prepared.encoder, prepared.terms, _TILE)
    except UserError:
        return math.inf
    # All tensors but those of the canvas and the optimiser exist for one block at a time.
    block = count_largest_block_pixels(config, prepared, stage.stage.size, _TILE)
    return stage.memory - (stage.bytes_per_pixel - stage.vector_bytes) * max(0, stage.pixels - block)
