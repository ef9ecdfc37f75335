"""Embedded ICC profiles: bring a picture's numbers to sRGB.

A phone writes Display P3, a camera Adobe RGB, a scanner a grey "Dot Gain 20%": the same numbers mean
other colours there. Everything in nstbench is sRGB, so the profile is applied once, on reading.
"""

from __future__ import annotations

import logging
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

logger = logging.getLogger(__name__)

# The colour space that a profile names → the Pillow mode of the pictures it can describe.
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Return the picture in sRGB, or None where its numbers should be taken as they are.

    None means that the profile is sRGB to within rounding, so that a conversion would only add noise,
    or that it cannot be used (broken, or made for another kind of picture), which is logged.
    Relative colorimetric intent with black point compensation, as photo editors do by default.

    Args:
        image: mode ``L``, ``RGB`` or ``CMYK``, 8 bits.
        profile: the bytes of the ICC profile.
    """
    try:
        opened = ImageCms.getOpenProfile(BytesIO(profile))
        space = opened.profile.xcolor_space.strip()
        mode = _MODES.get(space)
        # Cameras tag greyscale pictures with RGB profiles: those are fine. The reverse is not.
        if mode is None or (mode != image.mode and (mode, image.mode) != ("RGB", "L")):
            logger.warning("ignored an ICC profile for %s in a %s picture", space, image.mode)
            return None
        transform = ImageCms.buildTransform(
            opened,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode != "CMYK" and _changes_nothing(transform, mode):
            return None
        return ImageCms.applyTransform(image.convert(mode), transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        logger.warning("ignored an ICC profile that cannot be used: %s", error)
        return None


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether no colour of a coarse cube moves by more than one level of 255."""
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
