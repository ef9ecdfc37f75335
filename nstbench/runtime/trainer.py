"""Lightning's Trainer with fewer messages, and with the exit statuses that shells expect."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins import CheckpointIO
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from nstbench.runtime.files import storage, write_atomically
from nstbench.runtime.tensor_file import read_tensors, write_tensors


def fit(module: pl.LightningModule, checkpoint: Path | None = None, **trainer_settings: Any) -> None:
    """Train ``module`` on one device, from a checkpoint where one is given.

    Args:
        module: Module to train.
        checkpoint: Checkpoint to continue from, written by `save_checkpoint`.
        trainer_settings: Settings of ``pl.Trainer``.

    Raises:
        KeyboardInterrupt: After Ctrl-C.
        SystemExit: 143 after SIGTERM.
    """
    with quiet_lightning():
        trainer = pl.Trainer(
            devices=1,
            max_epochs=-1,
            logger=False,  # nstbench's callbacks log, with evaluations as steps
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            # One process on one device. Otherwise Lightning reads a cluster's environment variables about
            # tasks, and handles Slurm's signals, which submitit has to handle.
            plugins=[LightningEnvironment(), TensorFileIO()],
            **trainer_settings,
        )
        try:
            trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
        except SystemExit as stop:
            # Lightning turns Ctrl-C into exit status 1, and SIGTERM into 0, which means success.
            if trainer.received_sigterm:
                raise SystemExit(128 + signal.SIGTERM) from stop
            raise KeyboardInterrupt from stop


class TensorFileIO(CheckpointIO):
    """Lightning's checkpoints as files whose damage is detected (`nstbench.runtime.tensor_file`).

    They are written directly to the disk: Lightning's own class makes each in memory first.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint; it replaces an earlier one when it is complete."""
        write_atomically(Path(path), lambda file: write_tensors(file, checkpoint))

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return a checkpoint, on the CPU."""
        return read_tensors(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint."""
        Path(path).unlink(missing_ok=True)


def save_checkpoint(trainer: pl.Trainer, path: Path) -> None:
    """Write a checkpoint of a Trainer; the one before is kept as ``<name>.previous<suffix>``."""
    fresh = path.with_suffix(f".next{path.suffix}")
    trainer.save_checkpoint(fresh, weights_only=False)  # with the optimiser
    with storage(path.parent, path):
        if path.is_file():
            os.replace(path, path.with_suffix(f".previous{path.suffix}"))
        os.replace(fresh, path)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's general hints and warnings, which do not apply here."""
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
