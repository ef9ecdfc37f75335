"""``hydra/launcher=batched``: runs that share encoder, size and optimiser are optimised as one batch."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class BatchedLauncher(Launcher):
    """Run all jobs in this process, in batches; see `nstbench.sweeps.launchers.batched`.

    Args:
        size: Number of runs in a batch; ``auto``: as many as fit in memory.
    """

    def __init__(self, size: int | str = "auto") -> None:
        self.given = size

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Check the size, and keep the task and the configuration of the jobs.

        Raises:
            UserError: The size cannot be used. (Raised by __init__, Hydra would hide it.)
        """
        from nstbench.sweeps.launchers.batched import Jobs, checked_size

        self.size = checked_size(self.given)
        self.jobs = Jobs(hydra_context, config, task_function)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; failures are recorded in the sweep's ledger, and their value is NaN."""
        setup_globals()
        values = self.jobs.launch(job_overrides, initial_job_idx, self.size)
        return [
            JobReturn(overrides=o, status=JobStatus.COMPLETED, _return_value=v)
            for o, v in zip(job_overrides, values, strict=True)
        ]
