"""The time of a step of nstbench, compared with that of a plain PyTorch loop.

Both run the same encoder, losses and L-BFGS on the pixels of the same pictures, in one process,
alternating block by block, so that a busy machine slows both alike. nstbench's side is the run a user
gets: Lightning, curves, checkpoints, the progress bar; dashboards where they are asked for
(logger=[wandb]). The ratio of the medians leaves out the blocks that write a checkpoint, that of the
totals counts all.

    python -m benchmarks.overhead                                   # 256 px, 200 steps a side
    python -m benchmarks.overhead size=64 steps=60 encoder=random encoder.width=0.25
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir

from benchmarks.measuring import synchronizer
from benchmarks.plain import PlainLoop
from nstbench.config.files import conf_dir
from nstbench.config.resolvers import register_resolvers
from nstbench.config.validation import validate
from nstbench.runs.run import run

BLOCK = 10
"""Steps of one side before the other's turn."""


class Alternate(pl.Callback):
    """Make a block of the plain loop's steps after every block of nstbench's, and time both.

    Args:
        plain_step: Function that makes a step of the plain loop.
        synchronize: Function that waits for the device.
    """

    def __init__(self, plain_step: Callable[[], object], synchronize: Callable[[], object]) -> None:
        self.plain_step, self.synchronize = plain_step, synchronize
        self.plain: list[float] = []
        self.ours: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of the first block."""
        self.began = time.perf_counter()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Make a block of the plain loop's steps when nstbench has finished one, with its checkpoints."""
        if trainer.global_step and trainer.global_step % BLOCK == 0:
            self._turn()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the plain loop's last block, so that both have made as many steps."""
        self._turn()

    def _turn(self) -> None:
        self.synchronize()
        turn = time.perf_counter()
        self.ours.append((turn - self.began) / BLOCK)
        for _ in range(BLOCK):
            self.plain_step()
        self.synchronize()
        self.began = time.perf_counter()
        self.plain.append((self.began - turn) / BLOCK)


def main(overrides: Sequence[str]) -> float:
    """Print both step times and their ratio; return the ratio of the medians."""
    register_resolvers()
    with tempfile.TemporaryDirectory() as output, initialize_config_dir(str(conf_dir()), version_base="1.3"):
        own = [f"output={output}", "metrics=none", "logger=none", "canvas=pixels"]
        config = validate(compose("config", overrides=[*own, *overrides]))
        plain_loop = PlainLoop(config)
        for _ in range(3):  # warm up: the first steps allocate
            plain_loop.step()
        step = PlainLoop(config).step
        turns = Alternate(step, synchronizer(plain_loop.device))
        record = run(config, callbacks=[turns]).record
        last = float(step())  # of the canvas before this step
    # The first block includes allocations that are made once.
    ours, plain = statistics.median(turns.ours[1:]), statistics.median(turns.plain[1:])
    print(f"device        {record.device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    done, final, blocks = len(turns.plain) * BLOCK, record.final_losses["loss/total"], len(turns.ours) - 1
    print(f"plain loop    {1000 * plain:.2f} ms a step; objective {last:.5g} after {done} steps")
    print(f"nstbench      {1000 * ours:.2f} ms a step; objective {final:.5g} after {record.steps} steps")
    print(f"ratio         {ours / plain:.3f}, medians of {blocks} blocks of {BLOCK} steps, alternating")
    print(f"              {sum(turns.ours[1:]) / sum(turns.plain[1:]):.3f}, totals")
    return ours / plain


if __name__ == "__main__":
    main(sys.argv[1:])
