"""Trials of bad luck, which must leave no trace in what is computed.

    python -m benchmarks.robustness kills --count 100
    python -m benchmarks.robustness checkpoints records disks --count 20 --seed 3

kills: single runs and sweeps of every launcher, of one and two stages, with L-BFGS and Adam, are killed at
random moments and given again: the same bytes as undisturbed. checkpoints, records: their files are damaged
or replaced. disks: a file system runs full, or a folder vanishes (needs root, to mount one).

A line for each trial in which something was wrong, then a table of counts; exit status 1 if anything was.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.robustness.commands import preload
from benchmarks.robustness.tally import Tally

COUNTS = {"kills": 100, "checkpoints": 200, "records": 200, "disks": 100}


def _subjects() -> dict[str, Callable[[Tally, int, int, Path], None]]:
    from benchmarks.robustness.checkpoints import run_checkpoints
    from benchmarks.robustness.disks import run_disks
    from benchmarks.robustness.kills import run_kills
    from benchmarks.robustness.records import run_records

    return {"kills": run_kills, "checkpoints": run_checkpoints, "records": run_records, "disks": run_disks}


def main(typed: Sequence[str]) -> int:
    """Run the trials of the subjects that were named; return 1 if anything was wrong."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument(
        "subjects", nargs="+", choices=list(COUNTS), metavar="SUBJECT", help=", ".join(COUNTS)
    )
    parser.add_argument("--count", type=int, help=f"trials of each; default: {COUNTS}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="empty folder for the trials; default: a temporary one")
    asked = parser.parse_args(typed)
    preload()
    wrong = False
    with tempfile.TemporaryDirectory(prefix="nstbench-robustness-") as temporary:
        output = (asked.output or Path(temporary)).resolve()
        for subject in dict.fromkeys(asked.subjects):
            count = COUNTS[subject] if asked.count is None else asked.count
            tally = Tally(subject)
            try:
                _subjects()[subject](tally, count, asked.seed, output / subject)
            finally:  # after Ctrl-C as well
                print(f"\n{tally.table()}\n", flush=True)
            wrong |= tally.sound < tally.trials
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
