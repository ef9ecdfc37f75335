"""Checkpoints of a batch: one for each run, as if it were alone, so that anything can continue anything."""

from __future__ import annotations

from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.core.optimizer import LightningOptimizer

from nstbench.callbacks.checkpoint import Checkpoint
from nstbench.errors import FULL, StorageError
from nstbench.modules.batch_optimization import BatchOptimization
from nstbench.optimizers.rows import split
from nstbench.runs.attempts import Fit
from nstbench.runtime.interruption import stop_requested


class BatchCheckpoint(pl.Callback):
    """Write the checkpoints that are due, each run's with its own row of the optimiser's state."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write every run's checkpoint that is due, or all if the runs are to stop.

        A run whose folder cannot be written to leaves the batch.

        Raises:
            StorageError: The disk is full.
        """
        assert isinstance(pl_module, BatchOptimization)
        stopping = stop_requested()  # asked once, so that all runs of the batch stop at one step
        fits = pl_module.fits
        optimizer = cast(LightningOptimizer, pl_module.optimizers()).optimizer
        names = [fit.folder.name for fit in fits]
        leaving: dict[int, Exception] = {}
        for row, fit in enumerate(fits):
            own = _checkpoint_of(fit)
            if own is not None and own.is_due(fit.module, stopping=stopping, last=fit.module.is_at_end):
                try:
                    own.write(fit.module, split(optimizer, pl_module.single, row, len(fits)), names)
                except StorageError as error:
                    if error.errno in FULL:
                        raise  # the others' disk is full, too: all stop, and continue together
                    leaving[row] = error
        if leaving:
            pl_module.leave(leaving)


def _checkpoint_of(fit: Fit) -> Checkpoint | None:
    return next((c for c in fit.callbacks if isinstance(c, Checkpoint)), None)
