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
_LONGEST_WAIT = 60.0  # seconds for a sweep to begin its first run
_POLL_INTERVAL = 0.5


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `report` to the command line."""
    parser = subparsers.add_parser(
        "report",
        help="write the pictures, metrics, curves and failures of a study as a web page",
        description="Write a folder with an index.html that opens from disk: no server, no network.",
    )
    parser.add_argument("study", metavar="STUDY", type=Path, help="folder that holds a folder for each run")
    parser.add_argument("--output", metavar="DIR", type=Path, help="default: STUDY/report")
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        const=str(_SECONDS),
        help="wait for the first run, and write the page again every SECONDS while runs are not finished "
        f"(default: {_SECONDS:g})",
    )
    parser.set_defaults(func=main)


def main(args: argparse.Namespace) -> int:
    """Write the report, and print its path; return the exit status 0.

    Raises:
        UserError: There is no such folder, or no run in it, or the report cannot be written.
    """
    seconds = _parse_interval(args.watch)
    from nstbench.analysis.output import output_folder
    from nstbench.analysis.report.write import Report, check_output_folder

    study = args.study.expanduser()
    output = output_folder(study, args.output, "report")
    if seconds:
        check_output_folder(output)  # rather now than in a minute
        if not _wait_for_first_run(study):
            return 0
    report = Report(study, output, tell=lambda text: print(text, file=sys.stderr))
    unfinished = report.write(watched=seconds)
    print(report.output / "index.html", flush=True)
    if seconds and unfinished:
        _watch(report, seconds)
    return 0


def _wait_for_first_run(study: Path) -> bool:
    """Wait for the first run of a sweep that was started just now; return False if the user stops waiting."""
    from nstbench.analysis.report.problems import begun

    if (study / "run.json").exists() or (study.exists() and not study.is_dir()) or begun(study):
        return True
    text = f"There is no run in {study} yet: waiting for one, at most {_LONGEST_WAIT:g} s. Ctrl-C stops."
    print(text, file=sys.stderr, flush=True)
    until = time.monotonic() + _LONGEST_WAIT
    try:
        while not begun(study) and time.monotonic() < until:
            time.sleep(_POLL_INTERVAL)
    except KeyboardInterrupt:
        print("No page was written.", file=sys.stderr)
        return False
    return True


def _watch(report: Report, seconds: float) -> None:
    unfinished = True
    print(f"The page is written again every {seconds:g} s. Ctrl-C stops.", flush=True)
    try:
        while unfinished:
            time.sleep(seconds)
            unfinished = report.write(watched=seconds)
        print("All runs have ended.")
    except KeyboardInterrupt:
        report.write()  # without `watched`, the page no longer reloads itself
        print("The page is not written again.")


def _parse_interval(given: str | None) -> float | None:
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0.5 <= seconds <= 86_400:
        hint = "Type --watch 5, for example, after STUDY."
        raise UserError("--watch", given, "it must be a number of seconds from 0.5 to 86400", hint)
    return seconds
