"""``hydra/sweeper=optuna``: runs proposed by Optuna, by way of hydra-optuna-sweeper."""

from __future__ import annotations

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSweeper(Sweeper):
    """Search for the settings that are best by the setting ``criterion``; see `nstbench.sweeps.search`.

    Args:
        **settings: Settings in ``conf/hydra/sweeper/optuna.yaml``.
    """

    def __init__(self, **settings: Any) -> None:
        # Checked in setup: Hydra replaces errors that are raised here by its own.
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Check the settings, and prepare Optuna.

        Raises:
            UserError: A setting cannot be used, or Optuna is not installed.
        """
        from nstbench.sweeps.search import Search

        self.search = Search(self.settings, config)
        self.search.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    @property
    def launcher(self) -> Any:
        """Launcher of the runs that are proposed."""
        return self.search.trials.launcher

    @launcher.setter
    def launcher(self, launcher: Any) -> None:
        self.search.trials.launcher = launcher

    def sweep(self, arguments: list[str]) -> Any:
        """Propose and launch runs.

        Args:
            arguments: Overrides, as typed, without those of Hydra's own settings.
        """
        self.search.sweep(arguments)
        return None
