"""Seconds from a command to its first output: ``--help``, an error, and the first step of a run.

Each command is started anew, in turn with the others, and with a script that only imports torch and
Lightning: what no run on them can start without. The first step is made when the first row of
curves.csv is there. The disk is warm: a first round is not counted.

    python -m benchmarks.startup
    python -m benchmarks.startup --against ../main       # the same of another checkout, in turn
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.measuring import machine, put

HERE = Path(__file__).resolve().parent.parent
IMPORTS = "only the imports: torch, pytorch_lightning"
RUN = ("size=256", "steps=1", "record.curves_every=1", "record.progress=false")


def _environment(checkout: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(checkout), "WANDB_MODE": "offline", "WANDB_SILENT": "true"}


def until_exit(checkout: Path, *command: str) -> Callable[[], float]:
    """Return a function that runs a command of Python's and returns the seconds until it has ended."""

    def call() -> float:
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, *command], env=_environment(checkout), capture_output=True, check=False
        )
        return time.perf_counter() - began

    return call


def until_first_step(checkout: Path, *overrides: str) -> Callable[[], float]:
    """Return a function that starts a run and returns the seconds until it has made its first step."""

    def call() -> float:
        with tempfile.TemporaryDirectory() as output:
            command = [sys.executable, "-m", "nstbench", "run", *RUN, *overrides, f"output={output}"]
            began = time.perf_counter()
            process = subprocess.Popen(
                command, env=_environment(checkout), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            while not [*Path(output).glob("*/*/curves.csv")] and process.poll() is None:
                time.sleep(0.01)
            seconds = time.perf_counter() - began
            process.wait()
        return seconds

    return call


def measure(checkouts: Sequence[Path], rounds: int) -> dict[tuple[str, Path], list[float]]:
    """Return the seconds of every command in every checkout, all in turn."""
    calls: dict[tuple[str, Path], Callable[[], float]] = {}
    calls[IMPORTS, HERE] = until_exit(HERE, "-c", "import torch, pytorch_lightning")
    for checkout in checkouts:
        ours = ("-m", "nstbench")
        calls["nstbench --help", checkout] = until_exit(checkout, *ours, "--help")
        calls["nstbench run --help", checkout] = until_exit(checkout, *ours, "run", "--help")
        calls["a picture that is not there", checkout] = until_exit(checkout, *ours, "run", "content=no.jpg")
        files = ["content=sample:chelsea", "style=sample:coffee"]
        calls["first step, no dashboard", checkout] = until_first_step(checkout, *files, "logger=none")
        calls["first step, wandb offline", checkout] = until_first_step(checkout, *files)
        calls["first step of `nstbench run`", checkout] = until_first_step(checkout)
    seconds: dict[tuple[str, Path], list[float]] = {what: [] for what in calls}
    for i in range(rounds + 1):
        for what, call in calls.items():
            took = call()
            if i:
                seconds[what].append(took)
    return seconds


def main(typed: Sequence[str]) -> None:
    """Measure, print, and write where that is asked for."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--write", action="store_true", help="update benchmarks/README.md")
    asked = parser.parse_args(typed)
    checkouts = [HERE, *([asked.against.resolve()] if asked.against else [])]
    seconds = measure(checkouts, asked.rounds)
    names = dict.fromkeys(what for what, _ in seconds)
    before = "| before " if asked.against else ""
    table = [
        f"{machine(torch.device('cpu'))}; seconds, medians of {asked.rounds}, in turn.",
        "",
        f"| | s {before}|",
        f"|---|---:|{'---:|' if asked.against else ''}",
    ]
    for name in names:
        cells = [seconds.get((name, checkout), []) for checkout in checkouts]
        table.append(f"| {name} | {' | '.join(f'{statistics.median(c):.2f}' if c else '' for c in cells)} |")
    print("\n".join(table))
    if asked.write:
        put("startup", "\n".join(table))


if __name__ == "__main__":
    main(sys.argv[1:])
