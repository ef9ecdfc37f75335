"""The typed schema of everything in conf/.

The composed YAML is checked against these dataclasses as a whole, before any work is done
(`nstbench.config.validation`). What a group builds by ``_target_`` (a loss, an encoder, an optimiser) is
checked against the signature of that class, so that a new loss needs no entry here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field, fields, is_dataclass
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)


def to_whole_number(value: object) -> object:
    """Take 1e3 for 1000: YAML and Hydra read it as a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(to_whole_number)]
Positive = Annotated[Whole, Field(gt=0)]
Count = Annotated[Whole, Field(ge=0)]
Seed = Annotated[Whole, Field(ge=0, lt=2**32)]
Edge = Annotated[Whole, Field(gt=0, le=100_000)]
Node = dict[str, Any]
"""A node with a ``_target_``: checked by `nstbench.config.instantiate.check_target`."""
Weight = Annotated[float, Field(ge=0)]
Unit = Literal["paper", "unit", "gradient"]
"""What a weight of 1 means: `nstbench.objective.units`."""
Resample = Literal["bicubic", "pillow"]
"""How pictures are resized: `nstbench.pictures.resize`."""
ColourControl = Literal["none", "luminance", "histogram", "cholesky", "pca", "symmetric"]
"""How the colours of the result are chosen: `nstbench.pictures.colour_control`."""

NOISES = ("uniform", "gatys", "neural_style", "gordicaleksa", "grey")
"""Names that ``canvas.noise`` takes; their distributions are in `nstbench.canvas.noise`."""
Role = Literal["content", "style", "regularizer"]
"""What a term is for."""


@dataclass(config=_STRICT)
class GuideSettings:
    """A region of the canvas, and the region of a style picture that gives it its style.

    Masks are pictures, read as grey: 1 (white) is the region, 0 is not, and between is in part.

    Attributes:
        content: mask of the content picture; null: the whole canvas.
        style: mask of the style picture; null: the whole picture.
        picture: which of ``pictures.style``, counted from 0.
        weight: how much it counts beside the other regions, as a share of the sum of their weights.
    """

    content: str | None = None
    style: str | None = None
    picture: Count = 0
    weight: Annotated[float, Field(gt=0)] = 1.0


@dataclass(config=_STRICT)
class PictureSettings:
    """The inputs.

    Attributes:
        content: a path, ``sample:<name>``, ``procedural:<name>`` or ``paper:<name>``.
        style: the same, or a list of them, blended.
        style_weights: one per style picture; equal when null. They are divided by their sum.
        size_is: what ``size`` measures: the longer edge, the shorter edge, or the root of the area.
        style_fit: ``own``: the style picture is measured like the content; ``content``: it is
            stretched to the canvas's shape (Gatys et al. 2016).
        style_scale: multiplies the style picture's size.
        resample: how they are resized. ``pillow``: bilinear and rounded to 8 bits, as published PyTorch
            code; it blurs more, and fine structure weighs in Gram matrices.
        background: sRGB colour in [0, 1] that shows through transparent pixels.
        max_pixels: larger files are refused before they are decoded.
        guides: regions of the canvas with styles of their own, by names of yours; none: one style for
            the whole canvas.
        guide_propagation: from a mask to the positions of a layer: by area, or those that see the
            region only, or all that see it (`nstbench.encoders.geometry`).
        cast: pictures by the part they play in a study, such as ``starry_night``, for its configuration to
            refer to: another option of ``pictures`` gives the parts to others.
    """

    content: str | None
    style: str | list[str] | None
    style_weights: list[Annotated[float, Field(ge=0)]] | None
    size_is: Literal["long_edge", "short_edge", "area"]
    style_fit: Literal["own", "content"]
    style_scale: Annotated[float, Field(gt=0, le=16)]
    resample: Resample
    background: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=3, max_length=3)]
    max_pixels: Positive
    guides: dict[str, GuideSettings]
    guide_propagation: Literal["simple", "inside", "all"]
    cast: dict[str, str]

    @property
    def styles(self) -> list[str]:
        """The style pictures as a list."""
        return self.style if isinstance(self.style, list) else [self.style] if self.style else []


@dataclass(config=_STRICT)
class ColourSettings:
    """Whose colours the result has: `nstbench.pictures.colour_control`.

    Attributes:
        control: ``none``: what the losses make of them; ``luminance``: the content's, only the luminance
            is stylised; else the style picture is given the content's colours before the run, by
            ``histogram`` of each channel, or by mean and covariance, with ``cholesky``, ``pca`` or
            ``symmetric`` roots.
    """

    control: ColourControl


