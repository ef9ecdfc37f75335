"""The training of the encoder as a LightningModule."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from nstbench.encoders.preprocessing import Preprocessing
from nstbench.training.network import TextureNet
from nstbench.training.schema import PhaseSettings, TrainConfig
from nstbench.training.tasks import Heads
from nstbench.training.textures.collage import Collage, collage
from nstbench.training.textures.fields import Array

_WARM_UP = 0.03  # fraction of the steps over which the learning rate rises


class TextureTraining(pl.LightningModule):
    """Trains a network to classify textures, everywhere in a collage, at three depths.

    Every step draws its batch with a seed of its own, so that a resumed training equals one without
    interruption, and two trainings with one seed are equal on a CPU.

    Args:
        config: Configuration of the training.
        bank: Pictures ``(programs, pictures, size, size, 3)``, uint8.
    """

    def __init__(self, config: TrainConfig, bank: Array) -> None:
        super().__init__()
        self.config, self.bank = config, bank
        self.preprocessing = Preprocessing("torch")
        self.net = TextureNet(config.network.widths).to(memory_format=torch.channels_last)
        self.heads = Heads(config.network.widths, config.bank.programs, config.tasks)
        self.measured: dict[str, Tensor] = {}

    @property
    def steps(self) -> int:
        """Number of steps of all phases."""
        return sum(phase.steps for phase in self.config.phases)

    def phase_at(self, step: int) -> PhaseSettings:
        """Return the phase of a step."""
        for phase in self.config.phases:
            if step < phase.steps:
                return phase
            step -= phase.steps
        return self.config.phases[-1]

    def losses(self, phase: PhaseSettings, step: int) -> dict[str, Tensor]:
        """Return the values of a step by name; ``loss`` is the one to minimise."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_000_007 + step)
        drawn = collage(
            self.bank,
            slice(0, self.config.bank.pictures - self.config.bank.held_out),
            phase.batch,
            phase.crop,
            generator,
            textures=self.config.textures,
            recolour=self.config.recolour,
        )
        drawn = Collage(drawn.pictures.to(self.device), drawn.labels.to(self.device))
        x = self.preprocessing(drawn.pictures).contiguous(memory_format=torch.channels_last)
        values: dict[str, Tensor] = self.heads(self.net(x), drawn, x, generator)
        return values

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of one step."""
        values = self.losses(self.phase_at(self.global_step), self.global_step)
        self.measured = {name: value.detach() for name, value in values.items()}
        return values["loss"]

    def configure_optimizers(self) -> Any:
        """Return AdamW with a warm-up and a cosine schedule; no weight decay for biases and norms."""
        matrices = [p for p in self.parameters() if p.ndim > 1]
        vectors = [p for p in self.parameters() if p.ndim == 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": self.config.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=self.config.learning_rate,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate_factor(self, step: int) -> float:
        rising = min(1.0, (step + 1) / max(1.0, _WARM_UP * self.steps))
        return rising * (0.5 + 0.5 * math.cos(math.pi * min(1.0, step / self.steps)))

    def train_dataloader(self) -> DataLoader[int]:
        """Return a loader of step numbers: steps draw their own batches."""
        return DataLoader(range(self.steps), batch_size=None)  # type: ignore[arg-type]
