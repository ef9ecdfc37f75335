"""Functions for YAML files: ``${times:…}`` and ``${judge_with:…}``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nstbench.config.files import conf_dir
from nstbench.downloads.folders import folders_of_weights


def register_resolvers() -> None:
    """Make two functions available in YAML.

    ``${times:a,b}`` is a product. ``${judge_with:trained,file,other}`` is the node of the option ``trained``
    of the group ``judge`` where its file of weights is on this machine and the run does not optimise an
    encoder of its class; else that of ``other``. It is computed when a configuration is resolved, so that
    records name the encoder itself.
    """
    OmegaConf.register_new_resolver("times", _times, replace=True)
    OmegaConf.register_new_resolver("judge_with", _judge_with, replace=True)


def _times(a: Any, b: Any) -> Any:
    if isinstance(a, int | float) and isinstance(b, int | float):
        return a * b
    return a  # not a number: the schema reports it, with the setting that the user typed


def _judge_with(trained: str, file: str, other: str, *, _root_: DictConfig) -> Any:
    """Return the node of an option of the group ``judge``; no file is read but the option's."""
    chosen = _option(trained)
    is_here = any((folder / file).is_file() for folder in folders_of_weights())
    optimised = OmegaConf.select(_root_, "encoder._target_", throw_on_missing=False)
    return chosen if is_here and optimised != chosen._target_ else _option(other)


def _option(name: str) -> Any:
    return OmegaConf.load(Path(conf_dir()) / "judge" / f"{name}.yaml")
