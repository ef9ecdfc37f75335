"""The training of the encoder as a LightningModule."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from nstbench.encoders.build import build_encoder
from nstbench.encoders.preprocessing import Preprocessing
from nstbench.training.distillation import FeatureMatching, photograph_crops, photographs
from nstbench.training.network import TextureNet
from nstbench.training.schema import PhaseSettings, TrainConfig
from nstbench.training.tasks import Heads
from nstbench.training.textures.collage import Collage, collage
from nstbench.training.textures.fields import Array

_WARM_UP = 0.03  # fraction of the steps over which the learning rate rises
_WORKERS = 12  # processes that draw batches for a GPU, at most

Batch = dict[str, Tensor]
"""``pictures``, ``labels`` (see `Collage`) and ``random``: the state of the generator that drew them."""


class TextureTraining(pl.LightningModule):
    """Trains a network to classify textures, everywhere in a collage, or to have a teacher's features.

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
        self.matching: FeatureMatching | None = None
        if config.tasks.features:
            assert config.teacher is not None
            self.matching = FeatureMatching(build_encoder(config.teacher), config.network.widths)
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

    def draw(self, step: int) -> Batch:
        """Return the batch of a step, on the CPU."""
        phase = self.phase_at(step)
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
        pictures = drawn.pictures
        if count := round(self.config.photographs * phase.batch):
            crops = photograph_crops(count, phase.crop, generator)
            pictures = torch.cat([crops, pictures[count:]])
        return {"pictures": pictures, "labels": drawn.labels, "random": generator.get_state()}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the values of a batch by name; ``loss`` is the one to minimise."""
        generator = torch.Generator()
        generator.set_state(batch["random"].cpu())
        drawn = Collage(batch["pictures"].to(self.device), batch["labels"].to(self.device))
        x = self.preprocessing(drawn.pictures).contiguous(memory_format=torch.channels_last)
        maps = self.net.layers(x)
        values: dict[str, Tensor] = {"loss": x.new_zeros(())}
        if self.heads.weights.any_of_textures:
            values = self.heads(self.net.last_of_blocks(maps), drawn, x, generator)
        if self.matching is not None:
            matched = self.matching(maps, drawn.pictures)
            values = {**values, **matched}
            values["loss"] = values["loss"] + self.config.tasks.features * matched["features"]
        return values

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of one step."""
        values = self.losses(batch)
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

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return a loader of the batches of the steps to come; for a GPU, other processes draw them."""
        workers = drawing_processes(self.device)
        if self.config.photographs:
            photographs()  # decoded and painted here, once
        return DataLoader(
            _Batches(self),
            batch_size=None,
            sampler=_StepsToCome(self),
            num_workers=workers,
            # Forked, so that the textures, gigabytes that are mapped from a file, are not copied.
            multiprocessing_context="fork" if workers else None,
            pin_memory=workers > 0,
        )


def drawing_processes(device: torch.device) -> int:
    """Return the number of processes that draw batches for a device; 0: the training itself draws them."""
    return max(1, min(_WORKERS, (os.cpu_count() or 1) - 2)) if device.type == "cuda" else 0


class _Batches(Dataset[Batch]):
    """The batches of a training, by the numbers of their steps."""

    def __init__(self, module: TextureTraining) -> None:
        self.module = module

    def __getitem__(self, step: int) -> Batch:
        return self.module.draw(step)

    def __len__(self) -> int:
        return self.module.steps


class _StepsToCome(Sampler[int]):
    """The numbers of the steps that a training, which may be a resumed one, has before it."""

    def __init__(self, module: TextureTraining) -> None:
        self.module = module

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.module.global_step, self.module.steps))

    def __len__(self) -> int:
        return self.module.steps
