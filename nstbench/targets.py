"""Checking nodes with a ``_target_`` against the class or function that they name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, get_type_hints

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from nstbench.building import build
from nstbench.complaints import user_error
from nstbench.config import Node, whole
from nstbench.errors import UserError, as_typed, did_you_mean

# Keys of a term that are not its loss's own: see `nstbench.config.TermSettings`.
TERM_KEYS = frozenset({"layers", "layer_weights", "weight"})


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
        choose = f"Select the option that defines it, {group.replace('.', '/')}={name}, or remove it."
        raise UserError(path, dict(node), "it has no _target_, so its option is not selected", choose)
    made = _locate(path, str(target))
    known = parameters_of(str(target))
    hints = _hints(made)
    for key, value in node.items():
        if key in skip or (key.startswith("_") and key.endswith("_")):
            continue
        if known is not None and key not in known:
            offered = [name for name in known if name not in skip] + sorted(skip & TERM_KEYS)
            hint = did_you_mean(key, offered, what="its settings")
            raise UserError(f"{path}.{key}", value, "there is no such setting", hint)
        _check_type(f"{path}.{key}", value, hints.get(key, Any))
    for name, p in _signature(made).items():
        required = p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        if required and name not in node and name not in skip:
            raise UserError(f"{path}.{name}", "", "it has no value", f"Give it one: {path}.{name}=…")


def parameters_of(target: str) -> list[str] | None:
    """Return the names of the arguments of a ``_target_``; None if it takes any."""
    parameters = _signature(_locate("", target))
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return None
    return list(parameters)


def _signature(made: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(made).parameters
    except ValueError:  # a built-in that does not tell
        return {"any": inspect.Parameter("any", inspect.Parameter.VAR_KEYWORD)}


def _locate(path: str, target: str) -> Any:
    """Return the class or function that ``target`` names; `UserError` where there is none."""
    setting = f"{path}._target_".lstrip(".")
    module, _, name = target.rpartition(".")
    if not all(part.isidentifier() for part in target.split(".")) or not module:
        reason = "it is not the full name of a class"
        raise UserError(setting, target, reason, "Type one such as torch.optim.Adam.")
    try:
        inside = import_module(module)
    except Exception as error:  # the module may be the user's own, and raise anything
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is None or not f"{module}.".startswith(f"{missing}."):
            reason = f"importing it failed ({type(error).__name__}: {_one_line(error)})"
            raise UserError(setting, target, reason, "Correct that module.") from error
        parent, _, last = missing.rpartition(".")
        hint = did_you_mean(last, _modules_in(parent), what="modules") if parent else ""
        hint = hint or "Is its package installed?"
        raise UserError(setting, target, f"there is no module {missing}", hint) from error
    made = getattr(inside, name, None)
    if not callable(made):
        classes = [n for n, value in vars(inside).items() if inspect.isclass(value) and n[0] != "_"]
        hint = did_you_mean(name, classes, what=f"classes of {module}")
        raise UserError(setting, target, f"{module} has no such class or function", hint)
    return made


def _modules_in(package: str) -> list[str]:
    try:
        return [m.name for m in iter_modules(import_module(package).__path__)]
    except (ImportError, AttributeError):
        return []


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


def try_to_build(path: str, node: Node) -> None:
    """Build a node once, for what only its class can tell: that a learning rate is not negative.

    Raises:
        UserError: naming the argument without which it can be built.
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
        reason = _one_line(error) or type(error).__name__
        for key in (k for k in node if not k.startswith("_")):
            try:
                attempt({k: v for k, v in node.items() if k != key})
            except Exception:
                continue  # it is not this key's fault, or not its alone
            parameter = _signature(_locate(path, str(node["_target_"]))).get(key)
            hint = f"Its default is {as_typed(parameter.default)}." if parameter else "Change or remove it."
            raise UserError(f"{path}.{key}", node[key], reason, hint) from error
        raise UserError(path, node, reason, "Change one of these values.") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
