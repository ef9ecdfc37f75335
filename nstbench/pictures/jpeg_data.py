"""Detecting JPEGs whose picture ends early, which the decoder fills with grey without an error."""

from __future__ import annotations

import io
from typing import BinaryIO

import numpy as np
from PIL import Image

from nstbench.pictures.png_data import TRUNCATED, DamagedError

_END = b"\xff\xd9"
_CORNER = 4  # pixels
_OTHER_DATA = bytes(range(1, 251)) * 40


def check_jpeg_end(file: BinaryIO, image: Image.Image) -> None:
    """Raise DamagedError for a decoded JPEG whose data stops before its last pixel.

    Missing blocks are of one colour. If the last corner is of one colour, the file is decoded twice more, at
    an eighth of its size, unchanged and with other data before its end: only a truncated picture changes.
    In a progressive JPEG, only missing blocks of the first scan are detected; later scans refine it.

    Args:
        file: Open file.
        image: Picture that was decoded from it.

    Raises:
        DamagedError: If the file is truncated.
    """
    corner = image.crop((image.width - _CORNER, image.height - _CORNER, image.width, image.height))
    if image.width < _CORNER or image.height < _CORNER or np.ptp(np.asarray(corner), axis=(0, 1)).max() > 1:
        return
    file.seek(0)
    data = file.read()
    end = data.rfind(_END)
    if end < 0 or _small(data) == _small(data[:end] + _OTHER_DATA + data[end:]):
        return
    raise DamagedError(f"{TRUNCATED}: a part of its picture is missing")


def _small(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
        try:
            return image.tobytes()
        except OSError:
            return b""
