"""From the `loss` and `weights` sections of a configuration to terms."""

from __future__ import annotations

from typing import Any

from nstbench.building import build
from nstbench.config import Config, TermSettings
from nstbench.encoders.base import Encoder
from nstbench.errors import UserError
from nstbench.losses.base import Formulation
from nstbench.losses.objective import CANVAS, Term
from nstbench.validation import term_settings


def build_terms(config: Config, encoder: Encoder) -> list[Term]:
    """Return the terms of a checked configuration, before they have seen a picture.

    A term weighs ``weights.<role>`` times its own ``weight``; a layer (or what is
    seen of several together) weighs 1/L, 1, or what is given.

    Raises:
        UserError: if a term names a layer that the encoder lacks.
    """
    terms = []
    for role, name, node in config.loss.terms():
        path = f"loss.{role}.{name}"
        settings = term_settings(node, role, path)
        own = {k: v for k, v in node.items() if k not in {"layers", "layer_weights", "weight"}}
        loss: Formulation[Any] = build(own)
        layers = loss.views([CANVAS] if role == "regularizer" else _layers(settings, role, encoder, path))
        if role == "style" and len(config.pictures.styles) > 1 and type(loss).blend is Formulation.blend:
            reason = f"{type(loss).__name__} is defined for one style picture only"
            raise UserError(
                "pictures.style", config.pictures.styles, reason, "Give one, or another loss/style."
            )
        terms.append(
            Term(
                name=f"{role}/{name}",
                loss=loss,
                layers=dict(zip(layers, _layer_weights(settings, layers, path), strict=True)),
                weight=getattr(config.weights, role) * settings.weight,
                seed=config.seed,
            )
        )
    return terms


def _layers(settings: TermSettings, role: str, encoder: Encoder, path: str) -> list[str]:
    if settings.layers in ("default", "patches"):
        return list(encoder.default_layers[role if settings.layers == "default" else "patches"])
    if not settings.layers or len(set(settings.layers)) != len(settings.layers):
        raise UserError(
            f"{path}.layers", settings.layers, "a term needs layers, each once", "Type [relu4_2]."
        )
    encoder.check([layer for layer in settings.layers if layer != CANVAS], f"{path}.layers")
    return list(settings.layers)


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
