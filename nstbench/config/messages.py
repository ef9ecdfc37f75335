"""Pydantic's validation errors as one message with the nearest valid names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from nstbench.config.examples import accepted_examples
from nstbench.config.files import groups
from nstbench.config.schema import Config
from nstbench.errors import UserError, as_typed, did_you_mean, nearest

NO_SUCH_SETTING = "there is no such setting"
NO_SUCH_LAYER = "the encoder has no such layer"

_UNKNOWN = {"extra_forbidden", "unexpected_keyword_argument"}
# What a value must be, and an example, by the start of the type of pydantic's validation error.
_KINDS = {
    "int": ("a whole number", "200"),
    "float": ("a number", "0.5"),
    "finite": ("a finite number", "0.5"),
    "bool": ("true or false", "true"),
    "string": ("a string", '"{}"'),
    "list": ("a list", "[{}]"),
    "tuple": ("a list", "[{}]"),
    "dict": ("a mapping of settings", ""),
    "dataclass": ("a mapping of settings", ""),
    "none": ("null", "null"),
}
# The same for bounds, with pydantic's name of the bound; an example follows from its value.
_BOUNDS = {
    "greater_than": ("gt", "greater than {}"),
    "greater_than_equal": ("ge", "at least {}"),
    "less_than": ("lt", "less than {}"),
    "less_than_equal": ("le", "at most {}"),
    "too_short": ("min_length", "a list of at least {} items"),
    "too_long": ("max_length", "a list of at most {} items"),
    "multiple_of": ("multiple_of", "a multiple of {}"),
}


def to_user_error(
    error: ValidationError,
    given: object,
    prefix: str = "",
    schema: Any = Config,
    command: str = "nstbench run",
) -> UserError:
    """Return the `UserError` for the most important of pydantic's validation errors.

    Args:
        error: Error that pydantic raised.
        given: Validated configuration, from which the message quotes the value.
        prefix: Dotted path of ``given`` in the configuration.
        schema: Dataclass of the configuration, from which settings are suggested.
        command: Command whose ``--help`` lists the settings.
    """
    errors = error.errors()
    unknown = next((c for c in errors if c["type"] in _UNKNOWN), None)
    # A misspelt key explains a missing one. Otherwise the first error: settings that people type come first.
    path, value = _follow(given, (unknown or errors[0])["loc"])
    name = _join_path(prefix, *path)
    if unknown:
        hint = did_you_mean(str(path[-1]), _fields_at(schema, path[:-1]), what="settings")
        return UserError(name, value, NO_SUCH_SETTING, hint)
    # Every branch of a union has an error: the deepest is of the branch that was meant.
    for each in errors:
        deeper, inside = _follow(given, each["loc"])
        if len(deeper) > len(path) and deeper[: len(path)] == path:
            path, value, name = deeper, inside, _join_path(prefix, *deeper)
    here = [c for c in errors if _follow(given, c["loc"])[0] == path]
    if missing := next((c for c in here if c["type"] == "missing"), None):
        name = _join_path(name, missing["loc"][-1])
        return UserError(name, "", "it has no value", f"Give it one: {name}=…")
    if key := next((c for c in here if c["loc"][-1:] == ("[key]",) and "expected" in c.get("ctx", {})), None):
        known = re.findall(r"'([^']*)'", str(key["ctx"]["expected"]))
        return UserError(name, value, NO_SUCH_SETTING, did_you_mean(str(path[-1]), known, what="settings"))
    plain = [c for c in here if c["type"] != "is_instance_of"]  # a tensor cannot be typed
    # Where a number or a mapping is accepted, the number was meant.
    plain = [c for c in plain if c["type"] != "dict_type"] or plain
    wanted, examples = _wanted_and_examples(value, plain or here)
    reason = f"it must be {_join_with_or(wanted)}"
    if "a mapping of settings" in wanted:
        return UserError(name, value, reason, _hint_for_section(name, value))
    checked_by = None if prefix and schema is Config else schema
    file = "train" if command == "nstbench train" else "config"
    shown = [f"{of}={e}" for of, e in accepted_examples(name, path, given, examples, checked_by, file)]
    hint = (
        f"Type {_join_with_or(shown)}, for example." if shown else f"`{command} --help` lists the settings."
    )
    return UserError(name, value, reason, hint)


def _wanted_and_examples(value: object, errors: list[ErrorDetails]) -> tuple[list[str], list[str]]:
    """Return what the branches of a union would accept, in words, and values to type."""
    wanted: list[str] = []
    examples: list[str] = []
    for each in errors:
        kind, context = each["type"], each.get("ctx", {})
        first = kind.partition("_")[0]
        if kind in _BOUNDS:
            name_of_bound, words = _BOUNDS[kind]
            bound = context[name_of_bound]
            wanted.append(words.format(bound))
            usual = "200" if isinstance(bound, int) else "0.5"
            good = {
                "gt": usual,
                "ge": str(bound),
                "lt": str(bound - 1),
                "le": str(bound),
                "multiple_of": str(4 * bound),
            }
            examples.append(good.get(name_of_bound, ""))
        elif kind == "literal_error":
            known = re.findall(r"'([^']*)'", str(context["expected"]))
            wanted += known
            examples += nearest(str(value), known, most=1) or known[:1]
        elif first in _KINDS:
            words, example = _KINDS[first]
            wanted.append(words)
            if first != "string" or not isinstance(value, Mapping | list):  # no text was meant
                examples.append(example.format(as_typed(value)))
        else:
            wanted.append(each["msg"].removeprefix("Input should be "))
    return list(dict.fromkeys(wanted)), [example for example in dict.fromkeys(examples) if example]


def _hint_for_section(name: str, value: object) -> str:
    """Return what to type for a section that was given a single value."""
    group = name.replace(".", "/")
    options = groups().get(group)
    if options is None:
        return f"Give the settings inside it: {name}.…=…"
    if value in options:
        return f"Did you mean {group}={value}?"
    return f"Choose an option with {group}=…, or give a setting inside it with {name}.…=…"


def _join_with_or(words: list[str]) -> str:
    return " or ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def _join_path(*path: str | int) -> str:
    return ".".join(str(part) for part in path if part != "")


def _follow(given: object, loc: Iterable[str | int]) -> tuple[list[str | int], object]:
    """Walk along ``loc`` as far as it leads; pydantic adds the names of union branches to it."""
    path: list[str | int] = []
    for part in loc:
        inside = part in given if isinstance(given, Mapping) else False
        if isinstance(given, list):
            inside = isinstance(part, int) and 0 <= part < len(given)
        if inside:
            given = given[part]  # type: ignore[index]
            path.append(part)
    return path, given


def _fields_at(schema: Any, path: list[str | int]) -> list[str]:
    """Return the settings of the section at ``path`` of the schema."""
    section = schema
    for part in path:
        if isinstance(part, int):
            continue
        hints = get_type_hints(section) if is_dataclass(section) else {}
        if part in hints:  # otherwise a name that the user chose, in a mapping of sections
            section = next((c for c in _dataclasses_in(hints[part])), None)
    return [f.name for f in fields(section) if f.name != "plain"] if section else []


def _dataclasses_in(hint: Any) -> Iterator[Any]:
    if is_dataclass(hint):
        yield hint
    for part in get_args(hint):
        yield from _dataclasses_in(part)