@dataclass(config=_STRICT)
class LayerSettings:
    """Layer names by role. ``default`` and ``patches`` are what the encoder suggests.

    Attributes:
        content: of content losses.
        style: of style losses.
        patches: of style losses that compare each position with every other: few and deep ones.
    """

    content: list[str] | Literal["default"]
    style: list[str] | Literal["default"]
    patches: list[str] | Literal["patches"]


@dataclass(config=_STRICT)
class LossSettings:
    """The terms of the objective by role, each a node with a ``_target_``, named by its key."""

    content: dict[str, Node]
    style: dict[str, Node]
    regularizer: dict[str, Node]

    def terms(self) -> Iterator[tuple[Role, str, Node]]:
        """Yield (role, name, node) of every term."""
        for role in get_args(Role):
            for name, node in getattr(self, role).items():
                yield role, name, node


@dataclass(config=_STRICT)
class WeightSettings:
    """What each role weighs, and in which unit (`nstbench.objective.units`)."""

    unit: Unit
    content: Weight
    style: Weight
    regularizer: Weight


@dataclass(config=_STRICT)
class FormulaSettings:
    """The published constants that the usual losses take, unless they are told others: for recipes.

    Published weights belong to published formulas, and a recipe gives both. What it says here is
    without effect where another formulation, or none, is chosen.

    Attributes:
        content: ``normalization`` of ``loss/content=features``.
        gram: ``normalization`` of ``loss/style=gram``.
        gram_layers: ``layer_weights`` of ``loss/style=gram``.
        gram_weight: ``weight`` of ``loss/style=gram``.
    """

    content: str
    gram: str
    gram_layers: Literal["mean", "sum"]
    gram_weight: Weight


@dataclass(config=_STRICT)
class NoiseSettings:
    """A distribution of pixel values in sRGB [0, 1]: see `nstbench.canvas.noise.Noise`."""

    distribution: Literal["normal", "uniform"]
    mean: Annotated[list[float], Field(min_length=3, max_length=3)]
    std: Annotated[float, Field(ge=0)]


@dataclass(config=_STRICT)
class CanvasSettings:
    """What is optimised, and what it starts as.

    Attributes:
        parametrization: a node with the ``_target_`` of a `nstbench.canvas.base.Canvas`.
        start: ``content``, ``style``, ``noise``, or the path (or ``sample:…``) of a picture.
        noise: a named distribution (`nstbench.canvas.noise.NOISES`) or one spelt out.
        noise_share: how much of the start is noise, where it is a picture: 0 none, 1 all.
    """

    parametrization: Node
    start: str
    noise: str | NoiseSettings
    noise_share: Annotated[float, Field(ge=0, le=1)]


@dataclass(config=_STRICT)
class StageSettings:
    """A stretch of optimisation at one size and precision (`nstbench.modules.precision`)."""

    size: Edge
    steps: Positive
    precision: Literal["fp32", "tf32", "bf16", "auto"]


@dataclass(config=_STRICT)
class PlateauSettings:
    """When a stage ends before its steps are made: `nstbench.modules.plateau.Plateau`.

    Attributes:
        tolerance: the objective has fallen by less than this share of itself ...
        evaluations: ... over the last so many.
    """

    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.001
    evaluations: Positive = 20


@dataclass(config=_STRICT)
class ScheduleSettings:
    """The stages, in order; the canvas is carried from one to the next.

    Attributes:
        precision: of all stages that do not say otherwise.
        stages: at least one.
        plateau: stop each stage where it gets no further; null: make all steps.
    """

    precision: Literal["fp32", "tf32", "bf16", "auto"]
    stages: Annotated[list[StageSettings], Field(min_length=1)]
    plateau: PlateauSettings | None = None


@dataclass(config=_STRICT)
class BlockwiseSettings:
    """Exact gradients in bounded memory (`nstbench.blockwise.objective`), for pictures of any size.

    Attributes:
        tile: about how many pixels on a side are encoded at once; null: the whole picture.
    """

    tile: Positive | None


