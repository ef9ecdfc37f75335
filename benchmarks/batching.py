"""The time of a batch of 8 runs, compared with that of 8 runs one after the other.

    python -m benchmarks.batching                       # on a GPU where there is one, else on the CPU
    python -m benchmarks.batching --device cpu --sizes 64 --encoders procedural
    python -m benchmarks.batching --optimizer adam --runs 16

Both sides take as many steps with the same canvases, in one process and in turns, so that a busy machine
slows both; medians over the rounds. Only steps are timed (with curves, callbacks and Lightning's loop), not
what comes before the first. The runs differ in seed, style picture and weight. Random weights cost what
trained ones do. With --size auto batches are as large as hydra.launcher.size=auto makes them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir

from nstbench.config.files import conf_dir
from nstbench.config.instantiate import build
from nstbench.config.resolvers import register_resolvers
from nstbench.config.validation import validate
from nstbench.modules.footprint import memory_of
from nstbench.runs.batch import max_batch_size
from nstbench.runs.preparation import prepare
from nstbench.runs.run import Run
from nstbench.runs.stages import optimize
from nstbench.runs.targets import EncodedPictures
from nstbench.runtime.device import device_name
from nstbench.sweeps.plugins import register_launchers

ENCODERS = {
    "procedural": ["encoder=procedural"],
    "vgg19": ["encoder=random", "encoder.shape=vgg19", "encoder.width=1.0"],
}
STYLES = ("procedural:woodcut", "procedural:mosaic", "procedural:glass", "procedural:batik")


class Stopwatch(pl.Callback):
    """Sum of the seconds from the first to the last step of every fit."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, 0.0

    def on_train_start(self, *_: Any) -> None:
        """Start."""
        self.began = self._now()

    def on_train_end(self, *_: Any) -> None:
        """Stop."""
        self.seconds += self._now() - self.began

    def read(self) -> float:
        """Return the seconds, and reset them."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def begin(output: str, number: int, watch: Stopwatch, overrides: Sequence[str]) -> list[Run]:
    """Open runs, and begin the first stage of each."""
    runs, encoded = [], EncodedPictures()
    for i in range(number):
        own = [f"seed={i}", f"pictures.style={STYLES[i % len(STYLES)]}", f"weights.style={10 + i}"]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = validate(compose("config", overrides=[*overrides, *own, f"output={output}"]))
        run = Run.open(config, prepare(config), callbacks=[watch] if i == 0 else [])
        run.begin_stage(encoded)
        runs.append(run)
    return runs


def repeat(runs: Sequence[Run]) -> None:
    """Optimise the present stage of runs from its first step on; the canvases go on from where they are."""
    for run in runs:
        run.member.progress.stage_step = 0
    optimize(runs)
    for run in runs:
        if run.member.error is not None:
            raise run.member.error


def measure(runs: Sequence[Run], size: int, watch: Stopwatch, rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each round of a stage: one after the other, and in batches of ``size``."""
    apart, together = [], []
    for run in runs:
        run.member.callbacks = [watch]
    for _ in range(rounds + 1):
        for run in runs:
            repeat([run])
        apart.append(watch.read())
        for at in range(0, len(runs), size):
            batch = runs[at : at + size]
            for run in batch[1:]:
                run.member.callbacks = []
            repeat(batch)
            for run in batch[1:]:
                run.member.callbacks = [watch]
        together.append(watch.read())
    return apart[1:], together[1:]  # the first round allocates


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table: milliseconds of a step of all runs, apart and together, and their ratio."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--encoders", nargs="+", choices=list(ENCODERS), default=list(ENCODERS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 128, 256], help="sizes of canvases, px")
    parser.add_argument("--optimizer", default="lbfgs")
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--size", choices=["all", "auto"], default="all", help="size of batches")
    parser.add_argument("--steps", type=int, default=10, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("overrides", nargs="*", help="settings of the runs, such as loss/style=[moments]")
    given = parser.parse_args(arguments)
    register_resolvers()
    register_launchers()
    overrides = ["metrics=none", "logger=none", "record.progress=false", "canvas.start=noise"]
    overrides += [f"trainer={given.device}", f"optimizer={given.optimizer}", f"steps={given.steps}"]
    device = _device(given.device)
    print(f"{device_name(device)}, {torch.get_num_threads()} threads, torch {torch.__version__};", end=" ")
    rounds = f"medians of {given.rounds} rounds of {given.steps} steps"
    print(f"{given.runs} runs, {given.optimizer}; {rounds}\n")
    print("| encoder | px | batch | apart, ms a step of all | together | ratio | from … to | MB a canvas |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for encoder in given.encoders:
        for px in given.sizes:
            chosen = [*overrides, *ENCODERS[encoder], f"size={px}", *given.overrides]
            print(_row(encoder, px, given, device, chosen), flush=True)


def _row(
    encoder: str, px: int, given: argparse.Namespace, device: torch.device, overrides: Sequence[str]
) -> str:
    watch = Stopwatch(device)
    with tempfile.TemporaryDirectory() as output:
        runs = begin(output, given.runs, watch, overrides)
        try:
            optimizer = build(runs[0].config.optimizer)(runs[0].member.canvas.parameters())
            need = memory_of(runs[0].member, optimizer)
            size = given.runs if given.size == "all" else min(given.runs, max_batch_size(runs[0]))
            apart, together = measure(runs, size, watch, given.rounds)
        finally:
            for run in runs:
                run.close(KeyboardInterrupt())
    ratios = [a / b for a, b in zip(apart, together, strict=True)]
    a, b = (1000 * statistics.median(x) / given.steps for x in (apart, together))
    spread = f"{min(ratios):.2f} … {max(ratios):.2f}"
    middle = statistics.median(ratios)
    return f"| {encoder} | {px} | {size} | {a:.1f} | {b:.1f} | {middle:.2f} | {spread} | {need / 2**20:.0f} |"


def _device(name: str) -> torch.device:
    cuda = name == "cuda" or (name == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if cuda else "cpu")


if __name__ == "__main__":
    main(sys.argv[1:])
