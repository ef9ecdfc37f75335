"""Scaling the numbers of a file to values in [0, 1]."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nstbench.pictures.formats import UnreadableError
from nstbench.pictures.icc import srgb_converter
from nstbench.pictures.stored import Values

logger = logging.getLogger(__name__)


def unit_range(samples: NDArray[Any]) -> Callable[[NDArray[Any]], Values]:
    """Return the scaling to [0, 1] of numbers without a defined white.

    Floats within [0, 1] are not scaled; other numbers are stretched from the least to the greatest
    value, and this is logged.

    Args:
        samples: All values of the picture. The scaling is then applied to parts of them.

    Raises:
        UnreadableError: If a value is NaN or infinite.
    """
    if samples.size == 0:
        return lambda part: part.astype(np.float32)
    least, greatest = float(samples.min()), float(samples.max())
    if not np.isfinite([least, greatest]).all():
        raise UnreadableError("it has values that are NaN or infinite")
    if samples.dtype.kind == "f" and least >= 0 and greatest <= 1:
        return lambda part: part.astype(np.float32)
    logger.warning(
        "values from %g to %g have no defined white: stretched to the range 0 to 1", least, greatest
    )
    if not np.isfinite(greatest - least):  # the largest floats of both signs
        half = greatest / 2 - least / 2
        return lambda part: ((part.astype(np.float64) / 2 - least / 2) / half).clip(0, 1).astype(np.float32)
    span = (greatest - least) or 1.0
    return lambda part: ((part.astype(np.float64) - least) / span).astype(np.float32)


def profiled(mode: str, profile: bytes | None) -> Callable[[Values], Values]:
    """Return the conversion to sRGB of (H, W, 1 or 3) values of more than 8 bits.

    Without a profile, or with one of sRGB, they keep their depth; else the result has 8 bits.
    """
    converter = srgb_converter(mode, profile) if profile else None

    def convert(values: Values) -> Values:
        if converter is None:
            return values
        eight_bit = np.floor(values.clip(0, 1) * 255 + 0.5).astype(np.uint8)
        srgb = converter(Image.fromarray(eight_bit[..., 0] if mode == "L" else eight_bit))
        return np.asarray(srgb, dtype=np.float32) / np.float32(255)

    return convert
