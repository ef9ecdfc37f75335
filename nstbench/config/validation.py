"""Checking a composed configuration as a whole, before any work is done.

Hydra alone accepts ``steps=abc``, and misspelt keys inside files, without an error.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from nstbench.config.criterion import check_criterion
from nstbench.config.instantiate import TERM_KEYS, check_node, try_to_build
from nstbench.config.messages import to_user_error
from nstbench.config.plain_values import check_finite, plain_mapping
from nstbench.config.schema import NOISES, Config, Node, TermSettings, list_settings
from nstbench.config.stages import resolve_stages
from nstbench.errors import UserError, did_you_mean
from nstbench.pictures.source import check


class Composed(Protocol):
    """Attributes that the schemas of all commands have."""

    output: str
    plain: dict[str, Any]


Schema = TypeVar("Schema", bound=Composed)


def validate(composed: DictConfig | Mapping[str, Any]) -> Config:
    """Return the typed configuration, or raise `UserError` for the first thing wrong with it.

    Checked: missing values, unresolvable interpolations, unknown keys, types and ranges, every
    class path and its arguments. Layer names are checked later, by the encoder.
    """
    config = typed_configuration(composed, Config, "nstbench run")
    _check_files(config)  # quick checks first: checking a class path imports the class, and torch
    for path, node, skip in _nodes_to_build(config):
        check_node(path, node, skip)
    _check_together(config)
    for path, node, skip in _nodes_to_build(config):
        if path.startswith(("optimizer", "canvas", "loss")):  # the others read files or open dashboards
            try_to_build(path, {k: v for k, v in node.items() if k not in skip or k == "_partial_"})
    return config


def typed_configuration(
    composed: DictConfig | Mapping[str, Any], schema: type[Schema], command: str
) -> Schema:
    """Return the composed configuration as the dataclass ``schema``, with ``plain`` filled in."""
    plain = resolve_stages(plain_mapping(_resolve(composed, schema)))
    try:
        # From JSON, because only then does pydantic's strict mode accept a mapping for a dataclass.
        config = TypeAdapter(schema).validate_json(json.dumps(plain))
    except ValidationError as error:
        raise to_user_error(error, plain, schema=schema, command=command) from error
    check_finite(plain)
    config.plain = plain
    _check_home_folder(config.output)
    return config


def _check_home_folder(output: str) -> None:
    try:
        Path(output).expanduser()
    except RuntimeError as error:
        reason = f"there is no user {output[1:].partition('/')[0]} on this machine"
        raise UserError("output", output, reason, "Type output=~/results, or the whole path.") from error


def _resolve(composed: DictConfig | Mapping[str, Any], schema: Any) -> Mapping[Any, Any]:
    if not isinstance(composed, DictConfig):
        return composed
    # OmegaConf.missing_keys resolves references, and stops at the first that cannot be resolved.
    for key in _find_missing(OmegaConf.to_container(composed, resolve=False)):
        raise UserError(key, "???", "it has no value", f"Give it one: {key}=…")
    try:
        plain = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, UserError):  # of a function, such as ${judge_with:…}
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        key = re.sub(r"\[(\d+)\]", r".\1", str(getattr(error, "full_key", None) or "configuration"))
        key, reason = follow_references(composed, key), str(error).splitlines()[0]
        hint = "A reference is written ${size}, and names a setting that exists."
        match = re.fullmatch(r"Interpolation key '(.*)' not found", reason)
        if match and (panel := re.fullmatch(r"panels\.(.*?)\.\w+", match[1])):
            panels = [*composed.panels]
            hint = f"Panels to choose from: {', '.join(map(str, panels))}." if panels else "It has none."
            raise UserError("panel", panel[1], "the study has no such panel", hint) from error
        if match:
            reason = f"there is no setting {match[1]} to refer to"
            hint = did_you_mean(match[1], list_settings(schema))
        raise UserError(key, value_at(composed, key), reason, hint) from error
    assert isinstance(plain, dict)
    return plain


def _find_missing(node: object, path: str = "") -> Iterator[str]:
    if node == "???":
        yield path
    for key, value in node.items() if isinstance(node, dict) else []:
        yield from _find_missing(value, f"{path}.{key}" if path else str(key))


def value_at(composed: DictConfig, path: str) -> object:
    """Return the value at a dotted path, references unresolved; "" where there is none."""
    node: object = OmegaConf.to_container(composed, resolve=False)
    for part in path.split("."):
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            return ""
    return node


def follow_references(composed: DictConfig, path: str) -> str:
    """Return the path that the value at a path is taken from, by references such as ``${size}``."""
    for _ in range(9):  # a reference may lead to another one, or in a circle
        value = value_at(composed, path)
        # A nested reference, such as ${panels.${panel}.picture}, leads to no setting that was typed.
        single = isinstance(value, str) and value.count("${") == 1
        reference = re.search(r"\$\{([\w.]+)\}", str(value)) if single else None
        if reference is None or value_at(composed, reference[1]) == "":
            break
        path = reference[1]
    return path


def _nodes_to_build(config: Config) -> Iterator[tuple[str, Node, frozenset[str]]]:
    """Yield every node with a class path: its path, the node, and its keys that are not arguments."""
    yield "encoder", config.encoder, frozenset({"normalize_activations"})
    yield "optimizer", config.optimizer, frozenset({"params", "_partial_"})
    yield "canvas.parametrization", config.canvas.parametrization, frozenset()
    for role, name, node in config.loss.terms():
        term_settings(node, role, f"loss.{role}.{name}")
        yield f"loss.{role}.{name}", node, TERM_KEYS
    yield "judge", config.judge, frozenset({"normalize_activations"})
    for group in ("metrics", "logger"):
        for name, node in getattr(config, group).items():
            yield f"{group}.{name}", node, frozenset({"run"})


def term_settings(node: Node, role: str, path: str) -> TermSettings:
    """Return the checked settings of a term's node, without the arguments of its loss."""
    own = {k: v for k, v in node.items() if k in TERM_KEYS}
    if role == "regularizer" and "layers" in own:
        raise UserError(
            f"{path}.layers", own["layers"], "a regulariser is computed on the canvas itself", "Remove it."
        )
    try:
        return TypeAdapter(TermSettings).validate_json(json.dumps(own))
    except ValidationError as error:
        raise to_user_error(error, own, prefix=path, schema=TermSettings) from error