@dataclass(config=_STRICT)
class TrainerSettings:
    """Where a run computes.

    Attributes:
        accelerator: ``auto`` takes a GPU where there is one.
        threads: CPU threads of a run; null: PyTorch's choice.
        deterministic: refuse GPU algorithms that differ from run to run. The CPU never does.
        compile: the encoder, with ``torch.compile``: other last bits, and a wait of a minute before the
            first step of every size. benchmarks/README.md says where it pays.
        channels_last: keep feature maps in memory position by position; likewise.
        check_memory: refuse a run that is predicted not to fit in memory (`nstbench.cost.memory`).
    """

    accelerator: Literal["auto", "cpu", "cuda", "mps"]
    threads: Annotated[Whole, Field(ge=1, le=1024)] | None
    deterministic: bool
    compile: bool = False
    channels_last: bool = False
    check_memory: bool = True


@dataclass(config=_STRICT)
class RecordSettings:
    """What is written during a run; none of it changes the picture.

    Attributes:
        curves_every: evaluations between rows of curves.csv and points in dashboards.
        diagnostics_every: evaluations between rows of diagnostics.csv (per-layer values, gradient
            norms, the angle between content and style), which cost an evaluation or two each; 0: none.
        snapshot_every: steps between snapshots of the canvas; 0: none.
        animation: also write the snapshots as ``canvas.gif``.
        checkpoint_every: steps between checkpoints; 0: none.
        progress: show a bar.
    """

    curves_every: Positive
    diagnostics_every: Count
    snapshot_every: Count
    animation: Literal["none", "gif"]
    checkpoint_every: Count
    progress: bool


@dataclass(config=_STRICT)
class Config:
    """One run, complete.

    Attributes:
        study: a name for runs that belong together: the folder of their folders.
        output: the folder of studies.
        retry_failed: in a sweep, run again what failed before; a single run always is.
        criterion: what a search over settings, such as Optuna's, is told of a run: a metric, or a loss
            of the final canvas such as ``loss/total``; or several.
        panel: which panel of a figure this run is, in a study that has panels.
        panels: of each panel, by its label, the settings that set it apart, for others to refer to:
            ``${panels.${panel}.ratio}``.
        seed: of everything random.
        size: of the last stage.
        steps: of the last stage.
    """

    study: str
    output: str
    retry_failed: bool
    criterion: str | Annotated[list[str], Field(min_length=1)]
    panel: str | None
    panels: dict[str, dict[str, Any]]
    seed: Seed
    size: Edge
    steps: Positive
    pictures: PictureSettings
    colour: ColourSettings
    encoder: Node
    layers: LayerSettings
    loss: LossSettings
    weights: WeightSettings
    formulas: FormulaSettings
    canvas: CanvasSettings
    optimizer: Node
    schedule: ScheduleSettings
    blockwise: BlockwiseSettings
    metrics: dict[str, Node]
    logger: dict[str, Node]
    trainer: TrainerSettings
    record: RecordSettings
    plain: dict[str, Any] = field(default_factory=dict, init=False)
    """The same as a plain dict, resolved: what records and fingerprints hold."""


@dataclass(config=_STRICT)
class TermSettings:
    """The keys of a term that are not its loss's own.

    Attributes:
        layers: names, ``canvas`` for the pixels themselves, or what the encoder suggests: ``default``
            for the role, ``patches`` for losses that compare each position with every other.
        layer_weights: ``mean`` (1/L each), ``sum`` (1 each) or one number per layer.
        weight: of the term within its role; or one for each of ``weights.unit``, 1 where none is given.
            In ``unit`` it makes up for how far an error can fall, in ``paper`` it is the published one;
            in ``gradient`` it is best left at 1, so that formulations start with one pull.
    """

    layers: list[str] | Literal["default", "patches"] = "default"
    layer_weights: list[float] | Literal["mean", "sum"] = "mean"
    weight: Weight | dict[Unit, Weight] = 1.0

    def weight_in(self, unit: Unit) -> float:
        """Return the weight that belongs to a unit."""
        return self.weight.get(unit, 1.0) if isinstance(self.weight, dict) else self.weight


def list_settings(section: Any = Config, prefix: str = "") -> list[str]:
    """Return the dotted names of all typed settings, for suggestions and help."""
    names = []
    for f in fields(section):
        if f.name == "plain":
            continue
        name = f"{prefix}{f.name}"
        names.append(name)
        hint = get_type_hints(section)[f.name]
        if is_dataclass(hint):
            names.extend(list_settings(hint, f"{name}."))
    return names
