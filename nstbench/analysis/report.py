"""What a comparison says, in sentences, tables and files."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from nstbench.analysis import statistics as st
from nstbench.analysis.compare import Comparison, Groups
from nstbench.analysis.records import RESULT, STATES, Study
from nstbench.errors import UserError
from nstbench.tracking.record import write_text

METHOD = (
    "The unit is a pair of pictures: seeds, and settings swept besides, are averaged within it first. "
    "They repeat a measurement on the same pictures, so counting them as samples of their own would claim "
    "more evidence than there is. Pairs are taken as independent. Those that share a picture are not where "
    "it decides which is better: p is then too small, and intervals too narrow, for claims about "
    "pictures that were not in the study. In simulated studies of 5 by 5 pictures, with a fifth of a "
    "difference's variance due to the style picture, a difference that does not exist is claimed 13 times in "
    "100 instead of 5. More pictures help, more pairs of the same pictures hardly do. "
    "Intervals: 95 %, expanded percentile bootstrap of the mean over pairs, each for itself. "
    "p: Wilcoxon's signed-rank test on paired differences, two-sided, exact up to 50 pairs, corrected by "
    "Holm's method within a criterion. Win rate: the share of pairs in which it is better than the reference."
)


def inventory(study: Study, *, most: int | None = None) -> list[str]:
    """Return what was found in the study, in sentences; of long lists, the first ``most`` names."""
    runs = study.runs
    count = {state: int((runs["state"] == state).sum()) for state in STATES}
    said = [
        f"{_count(len(runs), 'run')}: " + ", ".join(f"{n} {state}" for state, n in count.items() if n) + "."
    ]
    for state, word in (("running", "unfinished"), ("failed", "failed")):
        of_state = runs[runs["state"] == state]
        errors = [
            f" ({str(e).splitlines()[0]})" if isinstance(e, str) and e else "" for e in of_state["error"]
        ]
        names = [f"{name}{error}" for name, error in zip(of_state["folder"], errors, strict=True)]
        if names:
            said.append(f"{word.capitalize()}, not compared: {_some(names, most)}.")
    if study.damaged:
        names = [f"{d.path}: {d.reason}" for d in study.damaged]
        said.append(f"{len(names)} left out as no sound records: {_some(names, most, '; ')}.")
    return said


def sentences(c: Comparison) -> list[str]:
    """Return the verdicts of a comparison, what was left out, and what it would take to say more."""
    said = [f"{_pairs(c)}, {len(c.rows)} values of {c.by}.", *c.notes]
    if c.cells > c.pairs and c.cells % c.pairs == 0:
        said[0] += f" Each is the mean of {c.cells // c.pairs} runs."
    family = c.tests
    if (family["verdict"] == st.TOO_FEW).all():
        least = st.smallest_p(c.pairs)
        enough = f"at least {st.pairs_needed(len(family))} pairs are needed"
        fewer = st.pairs_needed(len(c.rows) - 1)
        if not c.against_baseline and fewer < st.pairs_needed(len(family)):
            enough += f", or {fewer} with --baseline"
        reach = f"the smallest possible p is {least:.2g}"
        if len(family) > 1:
            reach += f", after correction for {len(family)} comparisons {min(1.0, least * len(family)):.2g}"
        return [*said, f"{st.TOO_FEW.capitalize()} which is better: {reach}; {enough}."]
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
            said.append(f"{name} is better than {beaten}.")
    if family["verdict"].isin(["better", "worse"]).any() and max(c.pictures.values()) < c.pairs:
        said.append("Pairs share pictures: p speaks of these pictures more than of others (see Method).")
    alike = family[family["verdict"] == st.INDISTINGUISHABLE]
    if len(alike) and (c.against_baseline or len(alike) <= 10):
        each = ", ".join(f"{a} and {b}" for a, b in zip(alike["first"], alike["second"], strict=True))
        said.append(f"{st.INDISTINGUISHABLE.capitalize()}: {each}.")
    elif len(alike):
        said.append(f"{st.INDISTINGUISHABLE.capitalize()}: {len(alike)} of {len(family)} couples.")
    return said


def title(c: Comparison) -> str:
    """Return the heading of a comparison: the metric and its direction."""
    return f"{c.criterion} ({'higher' if c.higher_is_better else 'lower'} is better)"


def header(c: Comparison) -> list[str]:
    """Return the names of the columns of `cells`."""
    role = "baseline" if c.against_baseline else "best"
    return [c.by, "mean [95 %]", f"minus the {role} [95 %]", "win rate", "mean rank", "p", "verdict"]


def cells(c: Comparison) -> list[list[str]]:
    """Return the table of a comparison as text, a row for each value, best first."""
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


def markdown(study: Study, groups: Groups, comparisons: Sequence[Comparison]) -> str:
    """Return the whole comparison as Markdown."""
    parts = [
        f"# {study.folder.resolve().name}: comparison by {groups.by}",
        "\n".join(f"- {s}" for s in inventory(study)),
    ]
    if groups.along:
        parts.append(along(groups))
    for c in comparisons:
        lines = [header(c), ["---", *["---:"] * 5, "---"], *cells(c)]
        rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
        parts += [f"## {title(c)}", "\n".join(rows), "\n".join(f"- {s}" for s in sentences(c))]
    return "\n\n".join([*parts, "## Method", METHOD]) + "\n"


def latex(comparisons: Sequence[Comparison]) -> str:
    """Return a table for each criterion, for LaTeX with the package booktabs."""
    tables = []
    for c in comparisons:
        lines = [" & ".join(_tex(cell) for cell in line) + r" \\" for line in [header(c), *cells(c)]]
        caption = f"{title(c)}; {_pairs(c)}."
        tables.append(
            "\\begin{table}\n  \\centering\n"
            f"  \\caption{{{_tex(caption)}}}\n"
            "  \\begin{tabular}{lrrrrrl}\n    \\toprule\n"
            f"    {lines[0]}\n    \\midrule\n    " + "\n    ".join(lines[1:]) + "\n    \\bottomrule\n"
            "  \\end{tabular}\n\\end{table}\n"
        )
    return "% \\usepackage{booktabs}\n" + "\n".join(tables)


def along(groups: Groups) -> str:
    """Return the sentence on the settings that are compared together with the one asked for."""
    return f"These settings differ along with {groups.by} and are a part of what is compared: " + (
        f"{', '.join(groups.along)}."
    )


def write(study: Study, groups: Groups, comparisons: Sequence[Comparison], folder: Path) -> list[Path]:
    """Write all files into ``folder``, each in one piece, and return their paths.

    Raises:
        UserError: the folder cannot be written to.
    """
    each = [_long(c, c.rows) for c in comparisons]
    tests = [_long(c, c.tests) for c in comparisons]
    texts = {
        RESULT: pd.concat(each).to_csv(index=False),
        "tests.csv": pd.concat(tests).to_csv(index=False),
        "runs.csv": study.runs.to_csv(index=False),
        "comparison.md": markdown(study, groups, comparisons),
        "comparison.tex": latex(comparisons),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_text(folder / name, text)
        part = folder / f".runs.parquet.{os.getpid()}.part"
        try:
            study.runs.to_parquet(part, index=False)
            os.replace(part, folder / "runs.parquet")
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        reason = f"results cannot be written there ({error.strerror or error})"
        raise UserError("--output", folder, reason, "Give a folder you may write to.") from error
    return [folder / name for name in (*texts, "runs.parquet")]


def _long(c: Comparison, table: pd.DataFrame) -> pd.DataFrame:
    first = {
        "criterion": c.criterion,
        "better": "higher" if c.higher_is_better else "lower",
        "by": c.by,
        "reference": c.reference,
        "pairs": c.pairs,
        "tests": len(c.tests),
    }
    return pd.concat([pd.DataFrame(first, index=table.index), table], axis=1)


def _digits(widths: pd.Series) -> int:
    """Return how many decimals show two digits of the usual width of an interval."""
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


def _pairs(c: Comparison) -> str:
    if len(c.pictures) == 1:  # the other one is what is compared
        ((role, number),) = c.pictures.items()
        return _count(number, f"{role} picture")
    of = ", ".join(_count(number, f"{role} picture") for role, number in c.pictures.items())
    return f"{_count(c.pairs, 'pair')} of pictures (from {of})"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$"}
    return "".join(special.get(c, "\\" + c if c in "&%$#_{}" else c) for c in text)
