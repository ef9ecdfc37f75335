"""The parts of a run, read, built and checked before anything is written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nstbench.blockwise.blocks import check_blocks
from nstbench.blockwise.contributions import block_mode
from nstbench.config.files import formulations
from nstbench.config.kinds import locate
from nstbench.config.schema import Config
from nstbench.encoders.base import Encoder
from nstbench.encoders.build import build_encoder
from nstbench.encoders.geometry import map_shapes
from nstbench.errors import UserError
from nstbench.losses.base import CANVAS, AdditiveLoss, JointLoss, PositionwiseLoss
from nstbench.losses.cross_layer_gram import whole_factors
from nstbench.metrics.evaluate import build_metrics
from nstbench.modules.compiling import check_compiles
from nstbench.objective.build import build_terms
from nstbench.objective.guides import check_guides
from nstbench.objective.term import Term
from nstbench.pictures.shape import Shape
from nstbench.runs.inputs import Inputs, load_inputs
from nstbench.runs.plan import StagePlan, plan_stages
from nstbench.runtime.device import choose_device


@dataclass(frozen=True)
class Prepared:
    """The parts of a run, checked together.

    Attributes:
        device: Device on which the run computes.
        inputs: Pictures, at their own sizes.
        encoder: Frozen encoder, not yet on the device.
        terms: Terms of the objective, without targets.
        stages: Stages of the schedule.
        seconds: Seconds that preparing took.
    """

    device: torch.device
    inputs: Inputs
    encoder: Encoder
    terms: Sequence[Term]
    stages: Sequence[StagePlan]
    seconds: float


def prepare(config: Config) -> Prepared:
    """Read the pictures, build encoder, terms and metrics, and check that they fit together.

    Raises:
        UserError: An input or a setting cannot be used. Nothing is written.
    """
    began = time.monotonic()
    device = choose_device(config.trainer.accelerator, config.trainer.threads)
    inputs = load_inputs(config)
    encoder = build_encoder(config.encoder)
    terms = build_terms(config, encoder)
    _check_deterministic(config, encoder, device)
    stages = plan_stages(config, inputs)
    check_sizes(stages, encoder, terms)
    if config.blockwise.tile is not None:
        check_blockwise(stages, encoder, terms, config.blockwise.tile)
    shapes = [(stage.shape, list(stage.style_shapes)) for stage in stages]
    check_guides(config.pictures.guide_propagation, encoder, terms, inputs.masks, shapes)
    build_metrics(config.metrics)
    if config.trainer.compile:
        check_compiles(device)
    return Prepared(device, inputs, encoder, terms, stages, time.monotonic() - began)


def _check_deterministic(config: Config, encoder: Encoder, device: torch.device) -> None:
    """Refuse padding whose gradient PyTorch cannot compute deterministically on a GPU."""
    mirrored = any(getattr(m, "padding_mode", "zeros") in {"reflect", "replicate"} for m in encoder.modules())
    if config.trainer.deterministic and device.type == "cuda" and mirrored:
        reason = "this encoder's padding has no deterministic gradient on a GPU"
        raise UserError("trainer.deterministic", "true", reason, "Add encoder.padding=zeros.")


def check_sizes(stages: Sequence[StagePlan], encoder: Encoder, terms: Sequence[Term]) -> None:
    """Refuse pictures that leave no position at the deepest layer, before anything is written.

    Raises:
        UserError: A picture is too small; the error names the size, or the loss whose patches do not fit.
    """
    layers = [layer for term in terms for layer in term.layers_needed if layer != CANVAS]
    smallest = encoder.smallest_picture(layers)
    for stage in stages:
        styles = [("style picture", shape) for shape in stage.style_shapes]
        for what, (height, width) in [("canvas", stage.shape), *styles]:
            if min(height, width) < smallest:
                reason = (
                    f"the {what} would be {width}×{height} pixels, too small for the layers of this encoder"
                )
                hint = (
                    f"Both edges must have {smallest} pixels or more: give a larger size, or earlier layers."
                )
                raise UserError("size", stage.size, reason, hint)
            _check_maps(encoder, terms, what, (height, width))


def _check_maps(encoder: Encoder, terms: Sequence[Term], what: str, shape: Shape) -> None:
    """Refuse a picture whose feature maps are smaller than a patch that a loss compares."""
    for term in terms:
        if what == "style picture" and term.role != "style":
            continue
        for layer in term.layers_needed:
            stride = 1 if layer == CANVAS else encoder.layers[layer].stride
            edge = min(shape) // stride
            if edge < term.loss.smallest_map:
                setting, need = f"loss.{term.name.replace('/', '.')}", term.loss.smallest_map
                height, width = shape
                reason = f"the {what}, {width}×{height} pixels, has {edge} positions on an edge at {layer}"
                hint = f"It compares {need}×{need}: give a size of {need * stride} or more, or other layers."
                raise UserError(setting, term.layers_needed, reason, hint)


def check_blockwise(stages: Sequence[StagePlan], encoder: Encoder, terms: Sequence[Term], tile: int) -> None:
    """Refuse terms and encoders that cannot be computed exactly in blocks of ``tile``.

    Raises:
        UserError: A term or the encoder cannot; the error names the first term, and the losses that can.
    """
    shapes = [shape for stage in stages for shape in (stage.shape, *stage.style_shapes)]
    for term in terms:
        for view in term.layers:
            if block_mode(term, view) == "impossible":
                setting = f"loss.{term.name.replace('/', '.')}"
                reason = (
                    f"it is not a sum over positions, and blockwise.tile={tile} cannot compute it exactly"
                )
                can = ", ".join(_computable(term.role))
                hint = f"Those that can: {can}. Or remove blockwise.tile, at a size that fits in memory."
                raise UserError(setting, "", reason, hint)
    layers = {layer: term for term in terms for layer in term.layers_needed if layer != CANVAS}
    check_blocks(encoder, list(layers), "blockwise.tile", tile)
    for term in terms:
        for view in (view for view in term.layers if isinstance(term.loss, JointLoss)):
            _check_nested(term, view, encoder, shapes)


def _computable(role: str) -> list[str]:
    """Return the options of ``loss/<role>`` that can be computed in blocks, as configured."""
    names = []
    for option, nodes in formulations(role).items():
        for node in nodes.values():
            made = locate(node["_target_"], "loss")
            if issubclass(made, AdditiveLoss | PositionwiseLoss) or node.get("layers") == [CANVAS]:
                names.append(option)
    return names


def _check_nested(term: Term, view: str, encoder: Encoder, shapes: Sequence[Shape]) -> None:
    """Refuse layers that are compared together, if a coarse position is not a square of fine ones."""
    layers = [layer for layer in view.split("+") if layer != CANVAS]
    fine, coarse = sorted(layers, key=lambda layer: encoder.layers[layer].stride)
    factor = encoder.layers[coarse].stride // encoder.layers[fine].stride
    for shape in shapes:
        maps = map_shapes(encoder, layers, shape)
        if whole_factors(maps[fine], maps[coarse]) != (factor, factor):
            setting = f"loss.{term.name.replace('/', '.')}"
            reason = f"the maps of {fine} and {coarse} do not have sizes that blocks can divide"
            raise UserError(setting, layers, reason, "Remove blockwise.tile, or use an encoder with padding.")
