"""Building an encoder from the `encoder` node of a configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from nstbench.config.instantiate import build
from nstbench.encoders.base import Encoder
from nstbench.encoders.calibration import PICTURES
from nstbench.encoders.stored_means import calibration_means


def build_encoder(node: Mapping[str, Any]) -> Encoder:
    """Return the encoder of a checked node, frozen, on the CPU.

    The last two are cached, as the runs of a sweep use the same encoder.

    Raises:
        UserError: If its weights are missing or damaged.
    """
    return _build(json.dumps(node, sort_keys=True))


@lru_cache(maxsize=2)
def _build(node: str) -> Encoder:
    arguments = json.loads(node)
    normalize = arguments.pop("normalize_activations", False)
    encoder: Encoder = build(arguments)
    if normalize:
        encoder.scale_activations(calibration_means(encoder, arguments), PICTURES)
    return encoder
