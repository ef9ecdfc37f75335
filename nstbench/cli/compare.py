"""`nstbench compare`: which value of a setting is better, by the runs of a study."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nstbench.errors import UserError

if TYPE_CHECKING:
    from nstbench.analysis.comparison import Comparison
    from nstbench.analysis.grouping import Groups
    from nstbench.analysis.records import Study
    from nstbench.analysis.tradeoff import Tradeoff

_NAMES = 10  # of unfinished, failed and damaged runs on the terminal; comparison.md has all


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `compare` to the command line."""
    parser = subparsers.add_parser(
        "compare",
        help="compare formulations, or values of another setting, by the runs of a study",
        description="Compare the runs of a study in pairs that are equal in all but one setting.",
    )
    parser.add_argument("study", metavar="STUDY", type=Path, help="folder that holds a folder for each run")
    parser.add_argument(
        "--by",
        metavar="SETTING",
        default="loss.style",
        help="a setting, or a group such as optimizer; default: loss.style",
    )
    parser.add_argument(
        "--criterion",
        metavar="METRIC",
        nargs="+",
        action="extend",
        help="default: cross/others, or else gram_distance; and ssim",
    )
    parser.add_argument("--baseline", metavar="NAME", help="test the others against this value only")
    parser.add_argument(
        "--tradeoff",
        metavar=("STYLE", "CONTENT"),
        nargs=2,
        help="draw one metric against the other over weights.style; default: cross/others, or else "
        "gram_distance, and ssim",
    )
    parser.add_argument("--output", metavar="DIR", type=Path, help="default: STUDY/comparison")
    parser.set_defaults(func=main)


def main(args: argparse.Namespace) -> int:
    """Compare, print and write the files; return the exit status 0.

    Raises:
        UserError: There is no such folder, nothing to compare, or no data for the trade-off asked for; or a
            setting, metric or baseline is unknown.
    """
    from nstbench.analysis import comparison_files as files
    from nstbench.analysis import comparison_text as report
    from nstbench.analysis.comparison import compare
    from nstbench.analysis.criteria import choose, higher_is_better
    from nstbench.analysis.grouping import group
    from nstbench.analysis.output import output_folder
    from nstbench.analysis.records import read_study

    study = read_study(args.study.expanduser())
    if not (study.runs["state"] == "completed").any():
        found = " ".join(report.inventory(study, most=_NAMES)) if len(study.runs) else "It holds no runs."
        raise UserError("STUDY", args.study, "no run in it is completed", found)
    groups = group(study, args.by)
    comparisons = [
        compare(study, groups, name, higher_is_better=higher_is_better(study, name), baseline=args.baseline)
        for name in choose(study, args.criterion)
    ]
    trade, why_not = _tradeoff(study, groups, args.tradeoff)
    output = output_folder(study.folder, args.output, "comparison")
    written = files.write(study, groups, comparisons, output, trade)
    notes = [*report.inventory(study, most=_NAMES), *([report.along(groups)] if groups.along else [])]
    _show([*notes, *why_not], comparisons, trade, written)
    return 0


def _tradeoff(study: Study, groups: Groups, asked: list[str] | None) -> tuple[Tradeoff | None, list[str]]:
    """Return the trade-off, or None and the reason; if the user asked for one, raise the reason."""
    from nstbench.analysis.tradeoff import default_metrics, tradeoff

    metrics = asked or default_metrics(study)
    if not metrics:
        return None, []
    try:
        return tradeoff(study, groups, *metrics), []
    except UserError as error:
        if asked:
            raise
        return None, [f"No trade-off of {' and '.join(metrics)}: {error.reason}."]


def _show(
    notes: list[str], comparisons: list[Comparison], trade: Tradeoff | None, written: list[Path]
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from nstbench.analysis import comparison_text as report

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 300  # a file or a pipe has no width: one line per entry, for grep
    for sentence in notes:
        console.print(Text(sentence), soft_wrap=not console.is_terminal)
    parts = [(report.title(c), report.header(c), report.cells(c), report.sentences(c)) for c in comparisons]
    if trade:
        heading, header = report.tradeoff_title(trade), report.tradeoff_header(trade)
        parts.append((heading, header, report.tradeoff_cells(trade), report.tradeoff_sentences(trade)))
    for heading, header, rows, sentences in parts:
        table = Table(title=Text(heading), title_justify="left", box=None, pad_edge=False)
        for name in header:
            words = name in (header[0], "verdict")
            table.add_column(Text(name), justify="left" if words else "right", overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print()
        console.print(table)
        for sentence in sentences:
            console.print(Text(sentence), soft_wrap=not console.is_terminal)
    console.print()
    for path in written:
        console.print(Text(str(path)), soft_wrap=True)
