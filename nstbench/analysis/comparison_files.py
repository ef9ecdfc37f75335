"""A comparison as files: CSV, Parquet, Markdown, LaTeX and a figure."""

from __future__ import annotations

import errno
import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nstbench.analysis import comparison_text as report
from nstbench.analysis.comparison import Comparison
from nstbench.analysis.grouping import Groups
from nstbench.analysis.output import remove_leftovers
from nstbench.analysis.records import RESULT, Study
from nstbench.analysis.tradeoff import Tradeoff
from nstbench.errors import FULL, StorageError, UserError
from nstbench.runtime.files import write_bytes, write_text

METHOD = (
    "The sample is of pictures: conclusions are about other pictures. Seeds, and "
    "other swept settings, repeat a measurement on the same pictures, so they are averaged within a "
    "pair of pictures first. Where pairs share content and style pictures, both are random factors: p "
    "and 95 % intervals are of t = mean / standard error, with the variance of the mean by Clark's "
    "quasi F (1973; the mean square of content, plus that of style, less that of the residuals), never "
    "below that of either factor alone, and for missing pairs from sums over each picture (Cameron, "
    "Gelbach and Miller 2011); degrees of freedom are Satterthwaite's, at most 1.5 times one less than "
    "the smaller number of pictures. In simulated studies of 3 by 3 to 10 by 10 pictures a difference "
    "that does not exist is claimed at most 6 times in 100; effects as skewed as an exponential "
    "distribution make it up to 12. The signed-rank test over pairs, which takes them as independent, "
    "claims it up to 55 times. With fewer than 3 pictures of a role, verdicts hold for these pictures "
    "of it only, and the unit is a picture of the other role; if no two pairs share a picture, it is "
    "the pair. In these cases intervals are expanded percentile bootstrap of the mean over units, and p is "
    "Wilcoxon's signed-rank test, two-sided, exact up to 50 units. p is corrected by Holm's method "
    "within a criterion; intervals are not corrected. Win rate: the fraction of pairs in which a value "
    "is better than the reference."
)
METHOD_OF_TRADEOFF = (
    "Points of the trade-off are means over the same pairs of pictures and seeds. Hypervolumes are of "
    "these means, up to the worst corner of all of them, which is taken as fixed; their intervals and "
    "tests are those above on their linear part (delta method), which is one number for each pair of "
    "pictures. Hypervolumes depend on the range of weights: sweep until both ends are on the front."
)


def write(
    study: Study,
    groups: Groups,
    comparisons: Sequence[Comparison],
    folder: Path,
    trade: Tradeoff | None = None,
) -> list[Path]:
    """Write all files into ``folder``, each atomically, and return their paths.

    Raises:
        UserError: If the folder cannot be written to.
        StorageError: If the disk is full.
    """
    each = [_long(c, c.rows) for c in comparisons]
    tests = [_long(c, c.tests) for c in comparisons]
    if trade:
        tests.append(_long_tradeoff(comparisons[0], trade))
    texts = {
        RESULT: pd.concat(each).to_csv(index=False),
        "tests.csv": pd.concat(tests).to_csv(index=False),
        "runs.csv": study.runs.to_csv(index=False),
        "comparison.md": markdown(study, groups, comparisons, trade),
        "comparison.tex": latex(comparisons),
    }
    if trade:
        texts["tradeoff.csv"] = _points(trade).to_csv(index=False)
    figures = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        for name, text in texts.items():
            write_text(folder / name, text)
        table = io.BytesIO()
        study.runs.to_parquet(table, index=False)
        write_bytes(folder / "runs.parquet", table.getvalue())
        if trade:
            from nstbench.analysis import tradeoff_figure

            figures = tradeoff_figure.write(trade, folder)
    except OSError as error:
        if error.errno in FULL | {errno.EIO}:
            raise StorageError(folder, error) from error
        reason = f"results cannot be written there ({error.strerror or error})"
        raise UserError("--output", folder, reason, "Type a folder that you may write to.") from error
    return [*(folder / name for name in (*texts, "runs.parquet")), *figures]


def markdown(
    study: Study, groups: Groups, comparisons: Sequence[Comparison], trade: Tradeoff | None = None
) -> str:
    """Return the whole comparison as Markdown."""
    parts = [
        f"# {study.folder.resolve().name}: comparison by {groups.by}",
        "\n".join(f"- {s}" for s in report.inventory(study)),
    ]
    if groups.along:
        parts.append(report.along(groups))
    for c in comparisons:
        table = _markdown_table([report.header(c), ["---", *["---:"] * 5, "---"], *report.cells(c)])
        parts += [f"## {report.title(c)}", table, "\n".join(f"- {s}" for s in report.sentences(c))]
    if trade:
        table = _markdown_table(
            [report.tradeoff_header(trade), ["---", *["---:"] * 4, "---"], *report.tradeoff_cells(trade)]
        )
        parts += [f"## {report.tradeoff_title(trade)}", "![Trade-off](tradeoff.png)", table]
        parts.append("\n".join(f"- {s}" for s in report.tradeoff_sentences(trade)))
    return "\n\n".join([*parts, "## Method", METHOD, *([METHOD_OF_TRADEOFF] if trade else [])]) + "\n"


def _markdown_table(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def latex(comparisons: Sequence[Comparison]) -> str:
    """Return a table for each criterion, for LaTeX with the package booktabs."""
    tables = []
    for c in comparisons:
        lines = [
            " & ".join(_tex(cell) for cell in line) + r" \\" for line in [report.header(c), *report.cells(c)]
        ]
        caption = f"{report.title(c)}; {report.pairs(c)}."
        tables.append(
            "\\begin{table}\n  \\centering\n"
            f"  \\caption{{{_tex(caption)}}}\n"
            "  \\begin{tabular}{lrrrrrl}\n    \\toprule\n"
            f"    {lines[0]}\n    \\midrule\n    " + "\n    ".join(lines[1:]) + "\n    \\bottomrule\n"
            "  \\end{tabular}\n\\end{table}\n"
        )
    return "% \\usepackage{booktabs}\n" + "\n".join(tables)


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$"}
    return "".join(special.get(c, "\\" + c if c in "&%$#_{}" else c) for c in text)


def _long(c: Comparison, table: pd.DataFrame) -> pd.DataFrame:
    first = {
        "criterion": c.criterion,
        "better": "higher" if c.higher_is_better else "lower",
        "by": c.by,
        "reference": c.reference,
        "pairs": c.pairs,
        "unit": c.sample.unit,
        "tests": len(c.tests),
    }
    return pd.concat([pd.DataFrame(first, index=table.index), table], axis=1)


def _long_tradeoff(c: Comparison, t: Tradeoff) -> pd.DataFrame:
    first = {
        "criterion": f"hypervolume({t.style}, {t.content})",
        "better": "higher",
        "by": t.by,
        "reference": t.fronts["of"][0],
        "pairs": c.pairs,
        "unit": c.sample.unit,
        "tests": len(t.tests),
    }
    return pd.concat([pd.DataFrame(first, index=t.tests.index), t.tests], axis=1)


def _points(t: Tradeoff) -> pd.DataFrame:
    """Return the points, each with the hypervolume of its front."""
    fronts = t.fronts.drop(columns="points").rename(
        columns={"low": "hypervolume_low", "high": "hypervolume_high"}
    )
    metrics = {"by": t.by, "style_metric": t.style, "content_metric": t.content}
    table = t.points.merge(fronts, on="of", how="left")
    return pd.concat([pd.DataFrame(metrics, index=table.index), table], axis=1)
