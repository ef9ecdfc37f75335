"""The typed schema of everything in conf/.

The composed YAML is checked against these dataclasses as a whole, before any work is done
(`nstbench.config.validation`). A node with a ``_target_`` (a loss, an encoder, an optimiser) is checked
against the signature of the class that it names, so a new loss needs no entry here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field, fields, is_dataclass
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)


def to_whole_number(value: object) -> object:
    """Return a whole float such as 1e3 as an integer: YAML and Hydra read it as a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(to_whole_number)]
Positive = Annotated[Whole, Field(gt=0)]
Count = Annotated[Whole, Field(ge=0)]
Seed = Annotated[Whole, Field(ge=0, lt=2**32)]
Edge = Annotated[Whole, Field(gt=0, le=100_000)]
Node = dict[str, Any]
"""A node with a ``_target_``: checked by `nstbench.config.instantiate.check_node`."""
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
"""Role of a term in the objective."""


@dataclass(config=_STRICT)
class GuideSettings:
    """A region of the canvas, and the region of a style picture that gives it its style.

    Masks are pictures, read as grey: 1 (white) is inside the region, 0 outside, values between partly inside.

    Attributes:
        content: Mask of the content picture; null: the whole canvas.
        style: Mask of the style picture; null: the whole picture.
        picture: Index of the style picture in ``pictures.style``, from 0.
        weight: Weight of the region, divided by the sum of the weights of all regions.
    """

    content: str | None = None
    style: str | None = None
    picture: Count = 0
    weight: Annotated[float, Field(gt=0)] = 1.0


@dataclass(config=_STRICT)
class PictureSettings:
    """The content and style pictures.

    Attributes:
        content: Content picture: a path, ``sample:<name>``, ``procedural:<name>`` or ``paper:<name>``.
        style: Style picture, or a list of several that are blended.
        style_weights: Weight of each style picture, divided by their sum; null: equal weights.
        size_is: Meaning of ``size``: the longer edge, the shorter edge, or the square root of the area.
        style_fit: Size of the style picture. ``own``: as ``size`` and ``size_is`` say; ``content``:
            stretched to the canvas's shape (Gatys et al. 2016).
        style_scale: Factor of the style picture's size.
        resample: Resizing method. ``pillow``: bilinear and rounded to 8 bits, as in published PyTorch
            code; it blurs more, and Gram matrices depend on fine structure.
        background: Colour (sRGB, in [0, 1]) behind transparent pixels.
        max_pixels: Largest picture, in pixels; larger files are refused before they are decoded.
        guides: Regions of the canvas with styles of their own, by names that the user chooses; empty: one
            style for the whole canvas.
        guide_propagation: Rule that turns a mask into a mask of a layer's positions: by area
            (``simple``), or the positions whose receptive field lies inside the region (``inside``) or
            overlaps it (``all``); see `nstbench.encoders.geometry`.
        cast: Pictures of a study by their role in it, such as ``starry_night``. Its configuration refers to
            the roles, and another option of ``pictures`` gives them other pictures.
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
    """Colour control (`nstbench.pictures.colour_control`).

    Attributes:
        control: Method. ``none``: colours follow from the losses; ``luminance``: only the luminance is
            stylised, and the content picture's colours are kept; otherwise the style picture is recoloured
            like the content picture before the run, by the ``histogram`` of each channel, or by mean and
            covariance with a ``cholesky``, ``pca`` or ``symmetric`` square root.
    """

    control: ColourControl


@dataclass(config=_STRICT)
class LayerSettings:
    """Layer names by role. ``default`` and ``patches``: the encoder's own choices.

    Attributes:
        content: Layers of content losses.
        style: Layers of style losses.
        patches: Layers, few and deep, of style losses that compare each position with every other.
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
    """The weight of each role, and the unit of weights (`nstbench.objective.units`)."""

    unit: Unit
    content: Weight
    style: Weight
    regularizer: Weight


@dataclass(config=_STRICT)
class FormulaSettings:
    """Constants of published formulas, set by recipes and used as the defaults of the usual losses.

    Published weights belong to published formulas, and a recipe gives both. These settings have no
    effect where another formulation, or none, is chosen.

    Attributes:
        content: Setting ``normalization`` of ``loss/content=features``.
        gram: Setting ``normalization`` of ``loss/style=gram``.
        gram_layers: Setting ``layer_weights`` of ``loss/style=gram``.
        gram_weight: Setting ``weight`` of ``loss/style=gram``.
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
    """The canvas: its parametrisation and its start.

    Attributes:
        parametrization: Node with the ``_target_`` of a `nstbench.canvas.base.Canvas`.
        start: First canvas: ``content``, ``style``, ``noise``, or the path (or ``sample:…``) of a picture.
        noise: Distribution of the noise, by name (`nstbench.canvas.noise.NOISES`) or with all parameters.
        noise_share: Share of noise that is mixed into a start from a picture, from 0 to 1.
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
    """When a stage ends before all its steps are made (`nstbench.modules.plateau.Plateau`).

    Attributes:
        tolerance: Least relative decrease of the objective over the last ``evaluations``; a stage with a
            smaller one ends.
        evaluations: Number of evaluations over which the decrease is measured.
    """

    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.001
    evaluations: Positive = 20