def _check_files(config: Config) -> None:
    """Check that the files of all pictures exist, and that paths of weights are not too long."""
    for source in config.pictures.styles:
        check(source, "pictures.style")
    if config.pictures.content:
        check(config.pictures.content, "pictures.content")
    for name, guide in config.pictures.guides.items():
        for whose, mask in (("content", guide.content), ("style", guide.style)):
            if mask:
                check(mask, f"pictures.guides.{name}.{whose}")
    if config.canvas.start not in {"content", "style", "noise"}:
        check(config.canvas.start, "canvas.start")
    for path, node, _ in _nodes_to_build(config):
        for setting, value in ((f"{path}.weights", node.get("weights")), *_weights_inside(path, node)):
            _check_length(setting, value)


def _weights_inside(path: str, node: Node) -> Iterator[tuple[str, object]]:
    for key, inside in node.items():
        if isinstance(inside, dict):
            yield f"{path}.{key}.weights", inside.get("weights")


def _check_length(setting: str, value: object) -> None:
    """Refuse a path that is too long for any file system; whether the file exists is checked later."""
    try:
        os.stat(value if isinstance(value, str) else ".")
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            hint = "Give the path of a file, or a name that `nstbench weights list` shows."
            raise UserError(setting, value, "no file can have a name that long", hint) from error


