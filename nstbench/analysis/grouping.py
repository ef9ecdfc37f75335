"""Grouping runs for a comparison, by the values of a setting and of those that change with it."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from nstbench.analysis.records import Study
from nstbench.analysis.settings import ROLES, short_classes, short_names
from nstbench.errors import UserError, as_typed, did_you_mean

PICTURES = ("content", "style")

_ABSENT = "(none)"


@dataclass(frozen=True)
class Groups:
    """The groups of a study's runs in a comparison.

    Attributes:
        by: Compared setting; for a class, its node: ``optimizer``.
        labels: Compared value of each run.
        key: Settings, with pictures and seed, that are equal in paired runs.
        along: Settings that change together with the compared one and are compared with it.
    """

    by: str
    labels: pd.Series
    key: tuple[str, ...]
    along: tuple[str, ...]


def group(study: Study, by: str) -> Groups:
    """Group the runs by a setting; a node means the setting that selects it, ``optimizer`` its class.

    Settings below the same node that only some of its values have, or whose values differ between them, are
    compared with it: ``optimizer.lr`` of L-BFGS is not Adam's. If they vary under one value, that
    value is several groups: ``gram, loss.style.gram.weight=10``. All others must be equal in a pair.

    Raises:
        UserError: If no run differs in the setting, or several settings of a node differ.
    """
    by, node = _resolve(study, by)
    base = text(study.runs[by])
    inside = [name for name in study.settings if name != by and _within(name, by, node)]
    own, along, varies = set[str](), [], []
    for name in inside:
        values = text(study.runs[name]).groupby(base).agg(frozenset)
        if values.nunique() > 1:  # if equal, it is crossed with the compared setting: a part of the key
            own.add(name)
            if values.map(len).max() > 1:
                varies.append(name)
            elif (
                not name.startswith(("inputs.", "schedule.stages"))
                and not values.map(lambda v: v == {_ABSENT}).any()
            ):
                along.append(name)
    labels = base
    for name in varies:
        values = text(study.runs[name])
        labels = labels.where(values == _ABSENT, labels + f", {name.removeprefix(node)}=" + values)
    key = [n for n in (*PICTURES, "seed", *study.settings) if n != by and n not in own]
    short = short_names(known_settings(study))
    return Groups(short[by], labels, tuple(key), tuple(short[name] for name in along))


def _resolve(study: Study, typed: str) -> tuple[str, str]:
    """Return the setting that was typed, or that selects a typed node; and the prefix of its settings."""
    by = {"pictures.content": "content", "pictures.style": "style"}.get(typed, typed.replace("/", "."))
    known = sorted(known_settings(study), key=lambda name: name in (*PICTURES, "seed"))
    if by in known:
        node = by if by in ROLES else by.removesuffix("._target_")
        return by, f"{node}." if by in ROLES or node != by else ""
    below = [name for name in known if name.startswith(f"{by}.")]
    classes = [name for name in below if name.endswith("._target_")]
    if f"{by}._target_" in classes:
        return f"{by}._target_", f"{by}."
    if len(classes) == 1:  # canvas.parametrization._target_ of canvas
        return classes[0], f"{by}."
    values = {name: text(study.runs[name]) for name in below}
    for name in below:  # vgg16 and vgg19 are one class, distinguished by their weights
        if all(other.groupby(values[name]).nunique().max() == 1 for other in values.values()):
            return name, f"{by}."
    shown = [short_names(known)[name] for name in below or known]
    if below:
        raise UserError("--by", typed, f"several settings of it differ: {', '.join(shown)}", "Type one.")
    if by in study.runs:
        only = as_typed(study.runs[by].iloc[0])
        hint = f"These differ: {', '.join(shown)}." if shown else "No setting differs: there is one run."
        raise UserError("--by", typed, f"it is {only} in all runs", hint)
    raise UserError("--by", typed, "no run differs in it", did_you_mean(by, shown, what="settings"))


def known_settings(study: Study) -> list[str]:
    """Return the names of all settings that differ between runs, with pictures and seed."""
    fixed = [name for name in (*PICTURES, "seed") if study.runs[name].nunique() > 1]
    return [*fixed, *study.settings]


def text(column: pd.Series) -> pd.Series:
    """Return a setting as text, also where a run lacks it; classes by their short names."""
    values = {value: _ABSENT if pd.isna(value) else _number(value) for value in column.unique()}
    if str(column.name).endswith("._target_"):
        short = short_classes(values.values())
        values = {value: short[path] for value, path in values.items()}
    return column.map(lambda value: values.get(value, _ABSENT)).astype(object)


def _number(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # integers in a column with missing values are floats
    return as_typed(value)


def _within(name: str, by: str, node: str) -> bool:
    """Return whether a setting belongs to the compared one: it is below its node, or another name of it."""
    if node and name.startswith(node):
        return True
    if by in ("size", "steps"):
        return name.startswith("schedule.")
    hash_of = {"inputs.weights": "encoder.", "inputs.start": "canvas."}.get(name)
    return hash_of is not None and by.startswith(hash_of)