@dataclass(config=_STRICT)
class ScheduleSettings:
    """The stages, in order; the canvas is carried from one to the next.

    Attributes:
        precision: Precision of the stages that have none of their own.
        stages: Stages, at least one.
        plateau: Condition on which a stage ends early; null: all steps are made.
    """

    precision: Literal["fp32", "tf32", "bf16", "auto"]
    stages: Annotated[list[StageSettings], Field(min_length=1)]
    plateau: PlateauSettings | None = None


@dataclass(config=_STRICT)
class BlockwiseSettings:
    """Exact gradients in bounded memory (`nstbench.blockwise.objective`), for pictures of any size.

    Attributes:
        tile: Approximate side, in pixels, of the blocks that are encoded one at a time; null: one block.
    """

    tile: Positive | None


@dataclass(config=_STRICT)
class TrainerSettings:
    """The device of a run, and how it computes there.

    Attributes:
        accelerator: Kind of device; ``auto``: a GPU where there is one.
        threads: CPU threads of a run; null: PyTorch's choice.
        deterministic: Whether GPU algorithms whose results differ from run to run are refused. Those of the
            CPU never differ.
        compile: Whether the encoder is compiled with ``torch.compile``. This changes the last bits of
            results and takes a minute before the first step at every size; benchmarks/README.md says where
            it is faster.
        channels_last: Whether feature maps are in the memory format ``torch.channels_last``. This also
            changes the last bits; benchmarks/README.md says where it is faster.
        check_memory: Whether a run that is predicted not to fit in memory is refused
            (`nstbench.cost.memory`).
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
        curves_every: Evaluations between rows of curves.csv and points in dashboards.
        diagnostics_every: Evaluations between rows of diagnostics.csv (per-layer values, gradient
            norms, the angle between content and style), each of which takes one or two evaluations more;
            0: none.
        snapshot_every: Steps between snapshots of the canvas; 0: none.
        animation: Format in which the snapshots are also written as one file, ``canvas.gif``.
        checkpoint_every: Steps between checkpoints; 0: none.
        progress: Whether a progress bar is shown.
    """

    curves_every: Positive
    diagnostics_every: Count
    snapshot_every: Count
    animation: Literal["none", "gif"]
    checkpoint_every: Count
    progress: bool


@dataclass(config=_STRICT)
class Config:
    """All settings of one run.

    Attributes:
        study: Name of the study, and of the folder that holds the folders of its runs.
        output: Folder of studies.
        retry_failed: Whether a sweep repeats runs that failed before; a single run is always repeated.
        criterion: Value of a run, or several, by which a search such as Optuna's judges it: a metric, or a
            loss of the final canvas such as ``loss/total``.
        panel: Label of the panel that this run makes, in a study that makes a figure with panels.
        panels: Settings that differ between panels, by the panel's label. Other settings refer to them:
            ``${panels.${panel}.ratio}``.
        seed: Seed of all random numbers.
        size: Size of the last stage.
        steps: Steps of the last stage.
        judge: Node like ``encoder``, to which the metrics that compare feature maps refer.
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
    judge: Node
    logger: dict[str, Node]
    trainer: TrainerSettings
    record: RecordSettings
    plain: dict[str, Any] = field(default_factory=dict, init=False)
    """The same settings as a plain dict without references, as in records and fingerprints."""


@dataclass(config=_STRICT)
class TermSettings:
    """The settings of a term that are not arguments of its loss.

    Attributes:
        layers: Names of layers, patterns of them (``relu3_*``), ``canvas`` for the pixels themselves, or the
            encoder's choice: ``default`` for the role, ``patches`` for losses that compare each position with
            every other.
        layer_weights: Weights of the layers: ``mean`` (1/L each), ``sum`` (1 each) or one number per layer.
        weight: Weight of the term within its role, or one for each value of ``weights.unit``; 1 where none
            is given. In the unit ``unit`` it compensates for how far the loss can fall; in ``paper`` it is
            the published weight; in ``gradient`` it is best left at 1, so that all formulations start with
            gradients of equal norm.
    """

    layers: list[str] | Literal["default", "patches"] = "default"
    layer_weights: list[float] | Literal["mean", "sum"] = "mean"
    weight: Weight | dict[Unit, Weight] = 1.0

    def weight_in(self, unit: Unit) -> float:
        """Return the weight in one of the units."""
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
