"""Which runs a command would make, without making them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, open_dict

from nstbench.cli.composition.compose import with_hydra
from nstbench.errors import UserError

Job = tuple[list[str], DictConfig]
"""The overrides and the configuration of a run."""


def jobs_of(flags: Sequence[str], overrides: Sequence[str]) -> list[Job] | None:
    """Return the runs of a command, or of a sweep; None of a search, where they depend on each other.

    Nothing is written.

    Raises:
        UserError: it cannot be composed.
    """
    found: list[Job] = []

    def launcher(**arguments: Any) -> Launcher:
        if "BasicSweeper" not in str(arguments["config"].hydra.sweeper._target_):
            raise _SearchError
        return _Collector(found, arguments["hydra_context"], arguments["config"])

    def alone(composed: DictConfig) -> None:
        found.append((list(overrides), composed))

    with (
        tempfile.TemporaryDirectory() as folder,  # Hydra writes what it sweeps over
        patch.object(Plugins.instance(), "instantiate_launcher", launcher),
    ):
        try:
            with_hydra(alone, flags, [*overrides, f"hydra.sweep.dir={folder}"])
        except _SearchError:
            return None
    return found


class _SearchError(UserError):
    """Its runs are not known: what comes through Hydra unchanged."""

    def __init__(self) -> None:
        super().__init__("hydra/sweeper", "", "its runs depend on each other")


class _Collector(Launcher):
    """Takes what a sweep would launch, and launches nothing."""

    def __init__(self, found: list[Job], context: Any, config: DictConfig) -> None:
        self.found, self.context, self.config = found, context, config

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        """Nothing is left to be told."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        """Compose the jobs, as Hydra would before it calls the task."""
        loader = self.context.config_loader
        for typed in job_overrides:
            composed = loader.load_sweep_config(self.config, list(typed))
            with open_dict(composed):
                del composed["hydra"]
            self.found.append((list(typed), composed))
        return []
