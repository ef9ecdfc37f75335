"""The runs that a command would make, without making them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig

from nstbench.cli.composition.application import Loader
from nstbench.cli.composition.compose import compose, mistakes_explained
from nstbench.sweeps.job import copy_without_hydra

Job = tuple[list[str], DictConfig]
"""The overrides and the configuration of a run."""


class Jobs:
    """Runs of a command, each composed when the iteration reaches it.

    Args:
        typed: Overrides of the command.
        composed: Configuration of the command.
        loader: Loader that composes the runs of a sweep.

    Raises:
        UserError: What a sweep is to vary is not in Hydra's grammar.
    """

    def __init__(self, typed: Sequence[str], composed: DictConfig, loader: Loader) -> None:
        self.typed, self.composed, self.loader = typed, composed, loader
        self.is_sweep = composed.hydra.mode == RunMode.MULTIRUN
        self.overrides = self._swept() if self.is_sweep else [list(typed)]

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self.overrides)

    def __iter__(self) -> Iterator[Job]:
        """Compose the runs.

        Raises:
            UserError: A run cannot be composed.
        """
        for overrides in self.overrides:
            config = self.composed
            if self.is_sweep:
                with mistakes_explained(self.typed):
                    config = self.loader.load_sweep_config(self.composed, overrides)
            yield overrides, copy_without_hydra(config)

    def _swept(self) -> list[list[str]]:
        settings = self.composed.hydra.sweeper
        typed = [f"{name}={values}" for name, values in (settings.params or {}).items()]
        with mistakes_explained(self.typed):
            parser = OverridesParser.create(config_loader=self.loader)
            parsed = parser.parse_overrides([*typed, *self.composed.hydra.overrides.task])
            batches = BasicSweeper.split_arguments(parsed, settings.max_batch_size)
        return [overrides for batch in batches for overrides in batch]


def jobs_of(flags: Sequence[str], overrides: Sequence[str]) -> Jobs | None:
    """Return the runs of a command; None for a search, whose runs depend on earlier results.

    Nothing is written.

    Raises:
        UserError: The configuration cannot be composed.
    """
    composed, loader = compose(flags, overrides)
    is_search = "BasicSweeper" not in str(composed.hydra.sweeper._target_)
    if composed.hydra.mode == RunMode.MULTIRUN and is_search:
        return None
    return Jobs(overrides, composed, loader)
