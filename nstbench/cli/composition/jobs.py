"""Which runs a command would make, without making them."""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from nstbench.cli.composition.compose import compose, mistakes_explained

Job = tuple[list[str], DictConfig]
"""The overrides and the configuration of a run."""


def jobs_of(flags: Sequence[str], overrides: Sequence[str]) -> list[Job] | None:
    """Return the runs of a command, or of a sweep; None of a search, where they depend on each other.

    Nothing is written.

    Raises:
        UserError: it cannot be composed.
    """
    composed, loader = compose(flags, overrides)
    if composed.hydra.mode == RunMode.RUN:
        return [(list(overrides), _without_hydra(composed))]
    if "BasicSweeper" not in str(composed.hydra.sweeper._target_):
        return None
    settings = composed.hydra.sweeper
    swept = [*(f"{name}={values}" for name, values in (settings.params or {}).items())]
    swept += composed.hydra.overrides.task
    with mistakes_explained(overrides):
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(swept)
        batches = BasicSweeper.split_arguments(parsed, settings.max_batch_size)
        return [
            (typed, _without_hydra(loader.load_sweep_config(composed, list(typed))))
            for batch in batches
            for typed in batch
        ]


def _without_hydra(composed: DictConfig) -> DictConfig:
    with open_dict(composed):
        del composed["hydra"]
    return composed
