"""Checkpoints: what an interrupted run continues from, to the same bits on a CPU."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytorch_lightning as pl
import torch

from nstbench.callbacks.curves import Curves
from nstbench.fitting import save_checkpoint
from nstbench.interruption import asked_to_stop
from nstbench.modules.image_optimization import ImageOptimization


class Checkpoint(pl.Callback):
    """Write ``checkpoint.ckpt`` every k steps, in one piece, replacing the one before.

    Args:
        path: of the checkpoint.
        every: steps between checkpoints.
        curves: whose seconds are kept, so that they count all attempts.
    """

    def __init__(self, path: Path, every: int, curves: Curves) -> None:
        self.path, self.every, self.curves = path, every, curves

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write if a checkpoint is due, or the run is to stop."""
        assert isinstance(pl_module, ImageOptimization)
        if self.is_due(pl_module.steps_before + trainer.global_step):
            save_checkpoint(trainer, self.path)

    def is_due(self, steps: int) -> bool:
        """Tell whether to write one after so many steps, over all stages."""
        return steps % self.every == 0 or asked_to_stop()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the clock."""
        return {"seconds": self.curves.seconds}


# What `ImageOptimization` writes, and continues from.
_KEYS = {
    "stage",
    "evaluations",
    "steps_before",
    "scales",
    "encoding",
    "plateau",
    "stopped_early",
    "stages_done",
}


class Stop(pl.Callback):
    """End the run after the step at which it was asked to."""

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop as Ctrl-C does, if asked to.

        Raises:
            KeyboardInterrupt: the user asked for it.
        """
        if asked_to_stop():
            raise KeyboardInterrupt


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return what a checkpoint says of the run's progress; None if there is none that can be continued.

    Keys: ``stage``, ``step`` (over all stages), ``evaluations``, ``seconds``.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        progress: dict[str, Any] = dict(checkpoint["nstbench"])
        seconds = [s["seconds"] for s in checkpoint["callbacks"].values() if "seconds" in s]
        if not progress.keys() >= _KEYS:
            return None  # of an older nstbench: its run begins anew
    except (OSError, RuntimeError, KeyError, EOFError, ValueError, UnpicklingError):
        return None
    step = progress["steps_before"] + checkpoint["global_step"]
    return {**progress, "step": step, "seconds": seconds[0] if seconds else 0.0}
