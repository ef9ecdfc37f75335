"""Guides: regions of the canvas that take their style from regions of style pictures.

Gatys, Ecker, Bethge, Hertzmann & Shechtman, "Controlling Perceptual Factors in Neural Style Transfer"
(CVPR 2017), spatial control; formulas and choices in ``docs/controls.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nstbench.encoders.base import Encoder
from nstbench.encoders.geometry import map_shapes, wraps_around
from nstbench.errors import UserError
from nstbench.losses.base import CANVAS, JointLoss
from nstbench.objective.masks import Masks, mask_at
from nstbench.objective.propagation import Propagation, propagate
from nstbench.objective.term import Guides, Term
from nstbench.pictures.shape import Shape


def guides_for(
    term: Term,
    encoder: Encoder,
    how: Propagation,
    masks: Mapping[str, Masks],
    shape: Shape,
    styles: Sequence[Shape],
) -> dict[str, Guides]:
    """Return the weights of the positions of each view of a term, for every region.

    Args:
        term: Term with regions.
        encoder: Encoder whose layers the term compares.
        how: Propagation of a mask to the positions of a layer.
        masks: Masks of the regions.
        shape: Height and width of the canvas.
        styles: Heights and widths of the style pictures.

    Raises:
        UserError: A region has no position at a layer.
    """
    found = {}
    for region in term.regions:
        setting, own = f"pictures.guides.{region.name}", masks[region.name]
        canvas, style = mask_at(own.content, shape), mask_at(own.style, styles[region.picture])

        def guides_at_views(mask: Tensor, setting: str) -> dict[str, Tensor]:
            return _propagate_to_views(term, encoder, mask, how, setting)

        found[region.name] = Guides(
            None if canvas is None else guides_at_views(canvas, f"{setting}.content"),
            # Copies are rotated and resized pictures. The mask is changed likewise, and may end up empty.
            None
            if style is None
            else [
                guides_at_views(copy, f"{setting}.style" if i == 0 else "")
                for i, copy in enumerate(term.loss.copies(style))
            ],
        )
    return found


def _propagate_to_views(
    term: Term, encoder: Encoder, mask: Tensor, how: Propagation, setting: str
) -> dict[str, Tensor]:
    """Return the guide of each view of a term.

    Args:
        term: Term with regions.
        encoder: Encoder whose layers the term compares.
        mask: Mask of a region, at the size of its picture.
        how: Propagation of the mask.
        setting: Setting that is named if a view has no position; empty: a view may have none.
    """
    shapes = _map_shapes(term, encoder, (mask.shape[2], mask.shape[3]))
    found = {}
    for view in term.layers:
        layers = view.split("+")
        infos = [None if layer == CANVAS else encoder.layers[layer] for layer in layers]
        reach = term.loss.smallest_map // 2  # of a patch around its centre
        found[view] = propagate(mask, infos, [shapes[layer] for layer in layers], how, reach)
        if setting and not found[view].max() > 0:
            reason = f"the region has no position at {view.replace('+', ', ')} ({term.name})"
            hint = "Give a larger region or size, or earlier layers."
            if how == "inside":
                fields = [info.receptive_field for info in infos if info]
                side = max((f for f in fields if f), default=1)
                side += 2 * reach * max((info.stride for info in infos if info), default=1)
                area = "the whole picture" if None in fields else f"{side}×{side} pixels"
                reason += f" that depends on the region alone: a position depends on {area}"
                hint = f"Type pictures.guide_propagation=simple, or: {hint[0].lower()}{hint[1:]}"
            raise UserError(setting, "", reason, hint)
    return found


def _map_shapes(term: Term, encoder: Encoder, shape: Shape) -> dict[str, Shape]:
    layers = [layer for layer in term.layers_needed if layer != CANVAS]
    return {**map_shapes(encoder, layers, shape), CANVAS: shape}


def check_guides(
    how: Propagation,
    encoder: Encoder,
    terms: Sequence[Term],
    masks: Mapping[str, Masks],
    stages: Sequence[tuple[Shape, Sequence[Shape]]],
) -> None:
    """Check, before anything is written, that losses can use the guides and no layer is without positions.

    Args:
        how: Propagation of a mask to the positions of a layer.
        encoder: Frozen encoder.
        terms: Terms of the objective.
        masks: Masks of the regions.
        stages: Shapes of the canvas and of the style pictures in each stage.

    Raises:
        UserError: A mask or a loss cannot be used; the message names it.
    """
    if masks and how != "simple" and wraps_around(encoder):
        reason = "with circular padding, positions at a border depend on the opposite border"
        raise UserError("pictures.guide_propagation", how, reason, "Use simple, or encoder.padding=zeros.")
    for term in (term for term in terms if term.regions):
        for shape, styles in stages:
            for name, guides in guides_for(term, encoder, how, masks, shape, styles).items():
                of_style = guides.style[0] if guides.style else None
                _check_loss(term, encoder, name, [g for g in (guides.canvas, of_style) if g])


def _check_loss(term: Term, encoder: Encoder, region: str, guides: Sequence[Mapping[str, Tensor]]) -> None:
    """Check that a loss can use guides, by computing its targets from feature maps of zeros.

    Raises:
        UserError: It cannot.
    """
    for of_views in guides:
        for view, guide in of_views.items():
            layers = view.split("+")
            channels = [3 if layer == CANVAS else encoder.layers[layer].channels for layer in layers]
            maps = [torch.zeros(1, c, *guide.shape[2:]) for c in channels]
            try:
                term.loss.target(maps if isinstance(term.loss, JointLoss) else maps[0], guide)
            except ValueError as error:
                setting = f"loss.{term.name.replace('/', '.')}"
                reason = f"it cannot use the guide of region {region} at {view.replace('+', ', ')}: {error}"
                hint = "Give a larger region or size, other layers, or another formulation."
                raise UserError(setting, "", reason, hint) from error
