"""Checks of the settings from which Hydra itself builds objects or reads files, before it does.

Hydra builds its launcher, sweeper, callbacks and logging before it gives nstbench the configuration.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_automatic_config_search_path, get_args_parser
from hydra.core.utils import setup_globals
from hydra.types import RunMode
from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nstbench.config.instantiate import check_class_paths, refuse_class_paths
from nstbench.config.kinds import locate
from nstbench.errors import UserError

# Settings of Hydra that nstbench itself sets, and from which nothing is built.
_OURS = frozenset({"hydra.mode", "hydra.sweep.dir"})
# Classes that Python's logging may build, by section of hydra.job_logging.
_LOGGING = {
    "formatters": "logging.Formatter",
    "handlers": "logging.Handler",
    "filters": "logging.Filter",
}


def check_hydra_settings(
    config_name: str, folder: str, flags: Sequence[str], overrides: Sequence[str]
) -> None:
    """Check Hydra's own settings in a command.

    The configuration is composed once more for this, unless all of it comes from ``conf/``.

    Args:
        config_name: Name of the file that the configuration starts from.
        folder: Folder of that file.
        flags: Flags, as typed.
        overrides: Overrides, as typed.

    Raises:
        UserError: A class that Hydra would build is of the wrong kind, or a flag reads a pickle.
        Exception: An error of Hydra's, if the configuration cannot be composed.
    """
    given = get_args_parser().parse_known_args(list(flags))[0]
    if given.experimental_rerun is not None:
        reason = "it reads a pickle, which can run any code"
        hint = "Type the command again instead: it continues where it stopped."
        raise UserError("--experimental-rerun", given.experimental_rerun, reason, hint)
    elsewhere = given.config_dir or given.config_path or given.config_name or "NSTBENCH_CONF" in os.environ
    keys = {override.lstrip("+~").partition("=")[0].partition("@")[0] for override in overrides}
    if not elsewhere and not any(key.startswith("hydra") and key not in _OURS for key in keys):
        return
    setup_globals()
    search_path = create_automatic_config_search_path(None, None, given.config_path or folder)
    if given.config_dir:
        search_path.prepend("command-line", f"file://{os.path.abspath(given.config_dir)}")
    loader = ConfigLoaderImpl(config_search_path=search_path)
    composed = loader.load_configuration(
        given.config_name or config_name, [*overrides], RunMode.MULTIRUN, validate_sweep_overrides=False
    )
    _check({str(key): _resolve(composed.hydra, str(key)) for key in composed.hydra})


def _resolve(hydra: DictConfig, key: str) -> Any:
    """Return one of Hydra's settings, unresolved if it refers to a value that is known only later."""
    try:
        node = hydra[key]
        return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    except OmegaConfBaseException:
        node = hydra._get_node(key)
        return OmegaConf.to_container(node, resolve=False) if isinstance(node, Container) else None


def _check(hydra: Mapping[str, Any]) -> None:
    for key, value in hydra.items():
        if key in {"launcher", "sweeper"} and isinstance(value, dict):
            check_class_paths(f"hydra.{key}", value)
        elif key == "callbacks" and isinstance(value, dict):
            for name, node in value.items():
                if not isinstance(node, dict):
                    hint = "Give it a _target_, or remove it."
                    raise UserError(f"hydra.callbacks.{name}", node, "it must be a mapping of settings", hint)
                check_class_paths(f"hydra.callbacks.{name}", node)
        elif key in {"job_logging", "hydra_logging"}:
            _check_logging(f"hydra.{key}", value)
        else:
            refuse_class_paths(f"hydra.{key}", value)


def _check_logging(path: str, value: object) -> None:
    """Refuse classes that Python's logging would call and that are not handlers, formatters or filters."""
    for section, nodes in value.items() if isinstance(value, dict) else []:
        for name, node in nodes.items() if isinstance(nodes, dict) else []:
            where = f"{path}.{section}.{name}"
            for setting in ("()", "class") if isinstance(node, dict) else []:
                if setting not in node:
                    continue
                base = _LOGGING.get(str(section))
                made = locate(node[setting], f"{where}.{setting}") if base and setting == "class" else None
                if not isinstance(made, type) or not issubclass(made, locate(str(base), where)):
                    reason = f"it is not a subclass of {base}" if base else "nothing is built here"
                    hint = f"Remove it, or give class: a subclass of {base}." if base else "Remove it."
                    raise UserError(f"{where}.{setting}", node[setting], reason, hint)
            _refuse_factories(where, node)


def _refuse_factories(path: str, value: object) -> None:
    """Refuse factories, properties and imported values below the first level of a logging node."""
    if isinstance(value, dict):
        for key, below in value.items():
            if key in {"()", "."}:
                raise UserError(f"{path}.{key}", below, "nothing is built here", "Remove it.")
            _refuse_factories(f"{path}.{key}", below)
    elif isinstance(value, list):
        for i, below in enumerate(value):
            _refuse_factories(f"{path}.{i}", below)
    elif isinstance(value, str) and value.startswith("ext://") and value not in _STREAMS:
        raise UserError(path, value, "it is not a text stream", f"Give one of {', '.join(_STREAMS)}.")


_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
