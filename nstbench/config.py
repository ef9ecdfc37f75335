"""The typed schema of everything in conf/, and its validation.

The composed YAML is checked as a whole against these dataclasses before any work is done: Hydra
alone accepts ``steps=abc`` and misspelt keys inside files without a word. What a group builds by
``_target_`` (a loss, an encoder, an optimiser) is checked against the signature of that class, so
that a new loss needs no entry here.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import field as dataclass_field
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PydanticSchemaGenerationError,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from nstbench.errors import UserError, did_you_mean

_STRICT = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)


def _whole(value: object) -> object:
    """Take 1e3 for 1000: YAML and Hydra read it as a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
Positive = Annotated[Whole, Field(gt=0)]
Count = Annotated[Whole, Field(ge=0)]
Node = dict[str, Any]
"""A node with a ``_target_``: checked by `check_target`."""


@dataclass(config=_STRICT)
class Pictures:
    """The inputs.

    Attributes:
        content: a path, ``sample:<name>`` or ``procedural:<name>``.
        style: the same, or a list of them, blended.
        style_weights: one per style picture; equal when null. They are divided by their sum.
        size_is: what ``size`` measures: the longer edge, the shorter edge, or the root of the area.
        style_fit: ``own``: the style picture is measured like the content; ``content``: it is
            stretched to the canvas's shape (Gatys et al. 2016).
        style_scale: multiplies the style picture's size.
        background: sRGB colour in [0, 1] that shows through transparent pixels.
        max_pixels: larger files are refused before they are decoded.
    """

    content: str | None
    style: str | list[str] | None
    style_weights: list[float] | None
    size_is: Literal["long_edge", "short_edge", "area"]
    style_fit: Literal["own", "content"]
    style_scale: Annotated[float, Field(gt=0, le=16)]
    background: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=3, max_length=3)]
    max_pixels: Positive

    @property
    def styles(self) -> list[str]:
        """The style pictures as a list."""
        return self.style if isinstance(self.style, list) else [self.style] if self.style else []


@dataclass(config=_STRICT)
class Layers:
    """Layer names by role. ``default`` is what the encoder suggests."""

    content: list[str] | Literal["default"]
    style: list[str] | Literal["default"]


@dataclass(config=_STRICT)
class Losses:
    """The terms of the objective by role, each a node with a ``_target_``, named by its key."""

    content: dict[str, Node]
    style: dict[str, Node]
    regularizer: dict[str, Node]

    def terms(self) -> Iterator[tuple[str, str, Node]]:
        """Yield (role, name, node) of every term."""
        for role in ("content", "style", "regularizer"):
            for name, node in getattr(self, role).items():
                yield role, name, node


@dataclass(config=_STRICT)
class Weights:
    """What each role weighs, and in which unit (`nstbench.losses.units`)."""

    unit: Literal["paper", "unit", "gradient"]
    content: Annotated[float, Field(ge=0)]
    style: Annotated[float, Field(ge=0)]
    regularizer: Annotated[float, Field(ge=0)]


@dataclass(config=_STRICT)
class NoiseSettings:
    """A distribution of pixel values in sRGB [0, 1]: see `nstbench.modules.canvas.Noise`."""

    distribution: Literal["normal", "uniform"]
    mean: Annotated[list[float], Field(min_length=3, max_length=3)]
    std: Annotated[float, Field(ge=0)]


@dataclass(config=_STRICT)
class Canvas:
    """What is optimised, and what it starts as.

    Attributes:
        parametrization: a node with the ``_target_`` of a `nstbench.modules.canvas.Canvas`.
        start: ``content``, ``style``, ``noise``, or the path (or ``sample:…``) of a picture.
        noise: a named distribution (`nstbench.modules.canvas.NOISES`) or one spelt out.
    """

    parametrization: Node
    start: str
    noise: str | NoiseSettings


@dataclass(config=_STRICT)
class Stage:
    """A stretch of optimisation at one size and precision."""

    size: Positive
    steps: Positive
    precision: Literal["fp32", "bf16"]


@dataclass(config=_STRICT)
class Schedule:
    """The stages, in order; the canvas is carried from one to the next."""

    precision: Literal["fp32", "bf16"]
    stages: Annotated[list[Stage], Field(min_length=1)]


@dataclass(config=_STRICT)
class TrainerSettings:
    """Where a run computes.

    Attributes:
        accelerator: ``auto`` takes a GPU where there is one.
        threads: CPU threads of a run; null: PyTorch's choice.
        deterministic: refuse GPU algorithms that differ from run to run. The CPU never does.
    """

    accelerator: Literal["auto", "cpu", "cuda", "mps"]
    threads: Positive | None
    deterministic: bool


@dataclass(config=_STRICT)
class Record:
    """What is written during a run; none of it changes the picture.

    Attributes:
        curves_every: evaluations between rows of curves.csv and points in dashboards.
        snapshot_every: steps between snapshots of the canvas; 0: none.
        animation: also write the snapshots as ``canvas.gif``.
        checkpoint_every: steps between checkpoints; 0: none.
        progress: show a bar.
    """

    curves_every: Positive
    snapshot_every: Count
    animation: Literal["none", "gif"]
    checkpoint_every: Count
    progress: bool


