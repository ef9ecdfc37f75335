"""Batches: which runs of a sweep are optimised together, and how many fit into memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from typing import Protocol

from nstbench.config.instantiate import build
from nstbench.modules.footprint import memory_of
from nstbench.optimizers.rows import can_be_batched
from nstbench.runs.run import Run
from nstbench.runs.stages import optimize
from nstbench.runs.targets import EncodedPictures
from nstbench.runtime.device import free_memory

# On a CPU a batch gains while its feature maps are small: large ones leave the caches, and are fetched from
# the system and given back at every layer (`python -m benchmarks.batching`).
_PIXELS_ON_CPU = 8 * 128 * 128
_FEWEST_ON_CPU = 4  # of larger canvases, of which fewer fit, two are slower than one after the other
_SHARE_OF_MEMORY = 0.5  # of what is free: what is measured leaves out workspaces, targets and fragments
_MOST = 64  # beyond, there is nothing left to gain


class Job(Protocol):
    """A run of a sweep; its methods record its errors, and raise only KeyboardInterrupt and SystemExit."""

    @property
    def run(self) -> Run:
        """The run, once it is open."""

    def begin(self, encoded: EncodedPictures | None = None) -> bool:
        """Open the run and begin its first stage; return whether there is one."""

    def go_on(self, encoded: EncodedPictures | None = None) -> bool:
        """End the stage that was optimised, and begin the next; return whether there is one."""

    def close(self) -> None:
        """Close the run where it can be continued, if it is open."""


def run_jobs(jobs: Sequence[Job], size: int | None = 1) -> None:
    """Carry out jobs that may go together, ``size`` at a time.

    Runs that are finished already keep their places, so that a sweep that is continued makes the batches
    that it made before: another number of canvases is rounded otherwise, and ends in other last bits.

    Args:
        jobs: Jobs.
        size: Number of runs in a batch; None: as many as fit into memory.

    Raises:
        KeyboardInterrupt: The user has asked to stop; the runs stop where they can be continued.
    """
    todo = deque(jobs)
    while todo:
        begun: list[Job] = []
        try:
            _begin_batch(todo, begun, size)
            _optimize_all(begun)
        finally:
            for job in begun:
                job.close()


def _begin_batch(todo: deque[Job], begun: list[Job], size: int | None) -> None:
    """Move the jobs of a batch from ``todo`` to ``begun``, but for those that end at once."""
    limit, places, encoded = size, 0, EncodedPictures()
    while todo and (limit is None or places < limit):
        job = todo.popleft()
        begun.append(job)
        places += 1
        if not job.begin(encoded if limit != 1 else None):
            begun.remove(job)
        elif limit is None:
            limit = max_batch_size(job.run)
            places = (places - 1) % limit + 1  # whole batches before it are finished


def _optimize_all(jobs: list[Job]) -> None:
    """Optimise all stages of all jobs, those that agree together; jobs that end leave the list."""
    while jobs:
        # Those with the fewest steps first, so that they may catch up with others.
        first = min(jobs, key=lambda job: job.run.member.progress.step)
        key = batch_key(first.run)
        together = [job for job in jobs if job is first or (key and batch_key(job.run) == key)]
        try:
            optimize([job.run for job in together])
        except (KeyboardInterrupt, SystemExit):
            _go_on([job for job in together if job.run.member.error], jobs)  # these have failed
            raise
        _go_on(together, jobs)


def _go_on(ended: Sequence[Job], jobs: list[Job]) -> None:
    encoded = EncodedPictures() if len(ended) > 1 else None
    for job in ended:
        if not job.go_on(encoded):
            jobs.remove(job)


def batch_key(run: Run) -> Hashable | None:
    """Return what runs must have in common to be optimised as one batch; None: the run is optimised alone."""
    member, config, stage = run.member, run.config, run.stages_left[0]
    progress = member.progress
    parameters = [tuple(p.shape) for p in member.canvas.parameters()]
    optimizer = build(config.optimizer)(member.canvas.parameters())
    # Whose precision, steps or memory depend on how its own objective falls, or is computed.
    alone = stage.precision == "auto" or progress.plateau is not None or member.blocks is not None
    if alone or any(shape[:1] != (1,) for shape in parameters) or not can_be_batched(optimizer):
        return None
    of_config = config.encoder, config.canvas.parametrization, config.colour, config.optimizer, config.trainer
    # Runs that continue do so in the batch in which they began: another one ends in other last bits.
    of_stage = stage.size, stage.steps, stage.precision, progress.stage, run.company
    reached = progress.steps_before, progress.stage_step
    return repr((of_config, of_stage, reached, parameters, sorted(member.layers)))


def max_batch_size(run: Run) -> int:
    """Return how many canvases like this one a batch may have."""
    if batch_key(run) is None:
        return 1
    member = run.member
    optimizer = build(run.config.optimizer)(member.canvas.parameters())
    most = int(_SHARE_OF_MEMORY * free_memory(member.device) / memory_of(member, optimizer))
    if member.device.type == "cpu":
        fit = _PIXELS_ON_CPU // run.stages_left[0].pixels
        most = min(most, fit if fit >= _FEWEST_ON_CPU else 1)
    return max(1, min(_MOST, most))
