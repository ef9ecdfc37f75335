"""Checks of the settings from which Hydra itself builds objects or reads files, before it does.

Hydra builds its launcher, sweeper, callbacks and logging before it gives nstbench the configuration.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nstbench.config.instantiate import check_class_paths, refuse_class_paths
from nstbench.config.kinds import locate
from nstbench.errors import UserError

# Settings of Hydra that only nstbench itself sets, and from which nothing is built.
_OURS = frozenset({"hydra.mode"})
# Classes that Python's logging may build, by section of hydra.job_logging.
_LOGGING = {
    "formatters": "logging.Formatter",
    "handlers": "logging.Handler",
    "filters": "logging.Filter",
}


def refuse_reruns(given: Namespace) -> None:
    """Refuse a flag of Hydra's that reads a pickle.

    Args:
        given: Parsed flags.

    Raises:
        UserError: The flag was typed.
    """
    if given.experimental_rerun is not None:
        reason = "it reads a pickle, which can run any code"
        hint = "Type the command again instead: it continues where it stopped."
        raise UserError("--experimental-rerun", given.experimental_rerun, reason, hint)


def can_build_anything(given: Namespace, overrides: Sequence[str]) -> bool:
    """Return whether Hydra's own settings come from elsewhere than ``conf/`` and must be checked.

    Args:
        given: Flags that were typed, parsed.
        overrides: Overrides that were typed.
    """
    elsewhere = given.config_dir or given.config_path or given.config_name or "NSTBENCH_CONF" in os.environ
    keys = {override.lstrip("+~").partition("=")[0].partition("@")[0] for override in overrides}
    return bool(elsewhere) or any(key.startswith("hydra") and key not in _OURS for key in keys)


def check_hydra_settings(hydra: DictConfig) -> None:
    """Check Hydra's own settings in a composed configuration.

    Args:
        hydra: Node ``hydra`` of the configuration.

    Raises:
        UserError: A class that Hydra would build is of the wrong kind.
    """
    _check({str(key): _resolve(hydra, str(key)) for key in hydra})


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