@dataclass(config=_STRICT)
class Config:
    """One run, complete."""

    study: str
    output: str
    seed: Count
    size: Positive
    steps: Positive
    pictures: Pictures
    encoder: Node
    layers: Layers
    loss: Losses
    weights: Weights
    canvas: Canvas
    optimizer: Node
    schedule: Schedule
    metrics: dict[str, Node]
    logger: dict[str, Node]
    trainer: TrainerSettings
    record: Record
    plain: dict[str, Any] = dataclass_field(default_factory=dict)
    """The same as a plain dict, resolved: what records and fingerprints hold."""


@plain_dataclass(frozen=True)
class _Problem:
    path: str
    value: object
    reason: str
    hint: str = ""


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
        raise _user_error(error, plain) from error
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


@dataclass(config=_STRICT)
class TermSettings:
    """The keys of a term that are not its loss's own.

    Attributes:
        layers: names, or ``default`` for what the encoder suggests for the role.
        layer_weights: ``mean`` (1/L each), ``sum`` (1 each) or one number per layer.
        weight: of the term within its role.
    """

    layers: list[str] | Literal["default"] = "default"
    layer_weights: list[float] | Literal["mean", "sum"] = "mean"
    weight: Annotated[float, Field(ge=0)] = 1.0


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
        raise _user_error(error, own, prefix=path) from error
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
        adapter.validate_python(_whole(value) if hint is int else value, strict=not isinstance(value, list))
    except ValidationError as error:
        raise _user_error(error, value, prefix=path) from error


def _user_error(error: ValidationError, given: object, prefix: str = "") -> UserError:
    problem = _problem(error, given)
    path = ".".join(p for p in (prefix, problem.path) if p)
    return UserError(path, problem.value, problem.reason, problem.hint)


def _problem(error: ValidationError, given: object) -> _Problem:
    """Turn pydantic's first complaint into ours."""
    # In a union every branch complains: the deepest location is the one the user meant.
    first = max(error.errors(), key=lambda e: (e["type"] in _UNKNOWN, len(e["loc"]), "literal" in e["type"]))
    loc = [p for p in first["loc"] if isinstance(p, str | int)]
    path, value = _follow(given, loc)
    name = ".".join(str(p) for p in path)
    if first["type"] in _UNKNOWN:
        key = str(loc[-1])
        hint = did_you_mean(key, _fields_at(path[:-1]), what="settings")
        return _Problem(name, value, "there is no such setting", hint)
    if first["type"] == "missing":
        return _Problem(
            ".".join(str(p) for p in loc), "", "it has no value", "Give it one, or restore its file."
        )
    if first["type"] == "literal_error":
        known = [p.strip(" '") for p in str(first["ctx"]["expected"]).replace(" or ", ", ").split(",")]
        return _Problem(name, value, f"it must be one of {', '.join(known)}", _close(value, known))
    return _Problem(name, value, _reason(first["type"], first["msg"]), _example(first["type"]))


_UNKNOWN = {"extra_forbidden", "unexpected_keyword_argument"}
_TYPES = {
    "int_type": "it must be a whole number",
    "int_from_float": "it must be a whole number",
    "int_parsing": "it must be a whole number",
    "float_type": "it must be a number",
    "float_parsing": "it must be a number",
    "bool_type": "it must be true or false",
    "bool_parsing": "it must be true or false",
    "string_type": "it must be a text",
    "list_type": "it must be a list",
    "dict_type": "it must be a mapping of settings",
}
_EXAMPLES = {"int": "Type a number such as 200.", "flo": "Type a number such as 0.5.", "lis": "Type [a,b]."}


def _reason(kind: str, message: str) -> str:
    return _TYPES.get(kind, message.replace("Input should", "it must").rstrip("."))


def _example(kind: str) -> str:
    return _EXAMPLES.get(kind[:3], "") if kind in _TYPES else ""


def _close(value: object, known: list[str]) -> str:
    hint = did_you_mean(str(value), known)
    return hint if hint.startswith("Did") else ""


def _follow(given: object, loc: list[str | int]) -> tuple[list[str | int], object]:
    """Walk along ``loc`` as far as it leads; pydantic adds the names of union branches to it."""
    path: list[str | int] = []
    for part in loc:
        if (isinstance(given, Mapping) and part in given) or (
            isinstance(given, list) and isinstance(part, int) and part < len(given)
        ):
            given = given[part]
        else:
            continue
        path.append(part)
    return path, given


def _fields_at(path: list[str | int]) -> list[str]:
    """Return the settings of the section at ``path`` of the schema."""
    section: Any = Config
    for part in path:
        if isinstance(part, int):
            continue
        hint = get_type_hints(section)[part] if is_dataclass(section) else None
        section = next((c for c in _dataclasses_in(hint)), None)
    return [f.name for f in fields(section) if f.name != "plain"] if section else []


def _dataclasses_in(hint: Any) -> Iterator[Any]:
    if is_dataclass(hint):
        yield hint
    for part in get_args(hint):
        yield from _dataclasses_in(part)


def settings(section: Any = Config, prefix: str = "") -> list[str]:
    """Return the dotted names of all typed settings, for suggestions and help."""
    names = []
    for f in fields(section):
        if f.name == "plain":
            continue
        name = f"{prefix}{f.name}"
        names.append(name)
        hint = get_type_hints(section)[f.name]
        if is_dataclass(hint):
            names.extend(settings(hint, f"{name}."))
    return names


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
