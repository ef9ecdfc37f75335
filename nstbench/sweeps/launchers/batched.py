"""Runs of a sweep in batches: those that have enough in common are optimised as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from hydra.core.utils import JobReturn, run_job
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from nstbench.errors import UserError
from nstbench.runs.attempts import waiting_for_others
from nstbench.runtime.interruption import stop_requested

# What runs of a batch share. The rest (pictures, losses, weights, seeds, start) each has for itself;
# that layers and shapes agree as well is seen when the pictures have been read.
_COMMON = (
    "encoder",
    "layers",
    "size",
    "schedule",
    "canvas.parametrization",
    "colour.control",
    "optimizer",
    "trainer",
)
_LARGEST = 4096


def checked_size(size: Any) -> int | None:
    """Return the checked size of batches; None: as many as memory has room for.

    Raises:
        UserError: it cannot be used.
    """
    if size == "auto":
        return None
    if isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= _LARGEST:
        return size
    reason = f"it must be auto, or a whole number from 1 to {_LARGEST}"
    raise UserError("hydra.launcher.size", size, reason, "Type hydra.launcher.size=8, for example.")


class Jobs:
    """The jobs of a sweep.

    Args:
        context: Hydra's.
        config: of the sweep.
        task: what runs one composed configuration.
    """

    def __init__(self, context: HydraContext, config: DictConfig, task: TaskFunction) -> None:
        self.context, self.config, self.task = context, config, task

    def launch(self, overrides: Sequence[Sequence[str]], first: int, size: int | None) -> list[Any]:
        """Run all jobs; return what they return, NaN for those that failed.

        Raises:
            KeyboardInterrupt: the user asked to stop, and all runs have.
        """
        from nstbench.runs.batch import in_batches  # loads torch

        composed = [self._composed(list(each), first + i) for i, each in enumerate(overrides)]
        groups: dict[str, list[int]] = {}
        for number, config in enumerate(composed):
            groups.setdefault(_common(config), []).append(number)
        values: dict[int, Any] = {}
        for numbers in groups.values():
            numbers.sort(key=lambda number: str(composed[number].pictures.get("content")))
            jobs = [partial(self._begin, composed[number]) for number in numbers]
            values.update(zip(numbers, in_batches(jobs, size), strict=True))
        return [values.get(number, math.nan) for number in range(len(composed))]

    def _composed(self, overrides: list[str], number: int) -> DictConfig:
        config = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return config

    def _begin(self, config: DictConfig) -> Any:
        """Begin a job; return what it waits for, or its result."""
        if stop_requested():
            raise KeyboardInterrupt
        with waiting_for_others():
            done: JobReturn = run_job(
                hydra_context=self.context,
                task_function=self.task,
                config=config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
        return done.return_value


def _common(config: DictConfig) -> str:
    """Return what must be equal for runs to be tried in one batch."""
    found = []
    for name in _COMMON:
        try:
            node = OmegaConf.select(config, name)
            found.append(OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node)
        except OmegaConfBaseException:  # the run itself will say so
            found.append(None)
    return repr(found)
