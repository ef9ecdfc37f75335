"""Comparing the values of a setting over runs that are equal in everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from nstbench.analysis import statistics as st
from nstbench.analysis.crossed import Sample
from nstbench.analysis.records import Study
from nstbench.analysis.settings import ROLES
from nstbench.errors import UserError, as_typed, did_you_mean

PICTURES = ("content", "style")


@dataclass(frozen=True)
class Groups:
    """How the runs of a study are grouped for a comparison.

    Attributes:
        by: the compared setting.
        labels: per run, which of the compared things it is.
        key: settings, and pictures and seed, that two runs of a pair share.
        along: settings that change together with the compared one and are a part of it.
    """

    by: str
    labels: pd.Series
    key: tuple[str, ...]
    along: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """What one metric says.

    Attributes:
        criterion: the metric.
        higher_is_better: its direction.
        by: the compared setting.
        reference: what differences, win rates and verdicts of `rows` are against: the baseline, or the best.
        against_baseline: whether the family of tests is that with the baseline; else all pairs.
        pairs: number of pairs of pictures.
        sample: how these pairs share pictures, and so what the tests take as independent.
        cells: number of runs of each thing: over pairs, seeds and other settings.
        rows: of each compared thing, best first.
        tests: the family of tests: first, second, difference (first minus second), its interval, p.
        notes: what was left out and what to beware of, in sentences.
    """

    criterion: str
    higher_is_better: bool
    by: str
    reference: str
    against_baseline: bool
    pairs: int
    sample: Sample
    cells: int
    rows: pd.DataFrame
    tests: pd.DataFrame
    notes: tuple[str, ...]


def group(study: Study, by: str) -> Groups:
    """Group the runs by a setting.

    Settings below the same node that only some of its values have, or have other values of, are a part
    of what is compared: ``optimizer.lr`` of L-BFGS is not Adam's. Where they vary under one value, that
    value is several things: ``gram, loss.style.gram.weight=10``. All others must be equal in a pair.

    Raises:
        UserError: no run differs in the setting.
    """
    by = {"pictures.content": "content", "pictures.style": "style"}.get(by, by)
    fixed = [name for name in (*PICTURES, "seed") if study.runs[name].nunique() > 1]
    known = list(dict.fromkeys([*study.settings, *fixed]))
    if by not in known:
        if by in study.runs:
            only = as_typed(study.runs[by].iloc[0])
            hint = f"These differ: {', '.join(known)}." if known else "Nothing does: there is one run."
            raise UserError("--by", by, f"all runs have the same: {only}", hint)
        raise UserError("--by", by, "no run differs in it", did_you_mean(by, known, what="settings"))
    base = text(study.runs[by])
    inside = [name for name in study.settings if name != by and _within(name, by)]
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
        labels = labels.where(values == _ABSENT, labels + f", {name.removeprefix(_node(by))}=" + values)
    key = [n for n in (*PICTURES, "seed", *study.settings) if n != by and n not in own]
    return Groups(by, labels, tuple(key), tuple(along))


def compare(
    study: Study, groups: Groups, criterion: str, *, higher_is_better: bool, baseline: str | None = None
) -> Comparison:
    """Compare by one metric.

    Raises:
        UserError: nothing can be paired, or there is no such baseline.
    """
    cells, notes = _cells(study, groups, criterion, baseline)
    blocks = [name for name in PICTURES if name != groups.by]
    # Seeds and other settings are averaged within a pair of pictures.
    values = cells.groupby(level=blocks, sort=True).mean()
    sample = Sample.of(values.index)
    means = sample.mean(values)
    values = values.iloc[:, np.argsort(-means if higher_is_better else means, kind="stable")]
    names, x = [str(name) for name in values.columns], values.to_numpy(dtype=float)
    reference = baseline or names[0]
    family = [(n, reference) for n in names if n != reference] if baseline else list(combinations(names, 2))
    tests = compare_couples(sample, x, names, family, higher_is_better=higher_is_better)
    if criterion.startswith("cross/") and (judge := criterion.removeprefix("cross/")) in names:
        notes.append(f"Beware: {judge} is judged by itself here. cross/others leaves that out.")
    return Comparison(
        criterion=criterion,
        higher_is_better=higher_is_better,
        by=groups.by,
        reference=reference,
        against_baseline=baseline is not None,
        pairs=len(x),
        sample=sample,
        cells=len(cells),
        rows=_rows(sample, x, names, reference, tests, higher_is_better=higher_is_better),
        tests=tests,
        notes=tuple(notes),
    )


def _rows(
    sample: Sample,
    x: np.ndarray,
    names: Sequence[str],
    reference: str,
    tests: pd.DataFrame,
    *,
    higher_is_better: bool,
) -> pd.DataFrame:
    low, high = sample.interval(x)
    differences = x - x[:, [names.index(reference)]]
    d_low, d_high = sample.interval(differences)
    rows = pd.DataFrame(
        {
            "name": names,
            "mean": sample.mean(x),
            "low": low,
            "high": high,
            "difference": sample.mean(differences),
            "difference_low": d_low,
            "difference_high": d_high,
            "win_rate": st.win_rate(differences, higher_is_better=higher_is_better),
            "mean_rank": st.mean_ranks(x, higher_is_better=higher_is_better),
        }
    )
    other_way = {"better": "worse", "worse": "better"}
    found = {}
    for test in tests.itertuples():
        p = (test.p, test.p_sign_flip, test.p_corrected)
        if test.second == reference:
            found[test.first] = (*p, test.verdict)
        elif test.first == reference:
            found[test.second] = (*p, other_way.get(str(test.verdict), test.verdict))
    columns = ["p", "p_sign_flip", "p_corrected", "verdict"]
    of_reference = (np.nan, np.nan, np.nan, "")
    rows[columns] = pd.DataFrame([found.get(name, of_reference) for name in names], columns=columns)
    at_reference = rows["name"] == reference
    rows.loc[at_reference, ["difference", "difference_low", "difference_high", "win_rate"]] = np.nan
    return rows


def compare_couples(
    sample: Sample,
    x: np.ndarray,
    names: Sequence[str],
    family: Sequence[tuple[str, str]],
    *,
    higher_is_better: bool,
) -> pd.DataFrame:
    """Return a family of tests, of the first against the second of each couple, by values ``(pairs, k)``."""
    at = {name: column for column, name in enumerate(names)}
    d = x[:, [at[a] for a, _ in family]] - x[:, [at[b] for _, b in family]]
    low, high = sample.interval(d)
    p = sample.p(d)
    side = sample.favours(d, higher_is_better=higher_is_better)
    corrected = st.holm(p)
    return pd.DataFrame(
        {
            "first": [a for a, _ in family],
            "second": [b for _, b in family],
            "difference": sample.mean(d),
            "difference_low": low,
            "difference_high": high,
            "win_rate": st.win_rate(d, higher_is_better=higher_is_better),
            "p": p,
            "p_sign_flip": sample.sign_flip(d),
            "p_corrected": corrected,
            "verdict": st.verdicts(corrected, side, can_say=sample.can_say(len(family))),
        }
    )


def _cells(
    study: Study, groups: Groups, criterion: str, baseline: str | None
) -> tuple[pd.DataFrame, list[str]]:
    """Return a row per combination of pictures, seed and other settings, a column per compared thing."""
    column = f"metric/{criterion}"
    use = (study.runs["state"] == "completed") & np.isfinite(study.runs[column])
    runs = study.runs[use]
    key = pd.DataFrame({name: text(runs[name]) for name in groups.key})
    key["judge"] = study.judges.loc[use, criterion]  # values of another judge are no partners
    table = runs[column].groupby([*(key[c] for c in key), groups.labels[use].rename("of")]).mean()
    notes = []
    odd = study.runs[(study.runs["state"] == "completed") & study.judges[criterion].notna() & ~use]
    if len(odd):
        notes.append(f"Left out, for {criterion} is no finite number: {', '.join(odd['folder'])}.")
    if len(table) < len(runs):
        again = len(runs) - len(table)
        notes.append(f"{_runs(again)} repeated others in all settings and pictures: averaged with them.")
    cells = table.unstack("of")
    everything = list(dict.fromkeys(groups.labels))
    if baseline is not None and baseline not in everything:
        hint = did_you_mean(baseline, everything, what="values")
        raise UserError("--baseline", baseline, f"{groups.by} has no such value in these runs", hint)
    # One that has hardly begun, or mostly failed, would cost the others their runs.
    has = cells.notna().sum().reindex(everything, fill_value=0)
    sparse = [n for n in everything if 2 * has[n] < has.max()]
    if baseline in sparse:
        raise UserError(
            "--baseline", baseline, f"it has {criterion} for {has[baseline]} of {has.max()} combinations",
            "Finish its runs, or choose another.",
        )  # fmt: skip
    if sparse:
        each = ", ".join(f"{name} ({has[name]} of {has.max()})" for name in sparse)
        notes.append(f"Left out, for they have {criterion} for less than half of the combinations: {each}.")
    cells = cells[[n for n in everything if n not in sparse]]
    complete = cells.dropna()
    if cells.shape[1] < 2 or complete.empty:
        raise _no_pairs(study, groups, criterion, list(cells.columns))
    if dropped := int(cells.notna().to_numpy().sum() - complete.size):
        missing = cells.isna().sum()
        lacking = ", ".join(f"{name} {count}" for name, count in missing[missing > 0].items())
        notes.append(f"{_runs(dropped)} dropped, for their partners are missing ({lacking}).")
    return complete, notes


def _no_pairs(study: Study, groups: Groups, criterion: str, names: Sequence[str]) -> UserError:
    if len(names) < 2:
        reason = f"only {', '.join(names) or 'none of its values'} has enough completed runs with {criterion}"
        return UserError("--by", groups.by, reason, "Finish the study first.")
    completed = study.runs["state"] == "completed"
    for name in groups.key:
        of_each = text(study.runs.loc[completed, name]).groupby(groups.labels[completed]).agg(frozenset)
        if not frozenset.intersection(*of_each):
            reason = f"no two of its runs are equal in all else: {name} differs with it"
            instead = f" or compare by it: --by {name}" if name in study.settings else ""
            return UserError("--by", groups.by, reason, f"Sweep {name} and {groups.by} apart{instead}.")
    reason = "no combination of pictures, seed and other settings has a completed run of every value"
    return UserError("--by", groups.by, reason, "Finish the study first.")


_ABSENT = "(none)"


def text(column: pd.Series) -> pd.Series:
    """Return a setting as text, so that runs that lack it are a group too."""
    values = {value: _ABSENT if pd.isna(value) else _number(value) for value in column.unique()}
    return column.map(lambda value: values.get(value, _ABSENT)).astype(object)


def _number(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a column with gaps holds floats
    return as_typed(value)


def _node(by: str) -> str:
    return f"{by}." if by in ROLES else by.removesuffix("_target_") if by.endswith("._target_") else ""


def _within(name: str, by: str) -> bool:
    """Tell whether a setting belongs to the compared one: is below its node, or is its other name."""
    node = _node(by)
    if node and name.startswith(node):
        return True
    if by in ("size", "steps"):
        return name.startswith("schedule.")
    hash_of = {"inputs.weights": "encoder.", "inputs.start": "canvas."}.get(name)
    return hash_of is not None and by.startswith(hash_of)


def _runs(number: int) -> str:
    return f"{number} run was" if number == 1 else f"{number} runs were"
