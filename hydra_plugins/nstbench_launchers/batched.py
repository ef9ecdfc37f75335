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
        size: Number of runs in a batch; ``auto``: as many as fit into memory.
    """

    def __init__(self, size: int | str = "auto") -> None:
        self.given = size

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep the task and the configuration of the sweep.

        Raises:
            UserError: The size cannot be used. (Hydra would hide it if __init__ raised it.)
        """
        from nstbench.sweeps.launchers.batched import BatchedSweep, checked_size

        self.size = checked_size(self.given)
        self.sweep = BatchedSweep(hydra_context, config, task_function)  # type: ignore[arg-type]

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; those that fail are recorded in the sweep's ledger, and return NaN."""
        setup_globals()
        values = self.sweep.launch(job_overrides, initial_job_idx, self.size)
        return [
            JobReturn(overrides=o, status=JobStatus.COMPLETED, _return_value=v)
            for o, v in zip(job_overrides, values, strict=True)
        ]
