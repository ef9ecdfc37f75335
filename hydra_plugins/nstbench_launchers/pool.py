"""``hydra/launcher=pool``: runs in worker processes on this machine, each of which may fail alone."""

# Hydra loads this file in a way of its own, in which dataclasses cannot be defined.
from __future__ import annotations

from collections.abc import Sequence

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class PoolLauncher(Launcher):
    """Keep some runs going at a time; see `nstbench.sweeps.launchers.worker_pool`.

    Args:
        workers: Processes; null: one per GPU, or else one per core.
        threads: Of each; null: its share of the cores.
        timeout: Seconds that a run may take; null: any.
        memory_limit: Of a run's process, such as ``4GiB``; null: any.
    """

    def __init__(
        self,
        workers: int | None = None,
        threads: int | None = None,
        timeout: float | None = None,
        memory_limit: str | int | None = None,
    ) -> None:
        self.given = workers, threads, timeout, memory_limit

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember what runs and with which configuration.

        Raises:
            UserError: A setting of the launcher cannot be used. (Hydra would hide it if __init__ raised it.)
        """
        from nstbench.runtime.cores import check_threads
        from nstbench.sweeps.launchers.pool import count_workers, settings

        self.settings = settings(*self.given)
        threads = OmegaConf.select(config, "trainer.threads")
        if isinstance(threads, int):
            check_threads("trainer.threads", threads, workers=count_workers(self.settings))
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; those that were lost are noted in the sweep's ledger, and return NaN."""
        from nstbench.sweeps.launchers.pool import Work, in_pool

        setup_globals()
        work = Work(self.hydra_context, self.config, self.task_function, Singleton.get_state())
        jobs = [(initial_job_idx + i, list(overrides)) for i, overrides in enumerate(job_overrides)]
        values = in_pool(work, jobs, self.settings)
        return [
            JobReturn(overrides=o, status=JobStatus.COMPLETED, _return_value=v)
            for (_, o), v in zip(jobs, values, strict=True)
        ]
