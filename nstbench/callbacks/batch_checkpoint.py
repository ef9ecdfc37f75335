"""Checkpoints of a batch: one for each run, as if it were alone, so that anything can continue anything."""

from __future__ import annotations

from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.core.optimizer import LightningOptimizer

from nstbench.attempts import Fit
from nstbench.callbacks.checkpoint import Checkpoint
from nstbench.interruption import asked_to_stop
from nstbench.modules.batch_optimization import BatchOptimization
from nstbench.optimizers.batched import split


class BatchCheckpoint(pl.Callback):
    """Write the checkpoints that are due, each run's with its own row of the optimiser's state."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write every run's checkpoint that is due, or all if the runs are to stop."""
        assert isinstance(pl_module, BatchOptimization)
        stopping = asked_to_stop()  # asked once, so that all runs of the batch stop at one step
        fits = pl_module.fits
        optimizer = cast(LightningOptimizer, pl_module.optimizers()).optimizer
        for row, fit in enumerate(fits):
            own = _checkpoint_of(fit)
            if own is not None and own.is_due(fit.module, stopping=stopping, last=fit.module.is_at_end):
                state = split(optimizer, pl_module.single, row, len(fits))
                own.write(fit.module, state, [each.folder.name for each in fits])


def _checkpoint_of(fit: Fit) -> Checkpoint | None:
    return next((c for c in fit.callbacks if isinstance(c, Checkpoint)), None)
