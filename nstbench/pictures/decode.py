"""From a picture file to sRGB values in [0, 1]: every mode and depth that Pillow or tifffile opens.

`nstbench.pictures.io` is the door; this module knows the formats.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from nstbench.pictures.formats import UnreadableError, open_image
from nstbench.pictures.icc import to_srgb

logger = logging.getLogger(__name__)

Values = NDArray[np.float32]
_ORIENTATION, _BITS_PER_SAMPLE, _ICC_PROFILE = 274, 258, 34675  # numbers of TIFF and EXIF tags
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True, eq=False)
class Decoded:
    """What a file holds, upright: ``rgb`` (H, W, 3) and ``alpha`` (H, W) in [0, 1], not premultiplied."""

    rgb: Values
    alpha: Values | None = None


def decode(path: Path, max_pixels: int) -> Decoded:
    """Decode the first frame of a picture file, in sRGB and upright. Call it under `pillow_limits`.

    8-bit and 16-bit values are divided by their greatest possible value. Floats within [0, 1] are
    taken as they are; other floats, and 32-bit integers, have no agreed white, so they are stretched
    from their least to their greatest value (and this is logged). 16-bit pictures keep their depth
    unless they carry a profile other than sRGB, which is applied to 8 bits.

    Raises:
        UnreadableError: a kind of picture that neither Pillow nor tifffile decodes.
        Exception: whatever the decoders raise on broken files, which is not one family.
    """
    try:
        image = open_image(path)
    except UnidentifiedImageError as unidentified:
        with path.open("rb") as file:
            if file.read(4) not in _TIFF_HEADS:
                raise
        try:
            return _decode_tiff(path, max_pixels)
        except (UnreadableError, Image.DecompressionBombError):
            raise
        except Exception as error:  # a broken TIFF raises anything
            raise unidentified from error
    with image:
        if image.format == "TIFF" and max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))) > 8:  # type: ignore[attr-defined]
            try:
                return _decode_tiff(path, max_pixels)
            except Exception as error:  # tifffile lacks codecs that Pillow has; broken files fail again below
                logger.debug("tifffile cannot decode %s (%s); using Pillow", path, error)
        deep = _deep_png(path, image)
        if deep is None:
            image.load()
            deep = _from_pillow(image)
        orientation = _orientation(image)
    return _upright(deep, orientation)


def _from_pillow(image: Image.Image) -> Decoded:
    profile = image.info.get("icc_profile")
    if image.mode == "F" or image.mode.startswith("I"):
        return _from_deep_grey(image)
    if image.mode == "LAB":
        return _from_eight_bit(_lab_to_rgb(image), None)
    alpha = None
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        grey = image.mode in ("1", "L", "LA")
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"), dtype=np.float32) / np.float32(255)
        image = image.getchannel("R") if grey else image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "CMYK"):
        try:
            image = image.convert("RGB")
        except ValueError as error:
            raise UnreadableError(f"its colours are in mode {image.mode}", "Save it as RGB.") from error
    return _from_eight_bit(image, profile, alpha)


def _from_eight_bit(image: Image.Image, profile: bytes | None, alpha: Values | None = None) -> Decoded:
    srgb = to_srgb(image, profile) if profile else None
    return Decoded(np.asarray((srgb or image).convert("RGB"), dtype=np.float32) / np.float32(255), alpha)


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None
    return converted


def _from_deep_grey(image: Image.Image) -> Decoded:
    """Grey values of more than 8 bits: modes ``I;16`` and its byte orders, ``I`` and ``F``."""
    raw = np.asarray(image)
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0]
    if image.mode.startswith("I;16"):
        values = raw.astype(np.float32) / (2**bits - 1)
    elif image.format in ("PNG", "PPM"):  # mode I there means 16 bits
        values = raw.astype(np.float32) / 65535
    else:
        values = _unit_range(raw)
    transparent = image.info.get("transparency")
    alpha = (raw != transparent).astype(np.float32) if isinstance(transparent, int) else None
    return _with_profile(values[..., None], alpha, image.info.get("icc_profile"))


# Pillow's way of reading each kind of 16-bit PNG, and one that gets at the bytes it drops.
_OTHER_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L", "LA;16B": "RGBA"}


def _deep_png(path: Path, image: Image.Image) -> Decoded | None:
    """A PNG of 16 bits and more than one channel, which Pillow cuts to 8 bits; None for others.

    Pillow keeps the high byte of each value. Read again as if the bytes were swapped, it keeps the
    low one; grey with alpha, read as if its four bytes were RGBA, is all there.
    """
    tile: Any = next(iter(getattr(image, "tile", [])), None)
    if image.format != "PNG" or tile is None or tile[3] not in _OTHER_BYTES:
        return None
    image.load()
    with open_image(path) as again:
        again.tile = [(*tile[:3], _OTHER_BYTES[tile[3]])]  # type: ignore[attr-defined]
        other = np.asarray(again)
    if tile[3] == "LA;16B":
        samples, colours = np.ascontiguousarray(other).view(">u2"), 1
    else:
        samples, colours = np.asarray(image).astype(np.uint16) << 8 | other, 3
    values = samples.astype(np.float32) / np.float32(65535)
    alpha = values[..., colours] if samples.shape[-1] > colours else None
    if "transparency" in image.info:  # one colour stands for "nothing here"
        alpha = (samples[..., :3] != image.info["transparency"]).any(-1).astype(np.float32)
    return _with_profile(values[..., :colours], alpha, image.info.get("icc_profile"))


def _decode_tiff(path: Path, max_pixels: int) -> Decoded:
    """The TIFFs that Pillow does not open or cuts to 8 bits: 16-bit and float, grey or RGB, with alpha."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        if page.imagelength * page.imagewidth == 0:
            raise ValueError("the first page is empty")
        if page.imagelength * page.imagewidth > max_pixels:
            raise Image.DecompressionBombError(f"Image size ({page.imagelength * page.imagewidth} pixels)")
        white_is_zero = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        colours = 3 if page.photometric == tifffile.PHOTOMETRIC.RGB else 1
        if colours == 1 and not white_is_zero and page.photometric != tifffile.PHOTOMETRIC.MINISBLACK:
            raise UnreadableError(
                f"its TIFF colours are of the kind {getattr(page.photometric, 'name', page.photometric)}",
                "Save it as RGB.",
            )
        if page.axes not in ("YX", "YXS", "SYX"):
            raise UnreadableError(f"its TIFF axes are {page.axes}, not one picture", "Save one frame as RGB.")
        samples = page.asarray()
        extra = page.extrasamples[0] if page.extrasamples else tifffile.EXTRASAMPLE.UNSPECIFIED
        profile = page.tags.valueof(_ICC_PROFILE)
        orientation = int(page.tags.valueof(_ORIENTATION, default=1))
        bits = page.bitspersample
    samples = samples[..., None] if page.axes == "YX" else samples
    samples = np.moveaxis(samples, 0, -1) if page.axes == "SYX" else samples
    if samples.dtype.kind == "u" and samples.dtype.itemsize <= 2:
        values = samples.astype(np.float32) / (2**bits - 1)
    else:  # the colours decide the range, not the alpha channel
        values = np.concatenate(
            [_unit_range(samples[..., :colours]), _unit_range(samples[..., colours:])], -1
        )
    rgb, alpha = values[..., :colours], None
    if white_is_zero:
        rgb = 1 - rgb
    if extra != tifffile.EXTRASAMPLE.UNSPECIFIED:
        alpha = values[..., colours]
    if alpha is not None and extra == tifffile.EXTRASAMPLE.ASSOCALPHA:
        rgb = np.clip(rgb / np.maximum(alpha, 1e-6)[..., None], 0, 1)
    return _upright(_with_profile(rgb, alpha, profile), orientation)


