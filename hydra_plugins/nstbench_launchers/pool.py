"""``hydra/launcher=pool``: runs in worker processes on this machine, each of which may fail alone."""

# Hydra executes this file before it is in sys.modules, so that dataclasses cannot be defined in it.
from __future__ import annotations

from collections.abc import Sequence

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class PoolLauncher(Launcher):
    """Run several jobs at a time; see `nstbench.sweeps.launchers.worker_pool`.

    Args:
        workers: Number of processes; null: one per GPU, or one per core without a GPU.
        threads: CPU threads of each process; null: an equal share of the cores.
        timeout: Longest duration of a run in seconds; null: no limit.
        memory_limit: Largest memory of a run's process, such as ``4GiB``; null: no limit.
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
        """Check the settings, and keep the task and the configuration of the jobs.

        Raises:
            UserError: A setting of the launcher cannot be used. (Raised by __init__, Hydra would hide it.)
        """
        from nstbench.runtime.cores import check_threads
        from nstbench.sweeps.launchers.pool import check_settings, count_workers

        self.settings = check_settings(*self.given)
        threads = OmegaConf.select(config, "trainer.threads")
        if isinstance(threads, int):
            check_threads("trainer.threads", threads, workers=count_workers(self.settings))
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; lost ones are recorded in the sweep's ledger, and their value is NaN."""
        from nstbench.sweeps.launchers.pool import Work, run_in_pool

        setup_globals()
        work = Work(self.hydra_context, self.config, self.task_function, Singleton.get_state())
        jobs = [(initial_job_idx + i, list(overrides)) for i, overrides in enumerate(job_overrides)]
        values = run_in_pool(work, jobs, self.settings)
        return [
            JobReturn(overrides=o, status=JobStatus.COMPLETED, _return_value=v)
            for (_, o), v in zip(jobs, values, strict=True)
        ]
