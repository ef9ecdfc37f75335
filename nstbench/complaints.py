"""What pydantic says of a configuration, as one message with the nearest valid names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from pydantic import ValidationError

from nstbench.config import Config
from nstbench.errors import UserError, did_you_mean


@dataclass(frozen=True)
class _Problem:
    path: str
    value: object
    reason: str
    hint: str = ""


def user_error(error: ValidationError, given: object, prefix: str = "") -> UserError:
    """Return the `UserError` for the complaint that matters most.

    Args:
        error: pydantic's.
        given: what was validated, to quote the value from.
        prefix: the dotted path of ``given`` in the configuration.
    """
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
