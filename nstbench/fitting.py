"""Lightning's Trainer without its talk, and with exit statuses that mean what shells expect."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO


def fit(
    module: pl.LightningModule, checkpoint: Path | None, plugins: Sequence[Any] = (), **trainer_settings: Any
) -> int:
    """Train ``module`` on one device, from a checkpoint where one is given.

    Returns:
        the steps made, with those before the checkpoint.

    Args:
        module: what is trained.
        checkpoint: to continue from.
        plugins: of ``pl.Trainer``: another way to write checkpoints.
        trainer_settings: of ``pl.Trainer``.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
        SystemExit: 143 after SIGTERM.
    """
    with quiet_lightning():
        trainer = pl.Trainer(
            devices=1,
            max_epochs=-1,
            logger=False,  # our callbacks log, with steps of our own
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            # One process on one device: what a cluster's variables say of tasks is not about us, and
            # Lightning would take Slurm's signals, which are submitit's.
            plugins=[LightningEnvironment(), *(plugins or [StraightToDisk()])],
            **trainer_settings,
        )
        try:
            trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
        except SystemExit as stop:
            # Lightning turns Ctrl-C into exit status 1, and SIGTERM into 0, "done".
            if trainer.received_sigterm:
                raise SystemExit(128 + signal.SIGTERM) from stop
            raise KeyboardInterrupt from stop
        return trainer.global_step


class StraightToDisk(TorchCheckpointIO):
    """Writes checkpoints as they are: Lightning's own way makes each in memory first, history and all."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint; `save_checkpoint` sees to it that it replaces the one before in one piece."""
        torch.save(checkpoint, path)


def save_checkpoint(trainer: pl.Trainer, path: Path) -> None:
    """Write a checkpoint in one piece, replacing the one before.

    Lightning's own callback writes in place: a run killed while it writes would lose both the old
    and the new checkpoint.
    """
    part = path.with_suffix(f".{os.getpid()}.part")
    trainer.save_checkpoint(part, weights_only=False)  # with the optimiser
    os.replace(part, path)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence what Lightning says to everybody: none of it applies here."""
    with warnings.catch_warnings():
        for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.accelerators.cuda"):
            logging.getLogger(name).setLevel(logging.WARNING)
        for message in (
            ".*LeafSpec.*",
            ".*srun.*",
            ".*eval mode at the start.*",
            ".*does not have many workers.*",
            ".*resuming from a checkpoint that ended before the epoch.*",
        ):
            warnings.filterwarnings("ignore", message=message)
        yield
