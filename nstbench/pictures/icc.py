"""Embedded ICC profiles: converting a picture's values to sRGB.

A phone writes Display P3, a camera Adobe RGB, a scanner a grey "Dot Gain 20%", where equal values are
different colours. Everything in nstbench is sRGB, so the profile is applied once, on reading.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

logger = logging.getLogger(__name__)

# The colour space that a profile names → the Pillow mode of the pictures it can describe.
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def srgb_converter(mode: str, profile: bytes) -> Callable[[Image.Image], Image.Image] | None:
    """Return the conversion of pictures to sRGB; None if their values should not be converted.

    None means that the profile is sRGB to within rounding, so that a conversion would only add noise,
    or that it cannot be used (broken, or for another kind of picture), which is logged.
    Relative colorimetric intent with black point compensation, as photo editors do by default.

    Args:
        mode: Mode of the pictures: ``L``, ``RGB`` or ``CMYK``, 8 bits.
        profile: Bytes of the ICC profile.
    """
    try:
        opened = ImageCms.getOpenProfile(BytesIO(profile))
        space = opened.profile.xcolor_space.strip()
        own = _MODES.get(space)
        # Cameras write RGB profiles to greyscale pictures, which is valid; the reverse is not.
        if own is None or (own != mode and (own, mode) != ("RGB", "L")):
            logger.warning("ignored an ICC profile for %s in a %s picture", space, mode)
            return None
        transform = ImageCms.buildTransform(
            opened,
            ImageCms.createProfile("sRGB"),
            own,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if own != "CMYK" and _changes_nothing(transform, own):
            return None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        logger.warning("ignored an ICC profile that cannot be used: %s", error)
        return None

    def convert(image: Image.Image) -> Image.Image:
        converted = ImageCms.applyTransform(image.convert(own), transform)
        assert converted is not None
        return converted

    return convert


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Return whether no colour of a coarse cube changes by more than one level of 255."""
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    if mode == "RGB":
        cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
    else:
        cube = levels[None]
    probe = Image.fromarray(cube)
    after = ImageCms.applyTransform(probe, transform)
    if after is None:
        return False
    moved = np.asarray(after, dtype=np.int16) - np.asarray(probe.convert("RGB"), dtype=np.int16)
    return bool(np.abs(moved).max() <= 1)
