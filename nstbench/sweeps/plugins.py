"""Registration of nstbench's launchers and search with Hydra."""

from __future__ import annotations

from importlib import import_module
from inspect import getmembers, isclass
from pkgutil import iter_modules

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper

import hydra_plugins.nstbench_launchers as ours


def register_launchers() -> None:
    """Register nstbench's launchers and search: Hydra does not find them in an editable install."""
    for info in iter_modules(ours.__path__):
        module = import_module(f"{ours.__name__}.{info.name}")
        for _, found in getmembers(module, isclass):
            if issubclass(found, Launcher | Sweeper) and found.__module__ == module.__name__:
                Plugins.instance().register(found)
    _remove_plugin_option()


def _remove_plugin_option() -> None:
    """Remove hydra-optuna-sweeper's own ``hydra/sweeper=optuna``: Hydra refuses two options of one name."""
    node = ConfigStore.instance().repo
    for part in ("hydra", "sweeper"):
        node = node.get(part, {})
    node.pop("optuna.yaml", None)
