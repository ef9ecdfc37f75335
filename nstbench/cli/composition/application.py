"""Hydra for one command: the configuration is composed once, and a sweep's launcher can be followed."""

from __future__ import annotations

import copy
import warnings
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig

from nstbench.cli.composition.program import Program
from nstbench.config.files import conf_dir

if TYPE_CHECKING:
    from nstbench.sweeps.sweep import Sweep


# Configurations of runs that are kept between the check of a sweep and its launch: 0.2 MB each.
_MOST_KEPT = 256


class Loader(ConfigLoaderImpl):
    """Hydra's loader of configurations, which composes each only once.

    Hydra composes each run of a sweep twice: to check all of them before the first is launched, and to
    launch it. The configuration that was composed for the check is returned at the launch.
    """

    def __init__(self, given: Namespace) -> None:
        path = create_automatic_config_search_path(None, None, given.config_path or str(conf_dir()))
        if given.config_dir:
            folder = Path(given.config_dir).absolute()
            path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
        super().__init__(config_search_path=path)
        self._kept: dict[object, DictConfig] = {}

    def keep(self, config: DictConfig, name: str | None, overrides: Sequence[str], mode: RunMode) -> None:
        """Keep a configuration, to return it once for the same name, overrides and mode."""
        self._kept[name, tuple(overrides), mode] = config

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """Return the composed configuration."""
        kept = self._kept.pop((config_name, tuple(overrides), run_mode), None)
        if kept is not None:
            return kept
        return super().load_configuration(
            config_name, overrides, run_mode, from_shell, validate_sweep_overrides
        )

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Return the composed configuration of a run."""
        name = master_config.hydra.job.config_name
        overrides = [*master_config.hydra.overrides.hydra, *sweep_overrides]
        is_kept = (name, tuple(overrides), RunMode.RUN) in self._kept
        config = super().load_sweep_config(master_config, sweep_overrides)
        if not is_kept and len(self._kept) < _MOST_KEPT:
            self.keep(copy.deepcopy(config), name, overrides, RunMode.RUN)
        return config

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without kept configurations: the workers of a sweep compose their own."""
        return {**self.__dict__, "_kept": {}}


class Application(Hydra):
    """Hydra's part of one command.

    Args:
        program: Command that was typed.
        given: Flags that were typed, parsed.
        sweep: Sweep that follows the runs, where there are several; None: nothing follows them.
    """

    def __init__(self, program: Program, given: Namespace, sweep: Sweep | None = None) -> None:
        version.setbase("1.3")
        self.loader = Loader(given)
        super().__init__(task_name=program.command.split()[-1], config_loader=self.loader)
        self.name: str = given.config_name or program.config
        self.given, self.sweep = given, sweep

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Return the configuration, in which ``hydra.mode`` says whether it is that of a sweep.

        Raises:
            Exception: The configuration cannot be composed; it is Hydra's own error.
        """
        multirun: bool = self.given.multirun
        typed = list(overrides)
        try:
            config = self.loader.load_configuration(
                self.name, typed, RunMode.MULTIRUN, validate_sweep_overrides=False
            )
        except Exception:  # it has another reason where it is composed in the mode that was typed
            mode = RunMode.MULTIRUN if multirun else RunMode.RUN
            return self.loader.load_configuration(self.name, [*typed, _typed(mode)], mode)
        mode = config.hydra.mode
        if mode is None or (multirun and mode == RunMode.RUN):
            if mode is not None:
                said = "Running Hydra app with --multirun, overriding with `hydra.mode=MULTIRUN`."
                warnings.warn(f"\n\t{said}", UserWarning, stacklevel=2)
            mode = RunMode.MULTIRUN if multirun else RunMode.RUN
            config.hydra.mode = mode
            config.hydra.overrides.hydra.append(_typed(mode))
        ConfigLoaderImpl.validate_sweep_overrides_legal(
            OverridesParser.create().parse_overrides(typed), mode, from_shell=True
        )
        if mode == RunMode.RUN and "???" in config.hydra.runtime.choices.values():
            # A sweep may leave open what its runs choose; a single run may not, and Hydra says so.
            return self.loader.load_configuration(self.name, typed, mode)
        return config

    def start(self, task: TaskFunction, overrides: Sequence[str], config: DictConfig) -> None:
        """Call ``task`` with the configuration, or with that of each run of the sweep.

        Args:
            task: Function that runs one configuration.
            overrides: Overrides that were typed.
            config: Configuration that `compose` returned for them.
        """
        mode: RunMode = config.hydra.mode
        self.loader.keep(config, self.name, overrides, mode)
        if mode == RunMode.RUN:
            self.run(self.name, task, list(overrides))
        else:
            self.multirun(self.name, task, list(overrides))

    def multirun(
        self,
        config_name: str | None,
        task_function: TaskFunction,
        overrides: list[str],
        with_log_configuration: bool = True,
    ) -> Any:
        """Run a sweep, as Hydra does; `sweep` follows what the sweeper launches."""
        config = self.compose_config(config_name, overrides, RunMode.MULTIRUN, with_log_configuration)
        callbacks = Callbacks(config)
        callbacks.on_multirun_start(config=config, config_name=config_name)
        context = HydraContext(config_loader=self.config_loader, callbacks=callbacks)
        sweeper = Plugins.instance().instantiate_sweeper(
            config=config, hydra_context=context, task_function=task_function
        )
        if self.sweep is not None:
            self.sweep.follow(sweeper, config)
        returned = sweeper.sweep(arguments=list(config.hydra.overrides.task))
        callbacks.on_multirun_end(config=config, config_name=config_name)
        return returned


def _typed(mode: RunMode) -> str:
    return f"hydra.mode={mode.name}"
