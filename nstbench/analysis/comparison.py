"""Comparing the values of a setting over runs that are equal in everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from nstbench.analysis import judges
from nstbench.analysis import statistics as st
from nstbench.analysis.crossed_factors import Sample
from nstbench.analysis.grouping import PICTURES, Groups, known_settings, text
from nstbench.analysis.records import Study
from nstbench.analysis.settings import short_names
from nstbench.errors import UserError, as_typed, did_you_mean

NO_PICTURES = "none"
"""Name in place of a role, for runs without pictures other than those that are compared."""


@dataclass(frozen=True)
class Comparison:
    """A comparison by one metric.

    Attributes:
        criterion: Name of the metric.
        higher_is_better: Whether a higher value is better.
        by: Compared setting.
        reference: Value with which differences, win rates and verdicts of `rows` compare: the baseline,
            or the best.
        against_baseline: Whether the tests are those against the baseline; else they are of all couples.
        pairs: Number of pairs of pictures.
        sample: Sample of these pairs, with the units that the tests take as independent.
        cells: Number of runs of each value, over pairs, seeds and other settings.
        rows: Table with a row for each compared value, best first.
        tests: Table of the tests: first, second, difference (first minus second), its interval, p.
        notes: Sentences on runs that were left out, and warnings.
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


def compare(
    study: Study, groups: Groups, criterion: str, *, higher_is_better: bool, baseline: str | None = None
) -> Comparison:
    """Compare by one metric.

    Raises:
        UserError: If no runs can be paired, or there is no such baseline.
    """
    cells, notes = _cells(study, groups, criterion, baseline)
    values = over_pictures(cells, groups.by)
    sample = Sample.of(values.index)
    means = sample.mean(values)
    values = values.iloc[:, np.argsort(-means if higher_is_better else means, kind="stable")]
    names, x = [str(name) for name in values.columns], values.to_numpy(dtype=float)
    reference = baseline or names[0]
    family = [(n, reference) for n in names if n != reference] if baseline else list(combinations(names, 2))
    tests = compare_couples(sample, x, names, family, higher_is_better=higher_is_better)
    if criterion.startswith("cross/") and (judge := criterion.removeprefix("cross/")) in names:
        notes.append(f"Note: {judge} is evaluated by itself here; cross/others leaves that out.")
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
        notes=(*judges.sentences(study, [criterion]), *notes),
    )


def over_pictures(cells: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return the mean over seeds and other settings for each pair of pictures.

    A role that is compared, or null in all runs (textures have no content picture), is not part of pairs.
    """
    roles = [role for role in PICTURES if role != by]
    present = [role for role in roles if (cells.index.get_level_values(role) != as_typed(None)).any()]
    means = cells.groupby(level=present or roles[:1], sort=True).mean()
    if not present:
        means.index = means.index.rename(NO_PICTURES)
    return means


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
    opposite = {"better": "worse", "worse": "better"}
    found = {}
    for test in tests.itertuples():
        p = (test.p, test.p_sign_flip, test.p_corrected)
        if test.second == reference:
            found[test.first] = (*p, test.verdict)
        elif test.first == reference:
            found[test.second] = (*p, opposite.get(str(test.verdict), test.verdict))
    columns = ["p", "p_sign_flip", "p_corrected", "verdict"]
    empty = (np.nan, np.nan, np.nan, "")
    rows[columns] = pd.DataFrame([found.get(name, empty) for name in names], columns=columns)
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
    """Return a table of tests, of the first against the second of each couple, from values ``(pairs, k)``."""
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
            "verdict": st.verdicts(
                corrected, side, can_be_significant=sample.can_be_significant(len(family))
            ),
        }
    )


def _cells(
    study: Study, groups: Groups, criterion: str, baseline: str | None
) -> tuple[pd.DataFrame, list[str]]:
    """Return a row for each combination of pictures, seed and other settings, a column for each value."""
    column = f"metric/{criterion}"
    use = (study.runs["state"] == "completed") & np.isfinite(study.runs[column])
    runs = study.runs[use]
    key = pd.DataFrame({name: text(runs[name]) for name in groups.key})
    key["judge"] = study.metric_settings.loc[
        use, criterion
    ]  # values of differently computed metrics are not paired
    table = runs[column].groupby([*(key[c] for c in key), groups.labels[use].rename("of")]).mean()
    notes = []
    not_finite = study.runs[
        (study.runs["state"] == "completed") & study.metric_settings[criterion].notna() & ~use
    ]
    if len(not_finite):
        notes.append(f"Left out, as {criterion} is no finite number: {', '.join(not_finite['folder'])}.")
    if len(table) < len(runs):
        repeated = len(runs) - len(table)
        notes.append(f"{_runs(repeated)} averaged with others that are equal in all settings and pictures.")
    cells = table.unstack("of")
    everything = list(dict.fromkeys(groups.labels))
    if baseline is not None and baseline not in everything:
        hint = did_you_mean(baseline, everything, what="values")
        raise UserError("--baseline", baseline, f"{groups.by} has no such value in these runs", hint)
    # Values with few completed runs are left out, as all others would lose the runs without a partner.
    has = cells.notna().sum().reindex(everything, fill_value=0)
    sparse = [n for n in everything if 2 * has[n] < has.max()]
    if baseline in sparse:
        raise UserError(
            "--baseline", baseline, f"it has {criterion} for {has[baseline]} of {has.max()} combinations",
            "Finish its runs, or choose another.",
        )  # fmt: skip
    if sparse:
        each = ", ".join(f"{name} ({has[name]} of {has.max()})" for name in sparse)
        notes.append(f"Left out, as they have {criterion} for less than half of the combinations: {each}.")
    cells = cells[[n for n in everything if n not in sparse]]
    complete = cells.dropna()
    if cells.shape[1] < 2 or complete.empty:
        raise _no_pairs(study, groups, criterion, list(cells.columns))
    if dropped := int(cells.notna().to_numpy().sum() - complete.size):
        missing = cells.isna().sum()
        lacking = ", ".join(f"{name} {count}" for name, count in missing[missing > 0].items())
        notes.append(f"{_runs(dropped)} left out, as runs to pair them with are missing ({lacking}).")
    return complete, notes


def _no_pairs(study: Study, groups: Groups, criterion: str, names: Sequence[str]) -> UserError:
    if len(names) < 2:
        reason = f"only {', '.join(names) or 'none of its values'} has enough completed runs with {criterion}"
        return UserError("--by", groups.by, reason, "Finish the study first.")
    completed = study.runs["state"] == "completed"
    for name in groups.key:
        of_each = text(study.runs.loc[completed, name]).groupby(groups.labels[completed]).agg(frozenset)
        if not frozenset.intersection(*of_each):
            shown = short_names(known_settings(study)).get(name, name)
            reason = f"no two of its runs are equal in all other settings: {shown} differs too"
            instead = f" or compare by it: --by {shown}" if name in study.settings else ""
            return UserError("--by", groups.by, reason, f"Sweep {shown} and {groups.by} separately{instead}.")
    if len(found := judges.judges(study, criterion)) > 1:
        return UserError("--criterion", criterion, f"it {judges.differing(found)[:-1]}", judges.remedy(study))
    reason = "no combination of pictures, seed and other settings has a completed run of every value"
    return UserError("--by", groups.by, reason, "Finish the study first.")


def _runs(number: int) -> str:
    return f"{number} run was" if number == 1 else f"{number} runs were"
