"""`nstbench compare`: which value of a setting is better, by the runs of a study."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nstbench.errors import UserError

if TYPE_CHECKING:
    from nstbench.analysis.compare import Comparison

_NAMES = 10  # of unfinished, failed and damaged runs on the terminal; comparison.md has all


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `compare` to the command line."""
    parser = subparsers.add_parser(
        "compare",
        help="say which formulation, or value of another setting, is better, by the runs of a study",
        description="Compare the runs of a study in pairs that are equal in all but one setting.",
    )
    parser.add_argument("study", metavar="STUDY", type=Path, help="folder that holds a folder for each run")
    parser.add_argument("--by", metavar="SETTING", default="loss.style", help="default: loss.style")
    parser.add_argument(
        "--criterion",
        metavar="METRIC",
        nargs="+",
        action="extend",
        help="default: cross/others, or else gram_distance; and ssim",
    )
    parser.add_argument("--baseline", metavar="NAME", help="test the others against this value only")
    parser.add_argument("--output", metavar="DIR", type=Path, help="default: STUDY/comparison")
    parser.set_defaults(func=main)


def main(args: argparse.Namespace) -> int:
    """Compare, print and write the files; return the exit status 0.

    Raises:
        UserError: no such folder, nothing to compare, an unknown setting, metric or baseline.
    """
    from nstbench.analysis import report
    from nstbench.analysis.compare import compare, group
    from nstbench.analysis.criteria import choose, higher_is_better
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
    output = args.output.expanduser() if args.output else study.folder / "comparison"
    written = report.write(study, groups, comparisons, output)
    said = [*report.inventory(study, most=_NAMES), *([report.along(groups)] if groups.along else [])]
    _show(said, comparisons, written)
    return 0


def _show(said: list[str], comparisons: list[Comparison], written: list[Path]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from nstbench.analysis import report

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 300  # a file or a pipe has no width: one line per entry, for grep
    for sentence in said:
        console.print(Text(sentence), soft_wrap=not console.is_terminal)
    for c in comparisons:
        table = Table(title=Text(report.title(c)), title_justify="left", box=None, pad_edge=False)
        for place, name in enumerate(report.header(c)):
            table.add_column(Text(name), justify="right" if 1 <= place <= 5 else "left", overflow="fold")
        for row in report.cells(c):
            table.add_row(*(Text(cell) for cell in row))
        console.print()
        console.print(table)
        for sentence in report.sentences(c):
            console.print(Text(sentence), soft_wrap=not console.is_terminal)
    console.print()
    for path in written:
        console.print(Text(str(path)), soft_wrap=True)
