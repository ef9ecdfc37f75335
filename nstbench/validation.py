"""Checking a composed configuration as a whole, before any work is done.

Hydra alone accepts ``steps=abc``, and misspelt keys inside files, without a word.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from nstbench.complaints import user_error
from nstbench.config import Config, Node, TermSettings, whole
from nstbench.errors import UserError, did_you_mean


def validate(composed: DictConfig | Mapping[str, Any]) -> Config:
    """Return the typed configuration, or raise `UserError` for the first thing wrong with it.

    Checked: missing values, unresolvable interpolations, unknown keys, types and ranges, every
    ``_target_`` and its arguments. Layer names are checked later, by the encoder.
    """
    plain = _plain(composed)
    try:
        # From JSON, because only there does pydantic's strict mode take a mapping for a dataclass.
        config = TypeAdapter(Config).validate_json(json.dumps(plain, default=str))
    except ValidationError as error:
        raise user_error(error, plain) from error
    config.plain = plain
    for path, node, skip in _targets(config):
        check_target(path, node, skip)
    _check_together(config)
    return config


def _plain(composed: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(composed, DictConfig):
        return dict(composed)
    try:
        plain = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "config"
        raise UserError(
            str(key), "${…}", str(error).splitlines()[0], "Name a setting that exists."
        ) from error
    for key in sorted(OmegaConf.missing_keys(composed)):
        raise UserError(key, "???", "it has no value", f"Give it one: {key}=…")
    assert isinstance(plain, dict)
    return {str(k): v for k, v in plain.items()}


_TERM_KEYS = frozenset({"layers", "layer_weights", "weight"})


def _targets(config: Config) -> Iterator[tuple[str, Node, frozenset[str]]]:
    """Yield every node that is built by ``_target_``, with the keys that are ours, not its."""
    yield "encoder", config.encoder, frozenset({"normalize_activations"})
    yield "optimizer", config.optimizer, frozenset({"params", "_partial_"})
    yield "canvas.parametrization", config.canvas.parametrization, frozenset()
    for role, name, node in config.loss.terms():
        term_settings(node, role, f"loss.{role}.{name}")
        yield f"loss.{role}.{name}", node, _TERM_KEYS
    for group in ("metrics", "logger"):
        for name, node in getattr(config, group).items():
            yield f"{group}.{name}", node, frozenset({"run"})


def term_settings(node: Node, role: str, path: str) -> TermSettings:
    """Return the settings of a term's node, checked."""
    own = {k: v for k, v in node.items() if k in _TERM_KEYS}
    if role == "regularizer" and "layers" in own:
        raise UserError(
            f"{path}.layers", own["layers"], "a regulariser looks at the canvas itself", "Remove it."
        )
    try:
        settings = TypeAdapter(TermSettings).validate_json(json.dumps(own, default=str))
    except ValidationError as error:
        raise user_error(error, own, prefix=path) from error
    return settings


def check_target(path: str, node: Node, skip: frozenset[str] = frozenset()) -> None:
    """Check that a node's ``_target_`` exists and takes the arguments given.

    Args:
        path: of the node, for messages.
        node: with its ``_target_``.
        skip: keys, or parameters of the target, that are supplied elsewhere.

    Raises:
        UserError: naming the key, with the nearest valid names.
    """
    target = node.get("_target_")
    if target is None:
        group, _, name = path.rpartition(".")
        choose = f"Select the option that defines it ({group.replace('.', '/')}={name}), or remove {path}."
        raise UserError(path, dict(node), "it has no _target_: was its option deselected?", choose)
    made = _locate(path, str(target))
    parameters = inspect.signature(made).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        known = None
    else:
        known = [name for name in parameters if name not in skip]
    hints = _hints(made)
    for key, value in node.items():
        if key in skip or (key.startswith("_") and key.endswith("_")):
            continue
        if known is not None and key not in known:
            hint = did_you_mean(key, [*known, *(skip & _TERM_KEYS)], what="its settings")
            raise UserError(f"{path}.{key}", value, "there is no such setting", hint)
        _check_type(f"{path}.{key}", value, hints.get(key, Any))
    for name, p in parameters.items():
        required = p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        if required and name not in node and name not in skip:
            raise UserError(f"{path}.{name}", "", "it has no value", f"Give it one: {path}.{name}=…")


def _locate(path: str, target: str) -> Any:
    module, _, name = target.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        missing = getattr(error, "name", None)
        known: list[str] = []
        if not isinstance(error, ImportError) and module:
            known = [n for n in dir(import_module(module)) if not n.startswith("_")]
        reason = f"it cannot be imported ({error})" if missing else "there is no such class"
        raise UserError(
            f"{path}._target_", target, reason, did_you_mean(name, known, what="names")
        ) from error


def _hints(made: Any) -> dict[str, Any]:
    function = made.__init__ if inspect.isclass(made) else made
    try:
        return get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}


def _check_type(path: str, value: object, hint: Any) -> None:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticSchemaGenerationError, TypeError, NameError):
        return  # a third party's hint that pydantic cannot read
    try:
        # Lists stand for tuples in YAML, whole floats for integers: strict about all else.
        adapter.validate_python(whole(value) if hint is int else value, strict=not isinstance(value, list))
    except ValidationError as error:
        raise user_error(error, value, prefix=path) from error


def _check_together(config: Config) -> None:
    """Check what no single setting can tell."""
    pictures, start = config.pictures, config.canvas.start
    if not [*config.loss.terms()]:
        raise UserError(
            "loss", "none", "there is no term to minimise", "Select one, such as loss/style=gram."
        )
    if pictures.style_weights is not None and len(pictures.style_weights) != len(pictures.styles):
        n, m = len(pictures.style_weights), len(pictures.styles)
        hint = "Give one weight per style picture."
        raise UserError(
            "pictures.style_weights", pictures.style_weights, f"{n} weights for {m} pictures", hint
        )
    if pictures.style_weights is not None and not sum(pictures.style_weights) > 0:
        raise UserError(
            "pictures.style_weights", pictures.style_weights, "they sum to nothing", "Use positive ones."
        )
    for role, wanted in (("content", pictures.content), ("style", pictures.styles)):
        if not wanted and (getattr(config.loss, role) or start == role):
            used = f"loss/{role} needs it" if getattr(config.loss, role) else f"canvas.start={role} needs it"
            hint = f"Give a path or sample:chelsea, or deselect the term: loss/{role}=none."
            raise UserError(f"pictures.{role}", None, used, hint)
    if not pictures.content and not pictures.styles:
        raise UserError(
            "pictures.content", None, "nothing gives the canvas its shape", "Give a content picture."
        )
    if isinstance(config.canvas.noise, str):
        from nstbench.modules.canvas import NOISES

        if config.canvas.noise not in NOISES:
            hint = did_you_mean(config.canvas.noise, NOISES, what="noises")
            raise UserError("canvas.noise", config.canvas.noise, "there is no such noise", hint)
    if not config.study or Path(config.study).name != config.study or config.study.startswith("."):
        raise UserError(
            "study", config.study, "it must be a plain folder name", "Type a name such as study=first."
        )


def register_resolvers() -> None:
    """Make ``${scaled:${size},0.5}`` available in YAML: a share of a whole number, at least 1."""

    def scaled(whole: Any, share: Any) -> Any:
        if isinstance(whole, int | float) and isinstance(share, int | float):
            return max(1, round(whole * share))
        return whole  # not a number: let the schema say so, about the setting the user typed

    OmegaConf.register_new_resolver("scaled", scaled, replace=True)
