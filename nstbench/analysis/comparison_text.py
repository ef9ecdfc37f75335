"""Comparisons as sentences and tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pandas as pd

from nstbench.analysis import statistics as st
from nstbench.analysis.comparison import NO_PICTURES, Comparison
from nstbench.analysis.crossed_factors import LEAST, least_t
from nstbench.analysis.grouping import Groups
from nstbench.analysis.records import STATES, Study
from nstbench.analysis.tradeoff import Tradeoff

_MANY = 10  # pictures of a role: enough for most differences that matter


def inventory(study: Study, *, most: int | None = None) -> list[str]:
    """Return sentences on the runs of the study; of long lists, the first ``most`` names."""
    runs = study.runs
    count = {state: int((runs["state"] == state).sum()) for state in STATES}
    lines = [
        f"{_count(len(runs), 'run')}: " + ", ".join(f"{n} {state}" for state, n in count.items() if n) + "."
    ]
    for state, word in (("running", "unfinished"), ("failed", "failed")):
        chosen = runs[runs["state"] == state]
        errors = [f" ({str(e).splitlines()[0]})" if isinstance(e, str) and e else "" for e in chosen["error"]]
        names = [f"{name}{error}" for name, error in zip(chosen["folder"], errors, strict=True)]
        if names:
            lines.append(f"{word.capitalize()}, not compared: {_some(names, most)}.")
    if study.damaged:
        names = [f"{d.path}: {d.reason}" for d in study.damaged]
        lines.append(f"{len(names)} left out as damaged: {_some(names, most, '; ')}.")
    return lines


def sentences(c: Comparison) -> list[str]:
    """Return sentences with the verdicts of a comparison, runs left out, and pictures that are needed."""
    lines = [f"{pairs(c)}, {len(c.rows)} values of {c.by}.", *c.notes]
    if c.cells > c.pairs and c.cells % c.pairs == 0:
        lines[0] += f" Each is the mean of {c.cells // c.pairs} runs."
    family = c.tests
    if (family["verdict"] == st.TOO_FEW).all():
        return [*lines, _too_few(c)]
    if c.sample.fixed:
        few = _count(c.sample.levels[c.sample.fixed], f"{c.sample.fixed} picture")
        lines.append(
            f"With only {few}, the verdicts are about other {c.sample.unit} pictures, not about other "
            f"{c.sample.fixed} pictures."
        )
    for name in c.rows["name"]:
        won = family[
            ((family["first"] == name) & (family["verdict"] == "better"))
            | ((family["second"] == name) & (family["verdict"] == "worse"))
        ]
        losers = won["second"].where(won["first"] == name, won["first"])
        by_p: dict[str, list[str]] = {}
        for loser, p in sorted(zip(losers, won["p_corrected"], strict=True), key=lambda pair: pair[1]):
            by_p.setdefault(st.p_text(p), []).append(loser)
        if by_p:
            beaten = "; ".join(f"{', '.join(names)} ({p})" for p, names in by_p.items())
            lines.append(f"{name} is better than {beaten}.")
    undecided = family[family["verdict"] == st.INDISTINGUISHABLE]
    if len(undecided) and (c.against_baseline or len(undecided) <= 10):
        each = ", ".join(f"{a} and {b}" for a, b in zip(undecided["first"], undecided["second"], strict=True))
        lines.append(f"{st.INDISTINGUISHABLE.capitalize()}: {each}.")
    elif len(undecided):
        lines.append(f"{st.INDISTINGUISHABLE.capitalize()}: {len(undecided)} of {len(family)} couples.")
    if len(undecided) == len(family) and c.sample.unit == "crossed" and c.sample.size < _MANY:
        now, then = least_t(len(family), c.sample.size), least_t(len(family), _MANY)
        lines.append(
            f"{f'Corrected for {len(family)} comparisons, a' if len(family) > 1 else 'A'} difference must be "
            f"{now:.2g} times its standard error with so few pictures; with {_MANY} content and {_MANY} "
            f"style pictures {then:.2g} times."
        )
    return lines


def _too_few(c: Comparison) -> str:
    """Return why no difference can be significant, and how many pictures are needed."""
    tests, sample = len(c.tests), c.sample
    if sample.unit == NO_PICTURES:
        return f"{st.TOO_FEW.capitalize()} which is better: other seeds are not other pictures."
    unit = {"pair": "pair", "group": "group of pairs that share pictures"}.get(
        sample.unit, f"{sample.unit} picture"
    )
    least = st.smallest_p(sample.size)
    smallest = f"the smallest possible p is {least:.2g}"
    if tests > 1:
        smallest += f", after correction for {tests} comparisons {min(1.0, least * tests):.2g}"
    needed, fewer = st.units_needed(tests), st.units_needed(len(c.rows) - 1)
    enough = f"at least {needed} {unit}s are needed"
    if not c.against_baseline and fewer < needed:
        enough += f", or {fewer} with --baseline"
    if len(sample.levels) == 2:
        enough += f", or {LEAST} content and {LEAST} style pictures in all combinations"
    return (
        f"{st.TOO_FEW.capitalize()} which is better: with {_count(sample.size, unit)}, {smallest}; {enough}."
    )


def title(c: Comparison) -> str:
    """Return the heading of a comparison: the metric and its direction."""
    return f"{c.criterion} ({'higher' if c.higher_is_better else 'lower'} is better)"


def header(c: Comparison) -> list[str]:
    """Return the names of the columns of `cells`."""
    role = "baseline" if c.against_baseline else "best"
    return [c.by, "mean [95 %]", f"minus the {role} [95 %]", "win rate", "mean rank", "p", "verdict"]


def cells(c: Comparison) -> list[list[str]]:
    """Return the cells of a comparison's table as text, a row for each value, best first."""
    digits = _digits(c.rows["high"] - c.rows["low"])
    finer = _digits((c.rows["difference_high"] - c.rows["difference_low"]).dropna())
    table = []
    for row in c.rows.to_dict("records"):
        if row["name"] == c.reference:
            against = ["", "", _short(row["mean_rank"]), "", "baseline" if c.against_baseline else "best"]
        else:
            verdict = row["verdict"]
            if verdict in ("better", "worse"):
                verdict = f"{verdict} than {c.reference} ({st.p_text(row['p_corrected'])})"
            difference = (row["difference"], row["difference_low"], row["difference_high"])
            p = f"{row['p_corrected']:.3f}" if row["p_corrected"] >= 0.001 else "<0.001"
            against = [_with_interval(*difference, finer, sign="+"), f"{100 * row['win_rate']:.0f} %"]
            against += [_short(row["mean_rank"]), p, verdict]
        mean = _with_interval(row["mean"], row["low"], row["high"], digits)
        table.append([str(row["name"]), mean, *against])
    return table


