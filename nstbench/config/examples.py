"""Example values for messages about settings, each checked against the schema before it is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path as FilePath
from typing import Any

import yaml
from omegaconf import OmegaConf
from pydantic import TypeAdapter, ValidationError

from nstbench.config.files import conf_dir
from nstbench.errors import as_typed

Path = Sequence[str | int]

# Texts that users choose freely: the example is the typed value in quotes.
_FREE_TEXTS = frozenset({"study", "output", "panel"})
_USUAL = frozenset({"200", "0.5"})
_LISTS = ("[0.5]", "[1]", "[relu4_1]", "[{size: 256, steps: 100, precision: fp32}]")


def accepted_examples(
    name: str, path: Path, given: object, examples: Sequence[str], schema: Any, file: str
) -> list[tuple[str, str]]:
    """Return settings with values to type that the schema accepts.

    The default in ``conf/`` comes first where the examples are arbitrary numbers or strings.

    Args:
        name: Setting whose value was refused.
        path: Keys and indices of its value in ``given``.
        given: Configuration that was refused.
        examples: Candidates, as typed.
        schema: Dataclass that describes ``given``; None: unknown, and all examples are returned.
        file: Name of the configuration file with the setting's default: ``config`` or ``train``.

    Returns:
        Pairs of a setting and an example. The setting is the whole list if an item of it was refused.
    """
    if schema is None:
        return [(name, example) for example in examples]
    parent = _value_at(given, path[:-1]) if path else None
    # An item of a list is not typed by itself, but a setting of a stage of a schedule is.
    if isinstance(parent, list) and not any(isinstance(item, Mapping) for item in parent):
        name, path, examples = name.rpartition(".")[0], path[:-1], ["[]"]
    candidates = _candidates(name, examples, _default_value(name, file))
    found = [e for e in candidates if _is_accepted(given, path, e, schema)]
    return [(name, example) for example in found[: max(1, len(examples))]]


def _candidates(name: str, examples: Sequence[str], default: object) -> list[str]:
    is_list = not examples or any(example.startswith("[") for example in examples)
    is_text = name not in _FREE_TEXTS and any(example.startswith('"') for example in examples)
    candidates = [e for e in examples if e != "[]"] + [*(_LISTS if is_list else ())]
    if default is not None and (is_list or is_text or _USUAL & set(examples)):
        candidates = [e for e in candidates if e not in _USUAL and not (is_text and e[0] in '["')]
        candidates.insert(0, as_typed(default))
    return list(dict.fromkeys(candidates))


def _is_accepted(given: object, path: Path, example: str, schema: Any) -> bool:
    """Return whether a schema accepts an example at a path, whatever else it refuses."""
    try:
        value = yaml.safe_load(example)
    except yaml.YAMLError:  # text with quotes in it
        return False
    changed: Any = deepcopy(given)
    node = _value_at(changed, path[:-1])
    if not path or not isinstance(node, dict | list):
        return False
    node[path[-1]] = value  # type: ignore[index]
    try:
        TypeAdapter(schema).validate_json(json.dumps(changed, default=str))
    except ValidationError as error:
        keys = [str(part) for part in path]
        return not any([str(part) for part in c["loc"]][: len(keys)] == keys for c in error.errors())
    return True


def _value_at(node: Any, path: Path) -> Any:
    for part in path:
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return None
    return node


def _default_value(name: str, file: str) -> object:
    """Return the value that a setting has in conf/ by default; None if there is none, or a reference."""
    folder = conf_dir()
    top = _load_yaml(folder / f"{file}.yaml")
    chosen = {k: v for entry in top.get("defaults", []) if isinstance(entry, dict) for k, v in entry.items()}
    parts = name.split(".")
    value = _value_at(top, parts)
    option = chosen.get(parts[0])
    while value is None and isinstance(option, str):
        loaded = _load_yaml(folder / parts[0] / f"{option}.yaml")
        value = _value_at(loaded, parts[1:])
        option = next(iter(loaded.get("defaults", [])), None)  # the option that this one starts from
    plain = value is not None and not isinstance(value, Mapping) and not set("$?") & set(str(value))
    return value if plain and value != [] else None


@lru_cache(maxsize=32)
def _load_yaml(file: FilePath) -> dict[str, Any]:
    loaded = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    return {str(k): v for k, v in loaded.items()} if isinstance(loaded, dict) else {}
