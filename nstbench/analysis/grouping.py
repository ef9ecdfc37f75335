"""Which runs are compared: groups of equal values of a setting, and what else goes with it."""

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
    """How the runs of a study are grouped for a comparison.

    Attributes:
        by: the compared setting; of a class, its node: ``optimizer``.
        labels: per run, which of the compared things it is.
        key: settings, and pictures and seed, that two runs of a pair share.
        along: settings that change together with the compared one and are a part of it.
    """

    by: str
    labels: pd.Series
    key: tuple[str, ...]
    along: tuple[str, ...]


def group(study: Study, by: str) -> Groups:
    """Group the runs by a setting; a node or group stands for what decides it, ``optimizer`` for its class.

    Settings below the same node that only some of its values have, or have other values of, are a part
    of what is compared: ``optimizer.lr`` of L-BFGS is not Adam's. Where they vary under one value, that
    value is several things: ``gram, loss.style.gram.weight=10``. All others must be equal in a pair.

    Raises:
        UserError: no run differs in the setting, or several settings of a node differ.
    """
    by, node = _meant(study, by)
    base = text(study.runs[by])
    inside = [name for name in study.settings if name != by and _within(name, by, node)]
    own, along, varies = set[str](), [], []
    for name in inside:
        values = text(study.runs[name]).groupby(base).agg(frozenset)
        if values.nunique() > 1:  # crossed with the compared setting otherwise: a part of the key
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


def _meant(study: Study, typed: str) -> tuple[str, str]:
    """Return the setting that was typed, or decides the node that was; and how what it decides begins."""
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
    for name in below:  # vgg16 and vgg19 are one class: their weights tell which
        if all(other.groupby(values[name]).nunique().max() == 1 for other in values.values()):
            return name, f"{by}."
    shown = [short_names(known)[name] for name in below or known]
    if below:
        raise UserError("--by", typed, f"several settings of it differ: {', '.join(shown)}", "Give one.")
    if by in study.runs:
        only = as_typed(study.runs[by].iloc[0])
        hint = f"These differ: {', '.join(shown)}." if shown else "Nothing does: there is one run."
        raise UserError("--by", typed, f"all runs have the same: {only}", hint)
    raise UserError("--by", typed, "no run differs in it", did_you_mean(by, shown, what="settings"))


def known_settings(study: Study) -> list[str]:
    """Return the names of all that differs between runs: pictures and seed too."""
    fixed = [name for name in (*PICTURES, "seed") if study.runs[name].nunique() > 1]
    return [*fixed, *study.settings]


def text(column: pd.Series) -> pd.Series:
    """Return a setting as text, so that runs that lack it are a group too; classes by their short names."""
    values = {value: _ABSENT if pd.isna(value) else _number(value) for value in column.unique()}
    if str(column.name).endswith("._target_"):
        short = short_classes(values.values())
        values = {value: short[of] for value, of in values.items()}
    return column.map(lambda value: values.get(value, _ABSENT)).astype(object)


def _number(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a column with gaps holds floats
    return as_typed(value)


def _within(name: str, by: str, node: str) -> bool:
    """Tell whether a setting belongs to the compared one: is below its node, or is its other name."""
    if node and name.startswith(node):
        return True
    if by in ("size", "steps"):
        return name.startswith("schedule.")
    hash_of = {"inputs.weights": "encoder.", "inputs.start": "canvas."}.get(name)
    return hash_of is not None and by.startswith(hash_of)
