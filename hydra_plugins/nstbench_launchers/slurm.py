"""``hydra/launcher=slurm``: runs as an array of jobs on a Slurm cluster, each of which may fail alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class _Work:  # not a dataclass: Hydra executes this file before it is in sys.modules, as dataclasses need
    """The function of a job: it composes and runs by hydra-submitit-launcher, within the job's time limit."""

    def __init__(self, launcher: Any, grace: float, out_of_time: str) -> None:
        self.launcher, self.grace, self.out_of_time = launcher, grace, out_of_time

    def __call__(self, overrides: list[str], number: int, singletons: Any) -> Any:
        from nstbench.sweeps.launchers.slurm_job import stopped_in_time

        with stopped_in_time(number, overrides, self.grace, self.out_of_time):
            done = self.launcher(overrides, "hydra.sweep.dir", number, f"job_id_for_{number}", singletons)
        return done.return_value

    def checkpoint(self, *arguments: Any) -> Any:
        """Return what submitit calls after requeueing: the same again, as the run continues by itself."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


class SlurmLauncher(Launcher):
    """Submit all runs as a job array and wait for them; see `nstbench.sweeps.launchers.slurm`.

    Args:
        **settings: Settings in ``conf/hydra/launcher/slurm.yaml``.
    """

    def __init__(self, **settings: Any) -> None:
        self.given = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Check the settings, and prepare the function of the jobs.

        Raises:
            UserError: A setting or Slurm cannot be used. (Raised by __init__, Hydra would hide it.)
        """
        from nstbench.sweeps.launchers.slurm import checked

        # Hydra gives nested settings as OmegaConf's nodes.
        given = OmegaConf.to_container(OmegaConf.create(self.given), resolve=True)
        self.settings = checked(cast(dict[str, Any], given))
        from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as Submitit

        submitit = Submitit()
        submitit.setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.work = _Work(submitit, self.settings.grace, self.settings.out_of_time)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; lost ones are recorded in the sweep's ledger, and their value is NaN."""
        from nstbench.sweeps.launchers.slurm import on_slurm

        setup_globals()
        singletons = Singleton.get_state()
        jobs = [(list(o), initial_job_idx + i, singletons) for i, o in enumerate(job_overrides)]
        values = on_slurm(self.work, jobs, self.settings)
        return [
            JobReturn(overrides=o, status=JobStatus.COMPLETED, _return_value=v)
            for o, v in zip(job_overrides, values, strict=True)
        ]
