"""TIFFs that Pillow does not open or reduces to 8 bits: 16 and 32 bits and float, grey or RGB, with alpha."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nstbench.pictures.formats import UnreadableError
from nstbench.pictures.stored import Band, Stored, Values
from nstbench.pictures.tiff_data import COUNTED
from nstbench.pictures.values import profiled, unit_range

_ORIENTATION, _ICC_PROFILE = 274, 34675


def decode_tiff(file: BinaryIO, max_pixels: int) -> Stored:
    """Decode the first page with tifffile, after `nstbench.pictures.tiff_data.check_tiff`.

    Raises:
        UnreadableError: If its colours or axes are not those of a picture.
        DecompressionBombError: If there are more than ``max_pixels``.
        Exception: If the file is broken or its compression is not supported; tifffile raises many types.
    """
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file, name="picture") as tiff:
        page = tiff.pages.first
        pixels = page.imagelength * page.imagewidth
        if pixels == 0:
            raise ValueError("the first page is empty")
        if pixels > max_pixels:
            raise Image.DecompressionBombError(f"Image size ({pixels} pixels)")
        if page.compression not in COUNTED:
            # check_tiff bounds these only; others need a library that may be missing.
            raise ValueError(f"compression {page.compression} is left to Pillow")
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
    if samples.dtype.kind not in "iuf":
        raise UnreadableError(f"its values are of the type {samples.dtype}", "Save it as RGB.")
    colour_samples, alpha_samples = samples[..., :colours], None
    if extra != tifffile.EXTRASAMPLE.UNSPECIFIED:
        alpha_samples = samples[..., colours]
    to_unit = _scaling(colour_samples, bits)  # the colours decide the range, not the alpha channel
    alpha_to_unit = None if alpha_samples is None else _scaling(alpha_samples, bits)
    convert = profiled("L" if colours == 1 else "RGB", profile)
    multiplied = extra == tifffile.EXTRASAMPLE.ASSOCALPHA

    def band(first: int, last: int) -> Band:
        rgb, alpha = to_unit(colour_samples[first:last]), None
        if white_is_zero:
            rgb = 1 - rgb
        if alpha_samples is not None and alpha_to_unit is not None:
            alpha = alpha_to_unit(alpha_samples[first:last])
        if alpha is not None and multiplied:
            rgb = np.clip(rgb / np.maximum(alpha, 1e-6)[..., None], 0, 1)
        return Band(convert(rgb), alpha)

    return Stored(samples.shape[:2], band, orientation)


def _scaling(samples: NDArray[Any], bits: int) -> Callable[[NDArray[Any]], Values]:
    if samples.dtype.kind == "u" and samples.dtype.itemsize <= 2:
        return lambda part: part.astype(np.float32) / np.float32(2**bits - 1)
    return unit_range(samples)