def _with_profile(values: Values, alpha: Values | None, profile: bytes | None) -> Decoded:
    """Apply a profile to (H, W, 1 or 3) values of more than 8 bits."""
    if profile:
        eight_bit = np.floor(values * 255 + 0.5).astype(np.uint8)
        srgb = to_srgb(Image.fromarray(eight_bit[..., 0] if values.shape[-1] == 1 else eight_bit), profile)
        if srgb is not None:
            return Decoded(np.asarray(srgb, dtype=np.float32) / np.float32(255), alpha)
    return Decoded(np.broadcast_to(values, (*values.shape[:2], 3)), alpha)


def _unit_range(samples: NDArray[Any]) -> Values:
    """Floats in [0, 1] as they are; anything else stretched to [0, 1] from its least to its greatest."""
    if samples.size == 0:
        return samples.astype(np.float32)
    least, greatest = float(samples.min()), float(samples.max())
    if not np.isfinite([least, greatest]).all():
        raise UnreadableError("it has values that are NaN or infinite")
    if samples.dtype.kind == "f" and least >= 0 and greatest <= 1:
        return samples.astype(np.float32)
    logger.warning(
        "values from %g to %g have no agreed white: stretched to the range 0 to 1", least, greatest
    )
    return ((samples.astype(np.float64) - least) / ((greatest - least) or 1)).astype(np.float32)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception as error:  # broken EXIF raises anything; the picture itself is fine
        logger.warning("ignored EXIF data that cannot be read: %s", error)
        return 1


def _upright(decoded: Decoded, orientation: int) -> Decoded:
    """Undo an EXIF orientation (1 to 8); any other value is taken as upright."""

    def turn(a: Values) -> Values:
        if orientation in (5, 6, 7, 8):
            a = a.swapaxes(0, 1)
        if orientation in (3, 4, 7, 8):
            a = a[::-1]
        if orientation in (2, 3, 6, 7):
            a = a[:, ::-1]
        return a

    return Decoded(turn(decoded.rgb), None if decoded.alpha is None else turn(decoded.alpha))
