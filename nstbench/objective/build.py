"""From the `loss` and `weights` sections of a configuration to terms."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from nstbench.config.instantiate import TERM_KEYS, build
from nstbench.config.schema import Config, Node, Role, TermSettings, Unit
from nstbench.config.validation import term_settings
from nstbench.encoders.base import Encoder
from nstbench.errors import UserError
from nstbench.losses.base import CANVAS, Formulation
from nstbench.objective.term import Region, Term


def build_terms(config: Config, encoder: Encoder) -> list[Term]:
    """Return the terms of a checked configuration, without targets.

    The weight of a term is ``weights.<role>`` times its own ``weight``; that of a layer, or of several
    layers that are compared together, is 1/L, 1, or the given number.

    Raises:
        UserError: A term names a layer that the encoder does not have.
    """
    terms = []
    for role, name, node in config.loss.terms():
        term = build_term(role, name, node, encoder, unit=config.weights.unit, seed=config.seed)
        term.weight *= getattr(config.weights, role)
        styles = config.pictures.styles
        if role == "regularizer" and term.loss.target_picture == "style" and not styles:
            setting, reason = (
                f"loss.{role}.{name}",
                "it compares the canvas with the style picture, and there is none",
            )
            raise UserError(setting, "", reason, "Give pictures.style, or another loss/regularizer.")
        if role == "style":
            term.regions = _regions(config)
        if role == "style" and len(styles) > 1 and not term.regions:
            try:
                term.loss.check_blend(config.pictures.style_weights or [1.0] * len(styles))
            except ValueError as error:
                hint = f"Give one, or another formulation than {name}."
                if config.pictures.style_weights:
                    hint = "Remove pictures.style_weights, or give one style picture."
                raise UserError("pictures.style", styles, str(error), hint) from error
        terms.append(term)
    return terms


def _regions(config: Config) -> list[Region]:
    """Return the regions that have their own styles, with λ_r = weight_r / Σ weights."""
    guides = config.pictures.guides
    total = sum(guide.weight for guide in guides.values())
    return [Region(name, guide.weight / total, guide.picture) for name, guide in guides.items()]


def build_term(
    role: Role, name: str, node: Node, encoder: Encoder, *, unit: Unit = "unit", seed: int = 0
) -> Term:
    """Return the term of one checked node of ``loss.<role>``, with the node's own ``weight`` in ``unit``.

    Raises:
        UserError: The node names a layer that the encoder does not have, or layers that its loss cannot use.
    """
    path = f"loss.{role}.{name}"
    settings = term_settings(node, role, path)
    loss: Formulation[Any] = build({k: v for k, v in node.items() if k not in TERM_KEYS})
    layers = [CANVAS] if role == "regularizer" else _layers(settings, role, encoder, path)
    try:
        views = loss.views(layers)
    except ValueError as error:
        raise UserError(f"{path}.layers", layers, str(error), "Give other layers.") from error
    weights = dict(zip(views, _layer_weights(settings, views, path), strict=True))
    return Term(f"{role}/{name}", loss, weights, settings.weight_in(unit), seed)


def _layers(settings: TermSettings, role: str, encoder: Encoder, path: str) -> list[str]:
    if settings.layers in ("default", "patches"):
        return list(encoder.default_layers[role if settings.layers == "default" else "patches"])
    if not settings.layers or len(set(settings.layers)) != len(settings.layers):
        raise UserError(
            f"{path}.layers", settings.layers, "a term needs layers, each once", "Type [relu4_2]."
        )
    layers = _match(settings.layers, encoder)
    encoder.check([layer for layer in layers if layer != CANVAS], f"{path}.layers")
    return layers


def _match(layers: Sequence[str], encoder: Encoder) -> list[str]:
    """Return the layers with every pattern, such as ``relu3_*``, replaced by the encoder's layers it matches.

    A pattern that matches none is left, for the message.
    """
    found: list[str] = []
    for layer in layers:
        matching = [name for name in encoder.layers if fnmatchcase(name, layer)] if "*" in layer else []
        found += matching or [layer]
    return list(dict.fromkeys(found))


def _layer_weights(settings: TermSettings, layers: list[str], path: str) -> list[float]:
    weights = settings.layer_weights
    if weights == "mean":
        return [1 / len(layers)] * len(layers)
    if weights == "sum":
        return [1.0] * len(layers)
    if len(weights) != len(layers):
        reason = f"there are {len(weights)} weights for {len(layers)}: {', '.join(layers)}"
        raise UserError(f"{path}.layer_weights", weights, reason, "Give one for each, or `mean` or `sum`.")
    return [float(w) for w in weights]
