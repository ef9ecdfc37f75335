"""Runs of a sweep in a pool of processes on this machine."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import cloudpickle
from hydra.core.singleton import Singleton
from hydra.core.utils import run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict
from pydantic import ByteSize, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from nstbench.errors import UserError
from nstbench.runtime.cores import check_threads, cores
from nstbench.sweeps.launchers.worker_pool import Limits, LostJob, Pool
from nstbench.tracking.ledger import Ledger
from nstbench.tracking.record import mark_failed

_LEAST_MEMORY = 2**28  # PyTorch alone needs that much
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Settings:
    """Settings of ``hydra/launcher=pool``: see ``conf/hydra/launcher/pool.yaml``."""

    workers: Annotated[int, Field(ge=1, le=1024)] | None
    threads: Annotated[int, Field(ge=1, le=1024)] | None
    timeout: Annotated[float, Field(gt=0)] | None
    memory_limit: Annotated[ByteSize, Field(ge=_LEAST_MEMORY)] | None


@dataclasses.dataclass
class Work:
    """A function that runs one job in a worker. It is sent once, when the worker starts."""

    hydra_context: HydraContext
    config: DictConfig
    task_function: TaskFunction
    singletons: Any

    def __call__(self, job: tuple[int, list[str]]) -> Any:
        """Compose and run job ``(number, overrides)``; return the result of the task."""
        number, overrides = job
        Singleton.set_state(self.singletons)
        setup_globals()
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        done = run_job(
            hydra_context=self.hydra_context,
            task_function=self.task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        return done.return_value


def check_settings(workers: Any, threads: Any, timeout: Any, memory_limit: Any) -> Settings:
    """Return the checked settings of the pool.

    Raises:
        UserError: A setting cannot be used.
    """
    given = {"workers": workers, "threads": threads, "timeout": timeout, "memory_limit": memory_limit}
    examples = {"workers": "4", "threads": "1", "timeout": "600", "memory_limit": "4GiB"}
    try:
        checked = TypeAdapter(Settings).validate_python(given)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        reason = f"it must be {error.errors()[0]['msg'].removeprefix('Input should be ')}"
        if name == "memory_limit":
            reason = "it must be a size of at least 256MiB, with its unit"
        hint = f"Type hydra.launcher.{name}={examples[name]}, for example, or null."
        raise UserError(f"hydra.launcher.{name}", given[name], reason, hint) from error
    if checked.threads:
        check_threads("hydra.launcher.threads", checked.threads, workers=count_workers(checked))
    return checked


def run_in_pool(
    work: Callable[[Any], Any], jobs: Sequence[tuple[int, list[str]]], settings: Settings
) -> list[Any]:
    """Run jobs ``(number, overrides)`` in a pool, and return their results; NaN for lost jobs.

    Raises:
        KeyboardInterrupt: The user requested a stop, and all runs have stopped.
    """
    gpus = _list_gpus()
    workers = count_workers(settings)
    share = settings.threads or max(1, cores() // workers)
    environment = [dict.fromkeys(_THREADS, str(share))]
    if gpus:
        environment = [{**environment[0], "CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus]
    ledger = Ledger.here()

    def lost(loss: LostJob) -> None:
        number, overrides = jobs[loss.job]
        if ledger is not None:
            before = ledger.of(number)
            # SIGTERM comes from outside: the run itself has not failed, and can continue.
            is_final = "SIGTERM" not in loss.reason
            reason = loss.reason if is_final else f"{loss.reason}; the same command continues it"
            ledger.lost(number, overrides, reason)
            if is_final and before and before.state == "running" and before.folder:
                mark_failed(Path(before.folder), reason)

    limits = Limits(settings.timeout, settings.memory_limit)
    # Hydra's state holds functions that the pickle module of the standard library cannot pickle.
    pool = Pool(cloudpickle.dumps(work), _import_modules, min(workers, len(jobs)), limits, environment)
    return [math.nan if value is None else value for value in pool.run(jobs, lost)]


def count_workers(settings: Settings) -> int:
    """Return the largest number of workers: by default one per GPU, or one per core without a GPU."""
    return settings.workers or len(_list_gpus()) or cores()


def _list_gpus() -> list[str]:
    """Return the names of the GPUs, which are assigned to workers in turn."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


def _import_modules() -> None:
    """Import the modules that every run needs, so that loading them does not count as a run's time."""
    import nstbench.runs.run  # noqa: F401