def _check_together(config: Config) -> None:
    """Check the settings that depend on each other."""
    pictures, start = config.pictures, config.canvas.start
    if not [*config.loss.terms()]:
        raise UserError("loss", "", "there is no term to minimise", "Select one, such as loss/style=gram.")
    if pictures.style_weights is not None and len(pictures.style_weights) != len(pictures.styles):
        n, m = len(pictures.style_weights), len(pictures.styles)
        hint = "Give one weight per style picture."
        raise UserError(
            "pictures.style_weights", pictures.style_weights, f"{n} weights for {m} pictures", hint
        )
    if pictures.style_weights is not None and not sum(pictures.style_weights) > 0:
        raise UserError(
            "pictures.style_weights", pictures.style_weights, "their sum is 0", "Use positive ones."
        )
    for role, wanted in (("content", pictures.content), ("style", pictures.styles)):
        if not wanted and (getattr(config.loss, role) or start == role):
            used = f"loss/{role} needs it" if getattr(config.loss, role) else f"canvas.start={role} needs it"
            hint = f"Give a path or sample:chelsea, or deselect the term: loss/{role}=none."
            raise UserError(f"pictures.{role}", getattr(pictures, role), used, hint)
    if not pictures.content and not pictures.styles:
        raise UserError(
            "pictures.content", None, "no picture gives the canvas its shape", "Give a content picture."
        )
    _check_controls(config)
    if config.record.animation != "none" and not config.record.snapshot_every:
        hint = "Add record.snapshot_every=10."
        raise UserError("record.animation", config.record.animation, "there are no snapshots to join", hint)
    if config.blockwise.tile and config.record.diagnostics_every:
        reason = "they are computed on the whole picture, and this run encodes it in blocks"
        hint = "Remove it, or blockwise.tile."
        raise UserError("record.diagnostics_every", config.record.diagnostics_every, reason, hint)
    if isinstance(config.canvas.noise, str) and config.canvas.noise not in NOISES:
        hint = did_you_mean(config.canvas.noise, NOISES, what="noises")
        raise UserError("canvas.noise", config.canvas.noise, "there is no such noise", hint)
    check_study(config.study, "first")
    check_criterion(config)


def _check_controls(config: Config) -> None:
    """Check guides and colour control against the pictures that they use."""
    pictures, guides = config.pictures, config.pictures.guides
    for name, guide in guides.items():
        setting = f"pictures.guides.{name}"
        if not re.fullmatch(r"[\w-]+", name):
            reason = "this cannot be the name of a region"
            raise UserError(setting, "", reason, "Use letters, digits, - and _, as in pictures.guides.sky.")
        if not config.loss.style:
            reason = "there is no style term for it to guide"
            raise UserError(setting, "", reason, "Select one, such as loss/style=gram, or remove the guide.")
        if guide.picture >= len(pictures.styles):
            hint = f"They are counted from 0: give one up to {len(pictures.styles) - 1}."
            raise UserError(f"{setting}.picture", guide.picture, "there is no such style picture", hint)
    if guides and pictures.style_weights is not None:
        hint = "Remove it: the weight of a region is pictures.guides.<region>.weight."
        reason = "with guides, style pictures are not blended: each region has one of its own"
        raise UserError("pictures.style_weights", pictures.style_weights, reason, hint)
    unused = [s for i, s in enumerate(pictures.styles) if all(g.picture != i for g in guides.values())]
    if guides and unused:
        hint = "Give its index to a region: pictures.guides.<region>.picture, counted from 0."
        raise UserError(
            "pictures.style", unused[0], "no region of pictures.guides takes its style from it", hint
        )
    control = config.colour.control
    if control != "none" and not pictures.content:
        reason = "the colours to keep are the content picture's, and there is none"
        raise UserError("colour", control, reason, "Give pictures.content, or colour=none.")
    if control not in {"none", "luminance"} and not pictures.styles:
        reason = "it changes the style picture's colours, and there is none"
        raise UserError("colour", control, reason, "Give pictures.style, or colour=none.")


def check_study(study: str, example: str) -> None:
    """Raise UserError if the name of a study cannot be that of a folder."""
    if not study.strip() or Path(study).name != study or study.startswith("."):
        hint = f"Type a name such as study={example}."
        raise UserError("study", study, "it must be a plain folder name", hint)
