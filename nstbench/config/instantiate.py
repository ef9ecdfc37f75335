"""Checking nodes with a class path (``_target_``) against the class or function that it names."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from nstbench.config.kinds import KINDS, Kind, argument_types, check_kind, kind_at, locate, signature
from nstbench.config.messages import to_user_error
from nstbench.config.schema import Node, to_whole_number
from nstbench.errors import UserError, as_typed, did_you_mean

# Keys of a term's node that are not arguments of its loss: see `nstbench.config.schema.TermSettings`.
TERM_KEYS = frozenset({"layers", "layer_weights", "weight"})


def check_node(path: str, node: Node, skip: frozenset[str] = frozenset()) -> None:
    """Check that a node's class is of the kind for its place, and takes the arguments given.

    Args:
        path: Path of the node in the configuration, such as ``loss.style.gram``.
        node: Node with its class path.
        skip: Keys of the node, or parameters of its class, that are supplied elsewhere.

    Raises:
        UserError: Something is wrong with one of its keys; the message has the nearest valid names.
    """
    _check_node_of_kind(path, node, kind_at(path), skip)


def check_class_paths(path: str, node: Node, kind: Kind | None = None) -> None:
    """Check the class paths of a node and of the nodes inside it, but no other setting.

    Args:
        path: Path of the node in the configuration.
        node: Node with its class path.
        kind: Kind that the place accepts; None: the kind for ``path``.

    Raises:
        UserError: A class is of another kind, or a class path is given where nothing is built.
    """
    kind = kind or kind_at(path)
    check_kind(f"{path}._target_", node.get("_target_"), kind)
    _check_own_keys(path, node, kind)
    for key, value in node.items():
        if key in kind.inside and isinstance(value, dict) and "_target_" in value:
            check_class_paths(f"{path}.{key}", value, KINDS[kind.inside[key]])
        else:
            refuse_class_paths(f"{path}.{key}", value)


def refuse_class_paths(path: str, value: object) -> None:
    """Refuse every class path at or below a place where nothing is built.

    Raises:
        UserError: There is a class path.
    """
    for place, node in _nodes(path, value):
        reason = "nothing is built from a _target_ here"
        raise UserError(f"{place}._target_", node["_target_"], reason, "Give a plain value, or remove it.")


def _nodes(path: str, value: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield path, value
        for key, below in value.items():
            yield from _nodes(f"{path}.{key}", below)
    elif isinstance(value, list | tuple):
        for i, below in enumerate(value):
            yield from _nodes(f"{path}.{i}", below)


def _check_node_of_kind(path: str, node: Node, kind: Kind, skip: frozenset[str]) -> None:
    if node.get("_target_") is None:
        group, _, name = path.rpartition(".")
        choose = f"Select the option that defines it, {group.replace('.', '/')}={name}, or remove it."
        raise UserError(path, dict(node), "it has no _target_, so its option is not selected", choose)
    check_class_paths(path, node, kind)
    made = locate(node["_target_"], f"{path}._target_")
    known = parameters_of(str(node["_target_"]))
    hints = argument_types(made)
    for key, value in node.items():
        if key in skip or key in OWN_KEYS:
            continue
        if known is not None and key not in known:
            offered = [name for name in known if name not in skip] + sorted(skip & (TERM_KEYS | _SUPPLIED))
            hint = did_you_mean(key, offered, what="its settings")
            raise UserError(f"{path}.{key}", value, "there is no such setting", hint)
        _check_type(f"{path}.{key}", value, hints.get(key, Any))
        if key in kind.inside and isinstance(value, dict):
            _check_node_of_kind(f"{path}.{key}", value, KINDS[kind.inside[key]], _SUPPLIED)
    for name, p in signature(made).items():
        required = p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        if required and name not in node and name not in skip:
            raise UserError(f"{path}.{name}", "", "it has no value", f"Give it one: {path}.{name}=…")


# Keys of an encoder's node that `nstbench.encoders.build` uses itself.
_SUPPLIED = frozenset({"normalize_activations"})


def _check_own_keys(path: str, node: Node, kind: Kind) -> None:
    """Check the keys of a node that control how it is built, such as ``_partial_``."""
    if kind.partial and node.get("_partial_") is not True:
        reason = f"the {kind.supplied} of {kind.noun} are known only later"
        raise UserError(f"{path}._partial_", node.get("_partial_"), reason, f"Type {path}._partial_=true.")
    allowed: dict[str, object] = {"_recursive_": False, "_convert_": "all"}
    allowed |= {"_partial_": True} if kind.partial else {"_partial_": False}
    for key, value in node.items():
        if key == "_target_" or not (key.startswith("_") and key.endswith("_")):
            continue
        if key not in allowed:
            reason = "arguments are given by their names here"
            raise UserError(f"{path}.{key}", value, reason, f"Remove it, and type {path}.<argument>=….")
        if value != allowed[key] or type(value) is not type(allowed[key]):
            reason = f"it can only be {as_typed(allowed[key])} here"
            raise UserError(f"{path}.{key}", value, reason, "Remove it.")


def parameters_of(class_path: str) -> list[str] | None:
    """Return the names of the arguments of the class at a class path; None if it takes any."""
    parameters = signature(locate(class_path, "_target_"))
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return None
    return list(parameters)


def _check_type(path: str, value: object, hint: Any) -> None:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticSchemaGenerationError, TypeError, NameError):
        return  # an annotation of another library's that pydantic cannot read
    try:
        # YAML has lists for tuples, and floats such as 1e3 for integers: strict in all other cases.
        value = to_whole_number(value) if hint is int else value
        adapter.validate_python(value, strict=not isinstance(value, list))
    except ValidationError as error:
        raise to_user_error(error, value, prefix=path) from error


def try_to_build(path: str, node: Node) -> None:
    """Build a node once, for what only its class checks, such as a negative learning rate.

    Args:
        path: Path of the node in the configuration.
        node: Node that `check_node` has accepted.

    Raises:
        UserError: The node cannot be built; the message names the argument without which it can.
    """
    from torch import nn

    def attempt(node: Node) -> None:
        made = build(node)
        if path == "optimizer":
            made([nn.Parameter()])

    try:
        attempt(node)
    except UserError:
        raise
    except Exception as error:
        reason = _to_one_line(error) or type(error).__name__
        for key in (k for k in node if k not in OWN_KEYS):
            try:
                attempt({k: v for k, v in node.items() if k != key})
            except Exception:
                continue  # the error is not, or not only, due to this key
            parameter = signature(locate(node["_target_"], f"{path}._target_")).get(key)
            hint = f"Its default is {as_typed(parameter.default)}." if parameter else "Change or remove it."
            raise UserError(f"{path}.{key}", node[key], reason, hint) from error
        raise UserError(path, node, reason, "Change one of these values.") from error


def _to_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


OWN_KEYS = frozenset({"_target_", "_partial_", "_recursive_", "_convert_"})
"""Keys of a node that are not arguments of its class: those of Hydra's ``instantiate``."""


def build(node: Mapping[str, Any], **supplied: Any) -> Any:
    """Return the object that a checked node describes; errors are those of the class itself.

    Hydra's ``instantiate`` finds names in another order, and builds nodes inside nodes; here, only
    what `nstbench.config.kinds` has checked is called.

    Args:
        node: Class path and arguments; with ``_partial_: true``, a ``functools.partial`` is returned.
        supplied: Arguments that no configuration can give.

    Raises:
        TypeError: A function returned something other than its annotation says.
    """
    made = locate(node["_target_"], "_target_")
    arguments = {key: deepcopy(value) for key, value in node.items() if key not in OWN_KEYS}
    if node.get("_partial_"):
        return partial(made, **arguments, **supplied)
    built = made(**arguments, **supplied)
    if inspect.isfunction(made):
        promised = argument_types(made).get("return")
        if inspect.isclass(promised) and not isinstance(built, promised):
            raise TypeError(
                f"{node['_target_']} returned a {type(built).__name__}, not a {promised.__name__}"
            )
    return built
