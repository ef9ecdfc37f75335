"""Runs of a sweep in batches: those with equal common settings are optimised together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from hydra.core.hydra_config import HydraConfig
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from nstbench.errors import UserError
from nstbench.sweeps.job import Criteria, SweepJob, copy_without_hydra

# Settings that are equal for all runs of a batch. Pictures, losses, weights, seeds and start may differ.
# Layers and shapes must be equal, too, which is checked when the pictures have been read.
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
    """Return the checked size of batches; None: as many as fit into memory.

    Raises:
        UserError: The size cannot be used.
    """
    if size == "auto":
        return None
    if isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= _LARGEST:
        return size
    reason = f"it must be auto, or a whole number from 1 to {_LARGEST}"
    raise UserError("hydra.launcher.size", size, reason, "Type hydra.launcher.size=8, for example.")


class SweepTask(Protocol):
    """The function that Hydra calls for every configuration of a sweep."""

    def job(self, composed: DictConfig, hydra: DictConfig) -> SweepJob:
        """Return a run of the sweep, not yet begun; see `SweepJob`."""


class BatchedSweep:
    """The runs of a sweep, which are optimised in batches.

    Args:
        context: Hydra's context.
        config: Configuration of the sweep.
        task: Task that Hydra was given.
    """

    def __init__(self, context: HydraContext, config: DictConfig, task: SweepTask) -> None:
        self.context, self.config, self.task = context, config, task

    def launch(self, overrides: Sequence[Sequence[str]], first: int, size: int | None) -> list[Criteria]:
        """Make all runs; return the values of their criteria, NaN for those that failed.

        Args:
            overrides: Overrides of each run.
            first: Number of the first run in the sweep.
            size: Number of runs in a batch; None: as many as fit into memory.

        Raises:
            KeyboardInterrupt: The user has asked to stop, and all runs have.
        """
        from nstbench.runs.batch import run_jobs  # loads torch

        composed = [self._compose(list(each), first + i) for i, each in enumerate(overrides)]
        groups: dict[str, list[int]] = {}
        for number, config in enumerate(composed):
            groups.setdefault(_common(config), []).append(number)
        jobs: dict[int, SweepJob] = {}
        before = HydraConfig.instance().cfg
        try:
            for numbers in groups.values():
                numbers.sort(key=lambda number: str(composed[number].pictures.get("content")))
                for number in numbers:
                    config = composed[number]
                    jobs[number] = self.task.job(copy_without_hydra(config), config)
                run_jobs([jobs[number] for number in numbers], size)
        finally:
            HydraConfig.instance().cfg = before
        return [jobs[number].value for number in range(len(composed))]

    def _compose(self, overrides: list[str], number: int) -> DictConfig:
        config = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return config


def _common(config: DictConfig) -> str:
    """Return the settings that must be equal for runs to be in one batch."""
    found = []
    for name in _COMMON:
        try:
            node = OmegaConf.select(config, name)
            found.append(OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node)
        except OmegaConfBaseException:  # the run itself reports the error
            found.append(None)
    return repr(found)
