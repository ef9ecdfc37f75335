"""Settings of runs as flat tables, and those that differ between runs."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from sys import intern
from typing import Any

from nstbench.errors import as_typed
from nstbench.tracking.fingerprint import NOT_IN_FINGERPRINT

Value = str | int | float
"""A setting in a table: a number, or text as it is typed."""

ROLES = ("loss.content", "loss.style", "loss.regularizer")
"""Groups of terms; as a setting, the value of each is the names of its terms, joined by ``+``."""

_PICTURES_AND_SEED = frozenset({"pictures.content", "pictures.style", "seed"})


def flatten(config: Mapping[str, Any]) -> dict[str, Value]:
    """Return a run's settings by dotted name, without pictures, seed, and those not in the fingerprint."""
    found = {
        name: value
        for key, node in config.items()
        if key not in NOT_IN_FINGERPRINT
        for name, value in _leaves(key, node)
        if name not in _PICTURES_AND_SEED and not name.startswith("pictures.cast")
    }
    for role in ROLES:
        found[role] = terms(config, role)
    return found


def terms(config: Mapping[str, Any], role: str) -> str:
    """Return the names of the terms of a role, ``gram+histogram``; ``none`` if it has none."""
    node = config.get("loss", {}).get(role.removeprefix("loss."))
    return "+".join(node) if isinstance(node, Mapping) and node else "none"


def canonical(value: Any) -> Value:
    """Return a value such that equal settings are equal: 1 and 1.0, but not 1 and true."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # as a number, NaN would differ from itself
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, list | Mapping):
        return json.dumps(value) if len(as_typed(value)) > 200 else as_typed(value)
    return as_typed(value)


def short_names(names: Collection[str]) -> dict[str, str]:
    """Return ``optimizer`` for ``optimizer._target_``, unless another setting has that name."""
    short = {name: name.removesuffix("._target_") for name in names}
    return {name: shorter if shorter not in names else name for name, shorter in short.items()}


def short_classes(paths: Iterable[str]) -> dict[str, str]:
    """Return ``LBFGS`` for ``torch.optim.LBFGS``; the whole path of classes with equal names."""
    last = {path: path.rpartition(".")[2] for path in paths}
    names = list(last.values())
    return {path: name if names.count(name) == 1 else path for path, name in last.items()}


def swept(settings: Sequence[Mapping[str, Value]]) -> list[str]:
    """Return the names of the settings that differ between runs, in the order of the configuration.

    A setting that follows from another one does not count: ``optimizer.history_size`` exists with L-BFGS
    and not with Adam, so it follows from ``optimizer._target_``. The last stage's size follows from
    ``size``.
    """
    values: dict[str, set[Value]] = {}
    present: dict[str, int] = {}
    for each in settings:
        for name, value in each.items():
            values.setdefault(name, set()).add(value)
            present[name] = present.get(name, 0) + 1
    return [
        name
        for name in values
        if (len(values[name]) > 1 and not _follows_from_shorthand(name, settings))
        or (present[name] < len(settings) and not _follows_from_its_node(name, values, settings))
    ]


def _follows_from_its_node(
    name: str, known: Mapping[str, set[Value]], settings: Sequence[Mapping[str, Value]]
) -> bool:
    parts = name.split(".")
    nodes = [".".join(parts[:k]) for k in range(1, len(parts))]
    deciders = [n for n in nodes if n in ROLES] + [f"{n}._target_" for n in nodes]
    for decider in (d for d in deciders if d in known and d != name):
        has: dict[Value | None, bool] = {}
        if all(has.setdefault(each.get(decider), name in each) == (name in each) for each in settings):
            return True
    return False


def _follows_from_shorthand(name: str, settings: Sequence[Mapping[str, Value]]) -> bool:
    shorthand = name.rpartition(".")[2]
    if not name.startswith("schedule.stages.") or shorthand not in ("size", "steps"):
        return False
    return all(name in each and each[name] == each.get(shorthand) for each in settings)


def _leaves(name: str, node: Any) -> Iterator[tuple[str, Value]]:
    if isinstance(node, Mapping):
        for key, below in node.items():
            yield from _leaves(f"{name}.{key}", below)
    elif isinstance(node, list) and node and all(isinstance(each, Mapping) for each in node):
        for place, below in enumerate(node):  # the stages of a schedule
            yield from _leaves(f"{name}.{place}", below)
    else:
        yield intern(name), canonical(node)
