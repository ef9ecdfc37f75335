"""What nstbench costs beyond a plain PyTorch loop: the ratio of their step times.

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
from typing import Any, cast

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from nstbench.config import Config
from nstbench.config_files import conf_dir
from nstbench.device import choose_device
from nstbench.encoders.build import build_encoder
from nstbench.inputs import canvas_shape, content_at, load_inputs, styles_at
from nstbench.run import run
from nstbench.validation import register_resolvers, validate

BLOCK = 10
"""Steps of one side before the other's turn."""


class Alternate(pl.Callback):
    """Let the plain loop take its turn after every block of nstbench's steps, and time both.

    Args:
        plain_step: one step of the plain loop.
        synchronize: waits for the device.
    """

    def __init__(self, plain_step: Callable[[], object], synchronize: Callable[[], object]) -> None:
        self.plain_step, self.synchronize = plain_step, synchronize
        self.plain: list[float] = []
        self.ours: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of the first block."""
        self.began = time.perf_counter()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Give the plain loop its turn when nstbench has finished a block, checkpoints and all."""
        if trainer.global_step and trainer.global_step % BLOCK == 0:
            self._turn()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the plain loop its last turn, so that both have made as many steps."""
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


def plain_loop(config: Config) -> tuple[Callable[[], Any], torch.device]:
    """Return one step of what a script would do: the same objective, written out."""
    device = choose_device(config.trainer)
    encoder = build_encoder(config.encoder).to(device)
    inputs = load_inputs(config)
    shape = canvas_shape(config, inputs, config.size)
    content = content_at(inputs, shape)
    assert content is not None
    style = styles_at(config, inputs, shape, config.size)[0]
    (deep,), shallow = encoder.default_layers["content"], encoder.default_layers["style"]
    layers = [deep, *shallow]

    def gram(f: Tensor) -> Tensor:
        f = f.flatten(2)
        return f @ f.transpose(1, 2) / f.shape[2]

    def variation(x: Tensor) -> Tensor:
        return ((x[..., 1:] - x[..., :-1]) ** 2).sum() + ((x[..., 1:, :] - x[..., :-1, :]) ** 2).sum()

    roughness = variation(content.to(device))
    with torch.no_grad():
        P = encoder(content.to(device), [deep])[deep]
        A = {layer: gram(f) for layer, f in encoder(style.to(device), shallow).items()}
    x = content.to(device).clone().requires_grad_()
    optimizer = torch.optim.LBFGS([x], max_iter=1, history_size=10, tolerance_grad=0, tolerance_change=0)
    w = config.weights

    def closure() -> Tensor:
        optimizer.zero_grad()
        f = encoder(x, layers)
        loss = w.content * ((f[deep] - P) ** 2).mean() / (P**2).mean()
        for layer in shallow:
            loss = (
                loss
                + w.style / len(shallow) * ((gram(f[layer]) - A[layer]) ** 2).sum() / (A[layer] ** 2).sum()
            )
        loss = loss + w.regularizer * variation(x) / roughness
        loss.backward()
        return cast(Tensor, loss)

    return lambda: optimizer.step(closure), device  # type: ignore[no-untyped-call]


def main(overrides: Sequence[str]) -> float:
    """Print both step times and their ratio; return the ratio of the medians."""
    register_resolvers()
    with tempfile.TemporaryDirectory() as output, initialize_config_dir(str(conf_dir()), version_base="1.3"):
        own = [f"output={output}", "metrics=none", "logger=none", "canvas=pixels"]
        config = validate(compose("config", overrides=[*own, *overrides]))
        step, device = plain_loop(config)
        synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
        for _ in range(3):  # warm up: the first steps allocate
            step()
        step, _ = plain_loop(config)
        turns = Alternate(step, synchronize)
        record = run(config, callbacks=[turns]).record
        last = float(step().detach())  # of the canvas before this step
    # The first block pays for what is allocated once.
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
