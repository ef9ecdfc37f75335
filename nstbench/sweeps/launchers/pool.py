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
from nstbench.sweeps.launchers.worker_pool import Limits, Loss, Pool
from nstbench.tracking.ledger import Ledger
from nstbench.tracking.record import mark_failed

_LEAST_MEMORY = 2**28  # PyTorch alone takes that
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Settings:
    """Of ``hydra/launcher=pool``: see ``conf/hydra/launcher/pool.yaml``."""

    workers: Annotated[int, Field(ge=1, le=1024)] | None
    threads: Annotated[int, Field(ge=1, le=1024)] | None
    timeout: Annotated[float, Field(gt=0)] | None
    memory_limit: Annotated[ByteSize, Field(ge=_LEAST_MEMORY)] | None


@dataclasses.dataclass
class Work:
    """Runs one job in a worker. What all jobs share travels once, when the worker starts."""

    hydra_context: HydraContext
    config: DictConfig
    task_function: TaskFunction
    singletons: Any

    def __call__(self, job: tuple[int, list[str]]) -> Any:
        """Compose and run job ``(number, overrides)``; return what the task returns."""
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


def settings(workers: Any, threads: Any, timeout: Any, memory_limit: Any) -> Settings:
    """Return the checked settings of the pool.

    Raises:
        UserError: One of them cannot be used.
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


def in_pool(
    work: Callable[[Any], Any], jobs: Sequence[tuple[int, list[str]]], settings: Settings
) -> list[Any]:
    """Run jobs ``(number, overrides)`` in a pool, and return what they return; NaN for those lost.

    Raises:
        KeyboardInterrupt: The user asked to stop, and all runs have.
    """
    gpus = _gpus()
    workers = count_workers(settings)
    share = settings.threads or max(1, cores() // workers)
    environment = [dict.fromkeys(_THREADS, str(share))]
    if gpus:
        environment = [{**environment[0], "CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus]
    ledger = Ledger.here()

    def lost(loss: Loss) -> None:
        number, overrides = jobs[loss.job]
        if ledger is not None:
            before = ledger.of(number)
            # Somebody wanted it out of the way; it would not fail by itself.
            for_good = "SIGTERM" not in loss.reason
            reason = loss.reason if for_good else f"{loss.reason}; the same command continues it"
            ledger.lost(number, overrides, reason)
            if for_good and before and before.state == "running" and before.folder:
                mark_failed(Path(before.folder), reason)

    limits = Limits(settings.timeout, settings.memory_limit)
    # Hydra's state holds functions that the pickle of the standard library cannot take.
    pool = Pool(cloudpickle.dumps(work), _load, min(workers, len(jobs)), limits, environment)
    return [math.nan if value is None else value for value in pool.run(jobs, lost)]


def count_workers(settings: Settings) -> int:
    """Return how many workers the pool has at most: one per GPU, or else one per core, by default."""
    return settings.workers or len(_gpus()) or cores()


def _gpus() -> list[str]:
    """Return the names of the GPUs that workers are to share out among themselves."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


def _load() -> None:
    """Import what every run needs, so that it does not count as a run's time."""
    import nstbench.runs.run  # noqa: F401
