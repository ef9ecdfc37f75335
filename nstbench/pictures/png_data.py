"""Checking a PNG before it is decoded: its data is complete, and nothing else in it is large.

Pillow fills missing rows of a PNG with zeros, without an error, and ignores checksums of the data. Both
are checked here in one pass that takes at most a few megabytes.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

TRUNCATED = "the file is truncated"
"""Beginning of the reason for truncated files."""

MAX_EXTRA_BYTES = 1 << 26
"""Limit on the bytes of a PNG outside of its picture data: text, profiles, EXIF, frames of animations."""
_MAX_CHUNKS = 1 << 20
_BLOCK = 1 << 16
_HEAD = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
"""Adam7: x, y of the first pixel, distance in x and y."""


class DamagedError(ValueError):
    """A file with invalid or missing bytes; the message is a clause."""


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raise Pillow's error, worded as Pillow does, for a picture of too many pixels."""
    if width * height > max_pixels:
        raise Image.DecompressionBombError(f"Image size ({width * height} pixels) exceeds {max_pixels}")


@dataclass(frozen=True)
class PngHeader:
    """The contents of the first chunk of a PNG."""

    width: int
    height: int
    bits: int
    colour_type: int
    interlaced: bool

    def data_bytes(self) -> int:
        """Return the number of bytes that the decompressed data must have."""
        bits = self.bits * _CHANNELS[self.colour_type]
        total = 0
        for x, y, dx, dy in _PASSES if self.interlaced else [(0, 0, 1, 1)]:
            width, height = -(-(self.width - x) // dx), -(-(self.height - y) // dy)
            if width > 0 and height > 0:
                total += height * (1 + (width * bits + 7) // 8)
        return total


def read_png_header(file: BinaryIO) -> PngHeader:
    """Read the first chunk of a PNG.

    Raises:
        DamagedError: If it is not a PNG, or its first chunk is invalid.
    """
    head = file.read(33)
    if not head.startswith(_HEAD):
        raise DamagedError("it is not a PNG")
    if len(head) < 33:
        raise DamagedError(f"{TRUNCATED}: its end is missing")
    width, height, bits, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", head[16:29])
    known = colour_type in _CHANNELS and bits in (1, 2, 4, 8, 16)
    if head[8:16] != b"\0\0\0\x0dIHDR" or not known or not 0 < width < 2**31 or not 0 < height < 2**31:
        raise DamagedError("its PNG header is broken")
    return PngHeader(width, height, bits, colour_type, interlaced != 0)


def check_png(file: BinaryIO, max_pixels: int) -> None:
    """Check that the picture data of a PNG is complete and undamaged, and that other data is not large.

    Args:
        file: Open file. Its position afterwards is not defined.
        max_pixels: Limit on the number of pixels.

    Raises:
        DamagedError: If it is not so; the message is a clause.
        DecompressionBombError: If there are more than ``max_pixels``.
    """
    file.seek(0)
    header = read_png_header(file)
    check_pixels(header.width, header.height, max_pixels)
    wanted = header.data_bytes()
    size = os.fstat(file.fileno()).st_size
    position, extra, inflate = 33, 0, zlib.decompressobj()
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            break
        if kind == b"IDAT":
            wanted -= _inflate(file, length, inflate, wanted)
            if wanted <= 0:
                break  # Pillow reads only text after it
        else:
            extra += length + 12
            _check_extra(extra)
        position += length + 12
    else:
        raise DamagedError(f"it is in more than {_MAX_CHUNKS:,} chunks")
    if wanted > 0:
        raise DamagedError(f"{TRUNCATED}: a part of its picture is missing")
    _check_extra(extra + max(0, size - position - 12 - length))


def _check_extra(extra: int) -> None:
    if extra > MAX_EXTRA_BYTES:
        raise DamagedError(f"more than {MAX_EXTRA_BYTES >> 20} MiB of it are not picture data")


def _inflate(file: BinaryIO, length: int, inflate: zlib._Decompress, wanted: int) -> int:
    """Return the number of bytes that one chunk of data decompresses to, counted up to ``wanted``."""
    found, checksum, left = 0, zlib.crc32(b"IDAT"), length
    while left:
        block = file.read(min(left, _BLOCK))
        if not block:
            raise DamagedError(f"{TRUNCATED}: its end is missing")
        left -= len(block)
        checksum = zlib.crc32(block, checksum)
        while block and found < wanted and not inflate.eof:
            try:
                found += len(inflate.decompress(block, _BLOCK))
            except zlib.error as error:
                raise DamagedError(f"its data is damaged ({error})") from error
            block = inflate.unconsumed_tail
    stored = file.read(4)
    if len(stored) < 4:
        # The end of the last checksum may be missing if all data is present.
        return found
    if checksum != int.from_bytes(stored, "big"):
        raise DamagedError("its data is damaged: a checksum is wrong")
    return found
