"""The stages of a run: how large the canvas and the style pictures are in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nstbench.config.schema import Config, PictureSettings, StageSettings
from nstbench.modules.precision import Precision
from nstbench.pictures.resize import shape_for
from nstbench.pictures.shape import Shape
from nstbench.runs.inputs import Inputs


@dataclass(frozen=True)
class StagePlan:
    """One stage of a run.

    Attributes:
        number: Place in the schedule, from 0.
        size: Size as it is typed.
        steps: Steps of the optimiser.
        precision: Precision of the encoder.
        shape: Height and width of the canvas.
        style_shapes: Height and width of every style picture.
    """

    number: int
    size: int
    steps: int
    precision: Precision
    shape: Shape
    style_shapes: Sequence[Shape]

    @property
    def pixels(self) -> int:
        """Pixels of the canvas."""
        height, width = self.shape
        return height * width


def plan_stages(config: Config, inputs: Inputs) -> list[StagePlan]:
    """Return the stages of a run, in order."""
    pictures = config.pictures
    return [plan_stage(pictures, inputs, stage, i) for i, stage in enumerate(config.schedule.stages)]


def plan_stage(pictures: PictureSettings, inputs: Inputs, stage: StageSettings, number: int = 0) -> StagePlan:
    """Return a stage with the shapes that its pictures have.

    Args:
        pictures: Settings of the pictures.
        inputs: Pictures of the run.
        stage: Settings of the stage.
        number: Its place in the schedule.
    """
    shape = canvas_shape(pictures, inputs, stage.size)
    styles = style_shapes(pictures, inputs, shape, stage.size)
    return StagePlan(number, stage.size, stage.steps, stage.precision, shape, styles)


def canvas_shape(pictures: PictureSettings, inputs: Inputs, size: int) -> Shape:
    """Return the canvas's height and width in a stage of ``size``: the content's, or else the style's."""
    model = inputs.content or inputs.styles[0]
    return shape_for(*model.shape, size, pictures.size_is)


def style_shapes(pictures: PictureSettings, inputs: Inputs, shape: Shape, size: int) -> list[Shape]:
    """Return the height and width of every style picture in a stage of ``size``.

    Args:
        pictures: Settings of the pictures.
        inputs: Pictures of the run.
        shape: Height and width of the canvas.
        size: Size of the stage.
    """
    if pictures.style_fit == "content":
        height, width = (max(1, round(edge * pictures.style_scale)) for edge in shape)
        return [(height, width)] * len(inputs.styles)
    scaled = max(1, round(size * pictures.style_scale))
    return [shape_for(*style.shape, scaled, pictures.size_is) for style in inputs.styles]
