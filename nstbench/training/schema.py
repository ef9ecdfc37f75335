"""The typed schema of ``conf/train.yaml``."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from nstbench.config.schema import Count, Node, Positive, Seed, TrainerSettings

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_Weight = Annotated[float, Field(ge=0)]


@dataclass(config=_STRICT)
class BankSettings:
    """The textures.

    Attributes:
        programs: Number of textures, which are the classes.
        pictures: Number of pictures of each texture.
        held_out: Number of these pictures that are kept for evaluation.
        size: Side of the pictures in pixels.
        seed: Seed of the pictures; the textures themselves are numbered from 0.
    """

    programs: Annotated[Positive, Field(ge=2)]
    pictures: Positive
    held_out: Positive
    size: Annotated[Positive, Field(ge=32)]
    seed: Seed


@dataclass(config=_STRICT)
class PhaseSettings:
    """A phase of training: ``steps`` of the optimiser with ``batch`` pictures of ``crop`` pixels a side."""

    crop: Annotated[Positive, Field(ge=32, multiple_of=16)]
    batch: Annotated[Positive, Field(ge=2)]
    steps: Positive


@dataclass(config=_STRICT)
class NetworkSettings:
    """Channels of each of the five blocks."""

    widths: Annotated[list[Positive], Field(min_length=5, max_length=5)]


@dataclass(config=_STRICT)
class TaskSettings:
    """Weight of each task; 0 leaves it out. See `nstbench.training.tasks.Heads` and, of ``features``,
    `nstbench.training.distillation.FeatureMatching`.
    """

    texture: _Weight
    histogram: _Weight
    reconstruction: _Weight
    features: _Weight = 0.0

    @property
    def any_of_textures(self) -> bool:
        """Whether there is a task other than ``features``."""
        return bool(self.texture or self.histogram or self.reconstruction)


@dataclass(config=_STRICT)
class RecordSettings:
    """Files and output written during training.

    Attributes:
        curves_every: Steps between rows of curves.csv and points in dashboards.
        checkpoint_every: Steps between checkpoints; 0: none.
        progress: Whether to show a progress bar.
    """

    curves_every: Positive
    checkpoint_every: Count
    progress: bool


@dataclass(config=_STRICT)
class TrainConfig:
    """The configuration of one training.

    Attributes:
        study: Name of the study: results are written to ``<output>/<study>/``, beside the textures.
        output: Root folder of results.
        seed: Seed of the weights and the batches.
        textures: Number of textures in a collage.
        recolour: Whether to rotate the colours of crops.
        teacher: Encoder whose feature maps are the task ``features``.
        photographs: Fraction of the pictures that are crops of samples and procedural paintings.
        precision: Precision; ``auto`` is bf16 where the device computes it in hardware.
    """

    study: str
    output: str
    seed: Seed
    bank: BankSettings
    network: NetworkSettings
    textures: Annotated[Positive, Field(le=5)]
    recolour: bool
    tasks: TaskSettings
    teacher: Node | None
    photographs: Annotated[float, Field(ge=0, le=1)]
    phases: Annotated[list[PhaseSettings], Field(min_length=1)]
    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: _Weight
    precision: Literal["auto", "fp32", "bf16"]
    logger: dict[str, Node]
    trainer: TrainerSettings
    record: RecordSettings
    plain: dict[str, Any] = field(default_factory=dict, init=False)
    """Resolved configuration as a plain dict."""