def tradeoff_title(t: Tradeoff) -> str:
    """Return the heading of a trade-off."""
    return f"Trade-off of {t.style} and {t.content} over {', '.join(t.along) or 'one weight'}"


def tradeoff_header(t: Tradeoff) -> list[str]:
    """Return the names of the columns of `tradeoff_cells`."""
    return [t.by, "points", "hypervolume [95 %]", "minus the best [95 %]", "p", "verdict"]


def tradeoff_cells(t: Tradeoff) -> list[list[str]]:
    """Return the cells of the table of hypervolumes, as fractions of the rectangle, best first."""
    whole = t.fronts["hypervolume"].max() / t.fronts["share"].max()
    best = t.fronts["of"][0]
    against = {test["second"]: test for test in t.tests.to_dict("records") if test["first"] == best}
    table = []
    for row in t.fronts.to_dict("records"):
        share = _with_interval(row["share"], row["share_low"], row["share_high"], 3)
        cells = [str(row["of"]), str(row["points"]), share, "", "", "best" if row["of"] == best else ""]
        if test := against.get(row["of"]):
            ends = (-test["difference"], -test["difference_high"], -test["difference_low"])
            verdict = str(test["verdict"])
            if verdict == "better":
                verdict = f"worse than {best} ({st.p_text(test['p_corrected'])})"
            value, low, high = (end / whole for end in ends)
            cells[3] = _with_interval(value, low, high, 3, sign="+")
            cells[4:] = [f"{test['p_corrected']:.3f}" if test["p_corrected"] >= 0.001 else "<0.001", verdict]
        table.append(cells)
    return table


def tradeoff_sentences(t: Tradeoff) -> list[str]:
    """Return sentences on the corners of the hypervolumes, and warnings."""
    corners = [f"{t.style} {s:.3g}, {t.content} {c:.3g}" for s, c in (t.reference, t.best)]
    whole = (
        f"Hypervolume: the area that a front dominates up to the worst corner of all points ({corners[0]}), "
        f"as a fraction of the rectangle to their best corner ({corners[1]}); more is better."
    )
    return [whole, *t.notes]


def along(groups: Groups) -> str:
    """Return the sentence on the settings that are compared together with the chosen one."""
    return f"These settings differ together with {groups.by} and are compared with it: " + (
        f"{', '.join(groups.along)}."
    )


def _digits(widths: pd.Series) -> int:
    """Return the number of decimals that show two digits of the median width of an interval."""
    width = widths.median()
    return min(6, max(0, 1 - math.floor(math.log10(width)))) if width > 0 else 3


def _with_interval(value: float, low: float, high: float, digits: int, *, sign: str = "") -> str:
    number: Callable[[float], str] = lambda x: f"{x:{sign}.{digits}f}"  # noqa: E731
    return f"{number(value)} [{number(low)}, {number(high)}]" if math.isfinite(low) else number(value)


def _short(value: float) -> str:
    return f"{value:.1f}"


def _some(names: Sequence[str], most: int | None, join: str = ", ") -> str:
    rest = f"{join}and {len(names) - most} more" if most and len(names) > most else ""
    return join.join(names[:most]) + rest


def pairs(c: Comparison) -> str:
    """Return the number of pairs of pictures in a comparison, and of pictures, as text."""
    if NO_PICTURES in c.sample.levels:
        return "No pictures other than those compared"
    if len(c.sample.levels) == 1:  # the other one is what is compared
        ((role, number),) = c.sample.levels.items()
        return _count(number, f"{role} picture")
    of = ", ".join(_count(number, f"{role} picture") for role, number in c.sample.levels.items())
    return f"{_count(c.pairs, 'pair')} of pictures (from {of})"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
