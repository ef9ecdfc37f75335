"""The formats of picture files that are opened with Pillow, and its limits."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from PIL import Image, ImageFile

FORMATS = (
    "AVIF",
    "BMP",
    "DIB",
    "GIF",
    "JPEG",
    "JPEG2000",
    "PCX",
    "PNG",
    "PPM",
    "PSD",
    "QOI",
    "SGI",
    "SUN",
    "TGA",
    "TIFF",
    "WEBP",
)
"""Pillow's names of the raster formats that are read. EPS, which Pillow runs in Ghostscript, is not among
them, nor are containers of other formats or of data that is not a picture."""

_pillow_settings = threading.Lock()


class UnreadableError(Exception):
    """A file that cannot be read as a picture.

    Args:
        reason: Why, as a clause.
        hint: What to do about it, as a sentence.
    """

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason, self.hint = reason, hint


@contextmanager
def pillow_limits(max_pixels: int) -> Iterator[None]:
    """Make Pillow raise an error for truncated files and, from the header, for more than ``max_pixels``.

    Pillow has both settings in globals, which other libraries change: they are set here, one
    thread at a time, and restored.
    """
    with _pillow_settings, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about corrupt EXIF, and pictures above half of the limit
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        # Pillow warns above its limit and raises above twice that: so half of max_pixels.
        Image.MAX_IMAGE_PIXELS = max_pixels / 2  # type: ignore[assignment]
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


def open_image(file: Path | IO[bytes]) -> Image.Image:
    """Open a picture of one of `FORMATS`; only the header is read. Call it under `pillow_limits`.

    Raises:
        PIL.UnidentifiedImageError: If Pillow does not recognise the file.
        PIL.Image.DecompressionBombError: If it is larger than the limit.
    """
    Image.init()
    return Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
