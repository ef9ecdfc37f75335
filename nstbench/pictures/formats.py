"""Which kinds of picture files are opened with Pillow, and within which limits."""

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
"""Pillow's names of the raster formats that are read. EPS, which Pillow hands to Ghostscript to run, is not
among them, nor are formats that are containers of other formats or of data that is not a picture."""

_pillow_settings = threading.Lock()


class UnreadableError(Exception):
    """A file that cannot become a picture: why, as a clause, and what to do about it."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason, self.hint = reason, hint


@contextmanager
def pillow_limits(max_pixels: int) -> Iterator[None]:
    """Make Pillow refuse, from the header alone, what has more than ``max_pixels``, and truncated files.

    Pillow keeps both settings in globals, which other libraries change: they are set here, one
    thread at a time, and put back.
    """
    with _pillow_settings, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of corrupt EXIF, and of pictures half as large as the limit
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        # Pillow warns above its limit and raises above twice that: half the limit raises where we want.
        Image.MAX_IMAGE_PIXELS = max_pixels / 2  # type: ignore[assignment]
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


def open_image(file: Path | IO[bytes]) -> Image.Image:
    """Open a picture of one of `FORMATS`; only the header is read. Call it under `pillow_limits`.

    Raises:
        PIL.UnidentifiedImageError: Pillow does not know the file.
        PIL.Image.DecompressionBombError: it is larger than the limit.
    """
    Image.init()
    return Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
