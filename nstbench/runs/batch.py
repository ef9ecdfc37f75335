"""Batches of runs that are optimised together, and the number that fits into memory."""

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

# On a CPU a batch is faster only if its feature maps are small: large ones do not fit in caches, and are
# allocated and freed at every layer (`python -m benchmarks.batching`).
_PIXELS_ON_CPU = 8 * 128 * 128
_FEWEST_ON_CPU = 4  # canvases; a smaller batch is slower than one run after the other
_SHARE_OF_MEMORY = 0.5  # of the free memory: the measurement leaves out workspaces, targets and fragmentation
_LARGEST_BATCH = 64  # larger batches are not faster


class Job(Protocol):
    """A run of a sweep; its methods record its errors, and raise only KeyboardInterrupt and SystemExit."""

    @property
    def run(self) -> Run:
        """Run, once it is open."""

    def begin(self, encoded: EncodedPictures | None = None) -> bool:
        """Open the run and begin its first stage; return whether there is one."""

    def go_on(self, encoded: EncodedPictures | None = None) -> bool:
        """End the stage that was optimised, and begin the next; return whether there is one."""

    def close(self) -> None:
        """Close the run, if it is open, so that it can be continued."""


def run_jobs(jobs: Sequence[Job], size: int | None = 1) -> None:
    """Make the runs of jobs, ``size`` at a time.

    Runs that are finished already keep their places, so that a sweep that is continued makes the same
    batches as before: rounding depends on the number of canvases, and in another batch the last bits of a
    picture differ.

    Args:
        jobs: Jobs whose runs may be optimised together.
        size: Number of runs in a batch; None: as many as fit into memory.

    Raises:
        KeyboardInterrupt: The user has asked to stop; the runs stop and can be continued.
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
            places = (places - 1) % limit + 1  # finished runs before this one filled whole batches


def _optimize_all(jobs: list[Job]) -> None:
    """Optimise all stages of all jobs, those that agree together; jobs that end leave the list."""
    while jobs:
        # Those with the fewest steps first, so that they reach the step of others.
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
    """Return the key that runs of one batch have in common; None: the run is optimised alone."""
    member, config, stage = run.member, run.config, run.stages_left[0]
    progress = member.progress
    parameters = [tuple(p.shape) for p in member.canvas.parameters()]
    optimizer = build(config.optimizer)(member.canvas.parameters())
    # Runs whose precision or number of steps depends on their objective, or that are computed in blocks.
    alone = stage.precision == "auto" or progress.plateau is not None or member.blocks is not None
    if alone or any(shape[:1] != (1,) for shape in parameters) or not can_be_batched(optimizer):
        return None
    of_config = config.encoder, config.canvas.parametrization, config.colour, config.optimizer, config.trainer
    # Runs continue in the batch in which they began: in another one, the last bits differ.
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
    return max(1, min(_LARGEST_BATCH, most))
