"""`nstbench report`: the pictures, metrics, curves and failures of a study as a page that opens from disk."""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from nstbench.errors import UserError

if TYPE_CHECKING:
    from nstbench.analysis.report.write import Report

_SECONDS = 5.0
_PATIENCE = 60.0  # seconds for a sweep to have its first run
_GLANCE = 0.5


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `report` to the command line."""
    parser = subparsers.add_parser(
        "report",
        help="write the pictures, metrics, curves and failures of a study as a page to look at and to send",
        description="Write a folder with an index.html that opens from disk: no server, no network.",
    )
    parser.add_argument("study", metavar="STUDY", type=Path, help="folder that holds a folder for each run")
    parser.add_argument("--output", metavar="DIR", type=Path, help="default: STUDY/report")
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        const=str(_SECONDS),
        help="wait for the first run, and write it again while runs are under way, every so many seconds "
        f"(default: {_SECONDS:g})",
    )
    parser.set_defaults(func=main)


def main(args: argparse.Namespace) -> int:
    """Write the report, and say where it is; return the exit status 0.

    Raises:
        UserError: no such folder, no run in it, or the report cannot be written.
    """
    seconds = _interval(args.watch)
    from nstbench.analysis.output import output_folder
    from nstbench.analysis.report.write import Report, check_output_folder

    study = args.study.expanduser()
    output = output_folder(study, args.output, "report")
    if seconds:
        check_output_folder(output)  # rather now than in a minute
        if not _wait_for_first_run(study):
            return 0
    report = Report(study, output, tell=lambda text: print(text, file=sys.stderr))
    going_on = report.write(watched=seconds)
    print(report.output / "index.html", flush=True)
    if seconds and going_on:
        _watch(report, seconds)
    return 0


def _wait_for_first_run(study: Path) -> bool:
    """Give a sweep that was started just now the time to begin; return False if the user has enough of it."""
    from nstbench.analysis.report.problems import begun

    if (study / "run.json").exists() or (study.exists() and not study.is_dir()) or begun(study):
        return True
    said = f"There is no run in {study} yet: waiting for one, at most {_PATIENCE:g} s. Ctrl-C stops that."
    print(said, file=sys.stderr, flush=True)
    until = time.monotonic() + _PATIENCE
    try:
        while not begun(study) and time.monotonic() < until:
            time.sleep(_GLANCE)
    except KeyboardInterrupt:
        print("No page was written.", file=sys.stderr)
        return False
    return True


def _watch(report: Report, seconds: float) -> None:
    going_on = True
    print(f"The page follows the runs, every {seconds:g} s. Ctrl-C stops that.", flush=True)
    try:
        while going_on:
            time.sleep(seconds)
            going_on = report.write(watched=seconds)
        print("All runs have ended.")
    except KeyboardInterrupt:
        report.write()  # as it stands: the page no longer looks for changes
        print("The page stays as it is now.")


def _interval(given: str | None) -> float | None:
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0.5 <= seconds <= 86_400:
        hint = "Write --watch 5, for example; STUDY goes before it."
        raise UserError("--watch", given, "a number of seconds, 0.5 at least", hint)
    return seconds
