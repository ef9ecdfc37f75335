"""Portable float maps: ``PF`` (RGB) and ``Pf`` (grey), of which Pillow reads only the grey ones."""

from __future__ import annotations

import re
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nstbench.pictures.formats import UnreadableError

_HEADER = re.compile(rb"(P[Ff])\s+(\d{1,9})\s+(\d{1,9})\s+([+-]?[\d.]+(?:[eE][+-]?\d+)?)\s")


def is_pfm(head: bytes) -> bool:
    """Return whether a file with these first bytes is a portable float map."""
    return head[:2] in (b"PF", b"Pf") and head[2:3].isspace()


def read_pfm(file: BinaryIO, max_pixels: int) -> NDArray[np.float32]:
    """Return the floats of a portable float map, (H, W, 1 or 3), the top row first.

    The sign of the scale in the header is the byte order. Its magnitude is a unit of measurement,
    which is not applied.

    Raises:
        UnreadableError: If the header is broken, or there is less data than its size requires.
        DecompressionBombError: If there are more than ``max_pixels``.
    """
    file.seek(0)
    header = _HEADER.match(file.read(128))
    if not header or not float(header[4]):
        raise UnreadableError("its PFM header is broken", "Fetch or save it again.")
    channels = 3 if header[1] == b"PF" else 1
    width, height = int(header[2]), int(header[3])
    if width * height == 0:
        raise UnreadableError("it has no pixels", "Fetch or save it again.")
    if width * height > max_pixels:
        raise Image.DecompressionBombError(f"Image size ({width * height} pixels)")
    file.seek(header.end())
    wanted = width * height * channels
    data = file.read(4 * wanted)
    if len(data) < 4 * wanted:
        raise UnreadableError("the file is truncated: its end is missing", "Fetch or save it again.")
    floats = np.frombuffer(data, "<f4" if float(header[4]) < 0 else ">f4")
    return floats.reshape(height, width, channels)[::-1]
