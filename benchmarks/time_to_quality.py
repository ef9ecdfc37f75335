"""Seconds until a schedule reaches the final objective of a plain loop, at full size in float32.

The plain loop makes 500 L-BFGS steps on the pixels at the full size. Beside it, in the same process and
in turn, nstbench runs a schedule with the same encoder, pictures and objective. The canvas of its last
stage is judged by the plain loop's own objective every few evaluations, with the clocks stopped; the time
counts from the encoding of the targets, over all stages, to the first canvas that is as good.

    python -m benchmarks.time_to_quality size=512              # procedural encoder, schedule=fast
    python -m benchmarks.time_to_quality size=512 encoder=random encoder.width=1
    python -m benchmarks.time_to_quality size=512 schedule=single schedule.precision=auto --pictures out
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir

from benchmarks.measuring import machine
from benchmarks.plain import PlainLoop
from nstbench.config.files import conf_dir
from nstbench.config.resolvers import register_resolvers
from nstbench.config.validation import validate
from nstbench.modules.member import Evaluation, EvaluationCallback, Member
from nstbench.pictures.io import read_picture, write_png
from nstbench.runs.preparation import prepare
from nstbench.runs.run import run


class Race(EvaluationCallback):
    """Evaluate nstbench's canvases with the plain loop's objective, and make that loop's steps in turn.

    Args:
        plain: Plain loop.
        steps: Steps of the plain loop.
        stages: Number of stages of the schedule.
        every: Evaluations between canvases that are evaluated with the plain loop's objective.
    """

    def __init__(self, plain: PlainLoop, steps: int, stages: int, every: int) -> None:
        self.plain, self.steps, self.stages, self.every = plain, steps, stages, every
        self.stopped = 0.0
        self.seen: list[tuple[float, float]] = []
        self.began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds of nstbench, without those of the plain loop."""
        return time.perf_counter() - self.began - self.stopped

    def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
        """Evaluate a canvas of the last stage, if one is due."""
        if evaluation.stage == self.stages - 1 and evaluation.index % self.every == 0:
            self._synchronize()
            seconds, began = self.seconds, time.perf_counter()
            with torch.no_grad():
                self.seen.append((seconds, float(self.plain.objective(evaluation.picture))))
            self.stopped += time.perf_counter() - began

    def on_train_batch_end(self, *_: Any) -> None:
        """Make the plain loop's steps, up to the number of nstbench's."""
        self._synchronize()
        seconds, began = self.seconds, time.perf_counter()
        while self.plain.steps < self.steps and self.plain.seconds < seconds:
            self.plain.step()
        self.stopped += time.perf_counter() - began

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move the plain loop's tensors back to the device: stages move modules."""
        self.plain.encoder.to(self.plain.device)

    def reached(self, goal: float) -> float | None:
        """Return the seconds until a canvas was as good; None if none was."""
        return next((seconds for seconds, value in self.seen if value <= goal), None)

    def _synchronize(self) -> None:
        if self.plain.device.type == "cuda":
            torch.cuda.synchronize()


def main(typed: Sequence[str]) -> float | None:
    """Print both times and their ratio; return the ratio, None where the goal was not reached."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("overrides", nargs="*", help="overrides, as for nstbench run")
    parser.add_argument("--plain-steps", type=int, default=500)
    parser.add_argument("--every", type=int, default=2, help="evaluations between judged canvases")
    parser.add_argument("--pictures", type=Path, help="a folder for both pictures")
    asked = parser.parse_intermixed_args(typed)
    register_resolvers()
    with tempfile.TemporaryDirectory() as output, initialize_config_dir(str(conf_dir()), version_base="1.3"):
        own = [f"output={output}", "metrics=none", "logger=none", "schedule=fast", "record.curves_every=50"]
        config = validate(compose("config", overrides=[*own, *asked.overrides]))
        prepared = prepare(config)
        PlainLoop(config).step()  # warm up
        plain = PlainLoop(config)
        race = Race(plain, asked.plain_steps, len(config.schedule.stages), asked.every)
        result = run(config, callbacks=[race], prepared=prepared)
        ours = read_picture(result.folder / "canvas.png")
        total = race.seconds
        plain.encoder.to(plain.device)
        while plain.steps < asked.plain_steps:
            plain.step()
        with torch.no_grad():
            goal = float(plain.objective(plain.canvas))
        final = result.record.final_losses["loss/total"]
    reached = race.reached(goal)
    print(machine(plain.device))
    print(f"plain loop    {plain.seconds:.1f} s for {plain.steps} steps; objective {goal:.5g}")
    stages = ", ".join(f"{s['steps']} at {s['size']} px {s['precision']}" for s in result.record.stages)
    print(f"nstbench      {total:.1f} s in all ({stages}); objective {final:.5g}, {final / goal:.3f} × plain")
    if reached is None:
        print("              it did not reach the plain loop's objective")
    else:
        print(f"as good after {reached:.1f} s: {reached / plain.seconds:.3f} × plain")
    if asked.pictures:
        asked.pictures.mkdir(parents=True, exist_ok=True)
        write_png(asked.pictures / "plain.png", plain.canvas.detach().clamp(0, 1).cpu())
        write_png(asked.pictures / "nstbench.png", ours)
    return None if reached is None else reached / plain.seconds


if __name__ == "__main__":
    main(sys.argv[1:])
