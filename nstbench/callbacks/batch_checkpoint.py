"""Checkpoints of a batch: one for each run, as if it were alone, so that anything can continue anything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import CheckpointIO

from nstbench.attempts import Fit
from nstbench.callbacks.checkpoint import Checkpoint
from nstbench.modules.batch_optimization import BatchOptimization
from nstbench.optimizers.batched import join, split


class BatchCheckpoint(pl.Callback):
    """Have Lightning write a checkpoint when one is due for any of the runs."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write if a checkpoint is due, or the runs are to stop."""
        assert isinstance(pl_module, BatchOptimization)
        if due(pl_module):
            trainer.save_checkpoint(pl_module.fits[0].folder / "checkpoint.ckpt", weights_only=False)


class RunsOwn(CheckpointIO):
    """Lightning's way to checkpoints: takes a batch's apart, and puts it together.

    Args:
        module: of the batch.
    """

    def __init__(self, module: BatchOptimization) -> None:
        self.module = module

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write the checkpoint of every run for which one is due, each in one piece."""
        optimizer = self.module.trainer.optimizers[0]
        size = len(self.module.fits)
        for row, own in due(self.module):
            module = self.module.fits[row].module
            canvas = {
                name: value.clone() for name, value in module.canvas.state_dict(prefix="canvas.").items()
            }
            of_run = {
                **checkpoint,
                "state_dict": canvas,
                "optimizer_states": [split(optimizer, self.module.single, row, size)],
                "callbacks": {own.state_key: own.state_dict()},
            }
            module.on_save_checkpoint(of_run)
            part = own.path.with_suffix(f".{os.getpid()}.part")
            torch.save(of_run, part)
            os.replace(part, own.path)

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return the checkpoints of all runs as one; each run is told of its own."""
        found = []
        for fit in self.module.fits:
            assert fit.checkpoint is not None
            found.append(torch.load(fit.checkpoint, map_location="cpu", weights_only=True))
            fit.module.on_load_checkpoint(found[-1])
        states = [each["state_dict"] for each in found]
        optimizers = [each["optimizer_states"][0] for each in found]
        return {
            **found[0],
            "state_dict": {name: torch.cat([state[name] for state in states]) for name in states[0]},
            "optimizer_states": [join(optimizers, self.module.configure_optimizers())],
            "callbacks": {},
        }

    def remove_checkpoint(self, path: str | Path) -> None:
        """Leave it: a run removes its own when it is complete."""


def due(module: BatchOptimization) -> list[tuple[int, Checkpoint]]:
    """Return the rows for which a checkpoint is due, and the runs' own callbacks that write them."""
    steps = module.steps_before + module.global_step
    own = [(row, _checkpoint_of(fit)) for row, fit in enumerate(module.fits)]
    return [(row, each) for row, each in own if each is not None and each.is_due(steps)]


def _checkpoint_of(fit: Fit) -> Checkpoint | None:
    return next((c for c in fit.callbacks if isinstance(c, Checkpoint)), None)
