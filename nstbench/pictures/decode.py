"""Decoding picture files to sRGB values in [0, 1], in every mode and depth that Pillow or tifffile opens.

`nstbench.pictures.io` has the public functions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from nstbench.pictures.formats import UnreadableError, open_image
from nstbench.pictures.icc import srgb_converter
from nstbench.pictures.jpeg_data import check_jpeg_end
from nstbench.pictures.pfm import is_pfm, read_pfm
from nstbench.pictures.png_data import check_png
from nstbench.pictures.shape import Shape
from nstbench.pictures.stored import Band, Stored, Values, upright
from nstbench.pictures.tiff import decode_tiff
from nstbench.pictures.tiff_data import BITS, TIFF_HEADS, check_tiff
from nstbench.pictures.values import profiled, unit_range

logger = logging.getLogger(__name__)

_ORIENTATION = 274  # number of the tag
_PNG_HEAD = b"\x89PNG"
FactorFor = Callable[[Shape], int]


def decode(file: BinaryIO, max_pixels: int, factor_for: FactorFor) -> Stored:
    """Decode the first frame of a picture file, in sRGB. Call it under `pillow_limits`.

    8-bit and 16-bit values are divided by their greatest possible value. Floats within [0, 1] are
    not scaled; other floats, and 32-bit integers, have no defined white, so they are stretched
    from their least to their greatest value (and this is logged). 16-bit pictures keep their depth
    unless they carry a profile other than sRGB, which is applied to 8 bits.

    Args:
        file: Open file, which must stay open while bands are read.
        max_pixels: Limit on the number of pixels.
        factor_for: Function from the upright shape to the factor by which the picture will be reduced: a JPEG
            is decoded at that size or a larger one.

    Raises:
        UnreadableError: If neither Pillow nor tifffile decodes this kind of picture.
        Exception: If the file is broken; the decoders have no common base class of errors.
    """
    head = file.read(16)
    if is_pfm(head):
        floats = read_pfm(file, max_pixels)
        to_unit = unit_range(floats)
        return Stored(floats.shape[:2], lambda first, last: Band(to_unit(floats[first:last])))
    is_tiff = head[:4] in TIFF_HEADS
    if is_tiff:
        check_tiff(file, max_pixels)
    if head.startswith(_PNG_HEAD):
        check_png(file, max_pixels)
    file.seek(0)
    try:
        image = open_image(file)
    except UnidentifiedImageError as unidentified:
        if not is_tiff:
            raise
        try:
            return decode_tiff(file, max_pixels)
        except (UnreadableError, Image.DecompressionBombError):
            raise
        except Exception as error:  # a broken TIFF raises errors of any type
            raise unidentified from error
    if image.format == "TIFF" and max(image.tag_v2.get(BITS, (1,))) > 8:  # type: ignore[attr-defined]
        try:
            return decode_tiff(file, max_pixels)
        except UnreadableError:
            raise
        except Exception as error:  # compressions that Pillow supports; broken files fail again below
            logger.debug("tifffile cannot decode %s (%s); using Pillow", file.name, error)
        file.seek(0)
        image = open_image(file)
    return _from_pillow(file, image, factor_for)


def _from_pillow(file: BinaryIO, image: Image.Image, factor_for: FactorFor) -> Stored:
    full = None
    if image.format in ("JPEG", "MPO"):
        full = (image.height, image.width)
        factor = factor_for(upright(full, _orientation(image)))
        image.draft(None, (max(1, full[1] // factor), max(1, full[0] // factor)))  # this size or larger
    tile: Any = next(iter(getattr(image, "tile", [])), None)
    image.load()
    if image.format in ("JPEG", "MPO"):
        check_jpeg_end(file, image)
    if image.format == "PNG" and tile is not None and tile[3] in _LOW_BYTE_MODES:
        band = _deep_png(file, image, tile)
    elif image.mode == "F" or image.mode.startswith("I"):
        band = _deep_grey(image)
    else:
        band = _eight_bit(image)
    return Stored((image.height, image.width), band, _orientation(image), full)


def _rows(image: Image.Image, first: int, last: int) -> Image.Image:
    return image.crop((0, first, image.width, last))


def _eight_bit(image: Image.Image) -> Callable[[int, int], Band]:
    if image.mode == "LAB":
        return _lab(image)
    grey = image.mode in ("1", "L", "LA", "La")
    transparent = image.has_transparency_data
    mode = "L" if grey else "CMYK" if image.mode == "CMYK" and not transparent else "RGB"
    profile = image.info.get("icc_profile")
    converter = srgb_converter(mode, profile) if profile else None

    def band(first: int, last: int) -> Band:
        part, alpha = _rows(image, first, last), None
        try:
            if part.mode == "La":
                part = part.convert("LA")
            if transparent:
                part = part.convert("RGBA")
                alpha = np.asarray(part.getchannel("A"), dtype=np.float32) / np.float32(255)
                part = part.getchannel("R") if grey else part
            part = part.convert(mode)
        except ValueError as error:
            raise UnreadableError(f"its colours are in mode {image.mode}", "Save it as RGB.") from error
        srgb = converter(part) if converter else part.convert("RGB") if mode == "CMYK" else part
        return Band(_over_255(srgb), alpha)

    return band


def _over_255(image: Image.Image) -> Values:
    values = np.asarray(image, dtype=np.float32) / np.float32(255)
    return values[..., None] if values.ndim == 2 else values


def _lab(image: Image.Image) -> Callable[[int, int], Band]:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")

    def band(first: int, last: int) -> Band:
        converted = ImageCms.applyTransform(_rows(image, first, last), transform)
        assert converted is not None
        return Band(_over_255(converted))

    return band


def _deep_grey(image: Image.Image) -> Callable[[int, int], Band]:
    """Return the bands of grey values of more than 8 bits: modes ``I;16`` in any byte order, ``I``, ``F``."""
    bits = getattr(image, "tag_v2", {}).get(BITS, (16,))[0]
    if image.mode.startswith("I;16"):
        white = 2**bits - 1
    else:
        white = 65535 if image.mode == "I" and image.format in ("PNG", "PPM") else 0  # those have 16 bits
    to_unit = None if white else unit_range(np.asarray(image))
    transparent = image.info.get("transparency")
    convert = profiled("L", image.info.get("icc_profile"))

    def band(first: int, last: int) -> Band:
        raw = np.asarray(_rows(image, first, last))
        values = to_unit(raw) if to_unit else raw.astype(np.float32) / np.float32(white)
        alpha = (raw != transparent).astype(np.float32) if isinstance(transparent, int) else None
        return Band(convert(values[..., None]), alpha)

    return band


# Pillow's raw mode for each kind of 16-bit PNG → a raw mode that reads the bytes dropped by it.
_LOW_BYTE_MODES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L", "LA;16B": "RGBA"}


def _deep_png(file: BinaryIO, image: Image.Image, tile: Any) -> Callable[[int, int], Band]:
    """Return the bands of a PNG of 16 bits and more than one channel, which Pillow reduces to 8 bits.

    Pillow keeps the high byte of each value. Read again in the other byte order, the low one is kept;
    grey with alpha is read as four bytes of RGBA, which are complete.
    """
    file.seek(0)
    other = open_image(file)
    other.tile = [(*tile[:3], _LOW_BYTE_MODES[tile[3]])]  # type: ignore[attr-defined]
    other.load()
    colours = 1 if tile[3] == "LA;16B" else 3
    convert = profiled("L" if colours == 1 else "RGB", image.info.get("icc_profile"))

    def band(first: int, last: int) -> Band:
        low = np.asarray(_rows(other, first, last))
        if colours == 1:
            samples = np.ascontiguousarray(low).view(">u2")
        else:
            samples = np.asarray(_rows(image, first, last)).astype(np.uint16) << 8 | low
        values = samples.astype(np.float32) / np.float32(65535)
        alpha = values[..., colours] if samples.shape[-1] > colours else None
        if "transparency" in image.info:  # one colour that means "transparent"
            alpha = (samples[..., :3] != image.info["transparency"]).any(-1).astype(np.float32)
        return Band(convert(values[..., :colours]), alpha)

    return band


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception as error:  # broken EXIF raises errors of any type; the picture itself can be read
        logger.warning("ignored EXIF data that cannot be read: %s", error)
        return 1
