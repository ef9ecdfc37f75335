"""Carrying out attempts at runs in batches: which go together, how many fit, and what becomes of each."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import TypeVar

import pytorch_lightning as pl
import torch

from nstbench.callbacks.batch_checkpoint import BatchCheckpoint
from nstbench.callbacks.checkpoint import Stop, warn_of_other_company
from nstbench.modules.batch_optimization import BatchOptimization
from nstbench.modules.footprint import memory_of
from nstbench.modules.image_optimization import ImageOptimization
from nstbench.optimizers.rows import can_be_batched
from nstbench.runs.attempts import Fit, Waiting, finish_stage
from nstbench.runs.targets import shared_encodings
from nstbench.runtime.device import free_memory
from nstbench.runtime.trainer import fit as fit_module

T = TypeVar("T")

# On a CPU a batch gains while its feature maps are small: large ones leave the caches, and are fetched from
# the system and given back at every layer (`python -m benchmarks.batching`).
_PIXELS_ON_CPU = 8 * 128 * 128
_FEWEST_ON_CPU = 4  # of larger canvases, of which fewer have room, two are slower than one after the other
_SHARE_OF_MEMORY = 0.5  # of what is free: what is measured leaves out workspaces, targets and fragments
_MOST = 64  # beyond, there is nothing left to gain


def in_batches(jobs: Sequence[Callable[[], Waiting[T] | T]], size: int | None) -> list[T]:
    """Carry out attempts that may go together, ``size`` at a time; return what they return, in order.

    Jobs that are finished already keep their places, so that a sweep that is continued makes the batches
    that it made before: another number of canvases is rounded otherwise, and ends in other last bits.

    Args:
        jobs: each begins an attempt: it returns what that waits for, or its result.
        size: of the batches; None: as many as memory has room for.

    Raises:
        KeyboardInterrupt: the user asked to stop; all that had begun have stopped where they can go on.
    """
    results: dict[int, T] = {}
    todo = deque(enumerate(jobs))
    while todo:
        waiting: dict[int, Waiting[T]] = {}
        room, places = size, 0
        try:
            with shared_encodings():
                while todo and (room is None or places < room):
                    number, job = todo.popleft()
                    now = job()
                    places += 1
                    if not isinstance(now, Waiting):
                        results[number] = now
                        continue
                    waiting[number] = now
                    if room is None:
                        room = max_batch_size(now.fit)
                        places = (places - 1) % room + 1  # whole batches before it are finished
            _carry_on(waiting, results)
        finally:
            for each in waiting.values():
                each.attempt.close()
    return [results[number] for number in range(len(jobs))]


def _carry_on(waiting: dict[int, Waiting[T]], results: dict[int, T]) -> None:
    """Optimise all that attempts wait for, until there is nothing left; those that end leave ``waiting``."""
    while waiting:
        kinds = {number: batch_key(each.fit) for number, each in waiting.items()}
        # The hindmost first, so that it may catch up with others.
        first = min(waiting, key=lambda number: (waiting[number].fit.module.step, number))
        alike = [number for number in waiting if kinds[number] == kinds[first]]
        if kinds[first] is None or len(alike) == 1:
            _take(waiting, results, first, finish_stage)
            continue
        errors = fit_together([waiting[number].fit for number in alike])
        interruption: BaseException | None = None
        with shared_encodings():
            for number, error in zip(alike, errors, strict=True):
                try:
                    _take(waiting, results, number, partial(Waiting.go_on, error=error))
                except (KeyboardInterrupt, SystemExit) as stop:
                    interruption = stop
        if interruption is not None:
            raise interruption


def _take(
    waiting: dict[int, Waiting[T]],
    results: dict[int, T],
    number: int,
    step: Callable[[Waiting[T]], Waiting[T] | T],
) -> None:
    now = step(waiting.pop(number))
    if isinstance(now, Waiting):
        waiting[number] = now
    else:
        results[number] = now


def fit_together(fits: Sequence[Fit], callbacks: Sequence[pl.Callback] = ()) -> list[BaseException | None]:
    """Optimise one stage of several runs as one batch.

    A batch for which memory does not suffice is halved.

    Args:
        fits: of one kind.
        callbacks: of the caller's own, for the batch as a whole.

    Returns:
        for each why it did not finish the stage, or None.
    """
    if len(fits) == 1:
        try:
            fits[0].alone()
        except BaseException as error:
            return [error]
        return [None]
    first = fits[0].module
    if first.is_at_end:
        return [None] * len(fits)  # their checkpoints have all of the stage's steps
    for fit in fits:
        warn_of_other_company(fit.folder.name, fit.company, [each.folder.name for each in fits])
    before = first.evaluations
    module = BatchOptimization(fits)
    config, stopped = fits[0].config, None
    try:
        fit_module(
            module,
            accelerator=config.trainer.accelerator,
            max_steps=first.stage_steps - first.stage_step,
            callbacks=[BatchCheckpoint(), *callbacks, Stop()],
            deterministic=config.trainer.deterministic,
            default_root_dir=fits[0].folder,
        )
    except BaseException as error:
        stopped = error
    if isinstance(stopped, torch.OutOfMemoryError) and first.evaluations == before:
        del module
        stopped = stopped.with_traceback(None)  # it holds the batch
        free_cached_memory()
        half = len(fits) // 2
        return [*fit_together(fits[:half], callbacks), *fit_together(fits[half:], callbacks)]
    return [module.errors.get(str(fit.folder), stopped) for fit in fits]


def batch_key(fit: Fit) -> Hashable:
    """Return what stages must have in common to be optimised as one batch; None: it cannot be."""
    module, config = fit.module, fit.config
    parameters = [tuple(p.shape) for p in module.canvas.parameters()]
    single = module.make_optimizer(module.canvas.parameters())
    ours = type(module) is ImageOptimization and all(shape[:1] == (1,) for shape in parameters)
    # Whose steps depend on how its objective falls, that changes its precision or ends when others do not.
    goes_its_own_way = fit.stage.precision == "auto" or module.plateau is not None
    goes_its_own_way |= module.blocks is not None  # too large to be encoded at once
    if not ours or goes_its_own_way or not can_be_batched(single):
        return None
    of_config = config.encoder, config.canvas.parametrization, config.colour, config.optimizer, config.trainer
    # Runs that continue do so in the batch in which they began: another one ends in other last bits.
    of_stage = fit.stage, module.stage, module.steps_before, module.stage_step, fit.company
    return repr((of_config, of_stage, parameters, sorted(module.objective.layers)))


def max_batch_size(fit: Fit) -> int:
    """Return how many canvases like this one a batch may have."""
    if batch_key(fit) is None:
        return 1
    device = next(fit.module.canvas.parameters()).device
    most = int(_SHARE_OF_MEMORY * free_memory(device) / memory_of(fit.module))
    if device.type == "cpu":
        height, width = fit.module.canvas().shape[2:]
        room = _PIXELS_ON_CPU // (height * width)
        most = min(most, room if room >= _FEWEST_ON_CPU else 1)
    return max(1, min(_MOST, most))


def free_cached_memory() -> None:
    """Give back what is no longer used, so that it counts as free memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
