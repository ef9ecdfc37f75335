"""Checking a TIFF before it is decoded: its tags, their sizes, and the data of its strips.

Decoders trust these numbers: a deflated strip of a picture of 34 × 24 may expand to gigabytes, and
missing strips are filled with zeros. The check takes at most a few megabytes.
"""

from __future__ import annotations

import lzma
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from nstbench.pictures.png_data import TRUNCATED, DamagedError, check_pixels

TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MAX_TAG_BYTES = 1 << 26
_MAX_NUMBERS = 1 << 20  # in one tag: decoders create a Python object for each
_MAX_ENTRIES = 4096
_SLACK = 1 << 16  # bytes that a strip may hold beyond its rows
_BLOCK = 1 << 16
_FORMATS = {
    1: "B",
    2: "B",
    3: "H",
    4: "I",
    6: "b",
    7: "B",
    8: "h",
    9: "i",
    13: "I",
    16: "Q",
    17: "q",
    18: "Q",
}
_SIZES = {5: 8, 10: 8, 11: 4, 12: 8}  # bytes of a number, for types that are not integers
_BYTES_OR_TEXT = {1, 2, 6, 7}
_SUB_DIRECTORIES = {34665: "EXIF", 34853: "GPS", 40965: "interoperability"}

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, OFFSETS, SAMPLES, ROWS, COUNTS = (
    256,
    257,
    258,
    259,
    262,
    273,
    277,
    278,
    279,
)
PLANAR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = 284, 322, 323, 324, 325
NONE, PACK_BITS, LZMA = 1, 32773, 34925
DEFLATE = (8, 32946)
COUNTED = frozenset({NONE, PACK_BITS, LZMA, *DEFLATE})
"""Compressions for which `check_tiff` counts the bytes that a strip expands to."""
_YCBCR = 6


@dataclass(frozen=True)
class _Tag:
    kind: int
    count: int
    value: bytes  # of the entry: the value itself, or its offset
    size: int


def check_tiff(file: BinaryIO, max_pixels: int) -> None:
    """Check that the first picture of a TIFF has neither too little nor too much data, nor too large tags.

    Args:
        file: Open file. Its position afterwards is not defined.
        max_pixels: Limit on the number of pixels.

    Raises:
        DamagedError: If it has; the message is a clause.
        DecompressionBombError: If there are more than ``max_pixels``.
    """
    try:
        _check(file, max_pixels)
    except struct.error as error:
        raise DamagedError(f"{TRUNCATED}: its end is missing") from error


def _check(file: BinaryIO, max_pixels: int) -> None:
    reader = _Reader(file)
    tags = reader.directory(reader.first)
    for number, name in _SUB_DIRECTORIES.items():
        for offset in reader.numbers(tags, number)[:1]:
            try:
                reader.directory(offset)
            except struct.error:  # outside of the file, where decoders do not find it either
                continue
            except DamagedError as error:
                raise DamagedError(f"its {name} data is broken: {error}") from error

    def first(number: int, default: int) -> int:
        return next(iter(reader.numbers(tags, number)), default)

    check_pixels(first(WIDTH, 0), first(HEIGHT, 0), max_pixels)
    compression = first(COMPRESSION, NONE)
    for (offset, stored), (least, most) in _segments(reader, tags, first):
        if offset <= 0 or offset >= reader.size or (stored == 0 and compression != NONE):
            raise DamagedError(f"{TRUNCATED}: a part of its picture is missing")
        if compression == NONE:
            if offset + least > reader.size or 0 < stored < least:
                raise DamagedError(f"{TRUNCATED}: a part of its picture is missing")
            continue
        if offset + stored > reader.size:
            raise DamagedError(f"{TRUNCATED}: its end is missing")
        if compression not in COUNTED:
            continue  # libtiff decodes them into a buffer of the size of the strip
        file.seek(offset)
        found = sum(_expanded(file, stored, compression, most))
        if found > most:
            raise DamagedError(f"a strip of it expands to more than the {most - _SLACK:,} bytes of its rows")
        if found < least:
            raise DamagedError(f"{TRUNCATED}: a part of its picture is missing")


def _segments(
    reader: _Reader, tags: Mapping[int, _Tag], first: Any
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield (offset, size) of every strip or tile, with (least, most), the bounds of its expanded size."""
    width, height, samples = first(WIDTH, 0), first(HEIGHT, 0), first(SAMPLES, 1)
    bits = max(reader.numbers(tags, BITS) or [1])
    if width <= 0 or height <= 0 or not 0 < samples <= 16 or not 0 < bits <= 64:
        raise DamagedError("its TIFF tags are broken: such a picture is impossible")
    planes, together = (samples, 1) if first(PLANAR, 1) == 2 else (1, samples)
    subsampled = first(PHOTOMETRIC, 1) == _YCBCR
    tiled = TILE_OFFSETS in tags
    if tiled:
        wide, tall = first(TILE_WIDTH, 0), first(TILE_HEIGHT, 0)
        if wide <= 0 or tall <= 0 or wide * tall > 4 * width * height + (1 << 20):
            raise DamagedError("its TIFF tags are broken: such tiles are impossible")
        across, down = -(-width // wide), -(-height // tall)
    else:
        wide, tall, across = width, min(height, max(1, first(ROWS, height))), 1
        down = -(-height // tall)
    offsets = reader.numbers(tags, TILE_OFFSETS if tiled else OFFSETS)
    counts = reader.numbers(tags, TILE_COUNTS if tiled else COUNTS)
    number = across * down * planes
    if len(offsets) < number or (counts and len(counts) < number):
        raise DamagedError(f"{TRUNCATED}: a part of its picture is missing")
    row = (wide * together * bits + 7) // 8
    for i in range(number):
        rows = tall if tiled else min(tall, height - (i % down) * tall)
        least = 0 if subsampled else rows * row
        yield (offsets[i], counts[i] if counts else 0), (least, tall * row + _SLACK)


class _Reader:
    """The directories of a TIFF, classic or big, of either byte order."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size = file, os.fstat(file.fileno()).st_size
        file.seek(0)
        head = file.read(16)
        if head[:4] not in TIFF_HEADS:
            raise DamagedError("it is not a TIFF")
        self.order, self.big = "<" if head[:1] == b"I" else ">", b"+" in head[:4]
        self.first = self.unpack("Q", head[8:16])[0] if self.big else self.unpack("I", head[4:8])[0]

    def unpack(self, layout: str, data: bytes) -> tuple[Any, ...]:
        return struct.unpack(self.order + layout, data)

    def directory(self, offset: int) -> dict[int, _Tag]:
        """Return the entries of a directory; raise DamagedError if they are too many or too large."""
        self.file.seek(min(offset, self.size))
        number = (
            self.unpack("Q", self.file.read(8))[0] if self.big else self.unpack("H", self.file.read(2))[0]
        )
        if number > _MAX_ENTRIES:
            raise DamagedError(f"it has {number:,} TIFF tags")
        width, layout = (20, "HHQ8s") if self.big else (12, "HHI4s")
        tags: dict[int, _Tag] = {}
        total = 0
        for _ in range(number):
            tag, kind, count, value = self.unpack(layout, self.file.read(width))
            each = struct.calcsize(_FORMATS[kind]) if kind in _FORMATS else _SIZES.get(kind, 1)
            total += min(count * each, self.size)
            if total > _MAX_TAG_BYTES or (count > _MAX_NUMBERS and kind not in _BYTES_OR_TEXT):
                raise DamagedError(f"its TIFF tag {tag} has {count:,} values")
            tags.setdefault(tag, _Tag(kind, count, value, count * each))
        return tags

    def numbers(self, tags: Mapping[int, _Tag], number: int) -> list[int]:
        """Return the integers of a tag; an empty list if there is no such tag."""
        tag = tags.get(number)
        if tag is None or tag.kind not in _FORMATS or not tag.count:
            return []
        if tag.count > _MAX_NUMBERS:
            raise DamagedError(f"its TIFF tag {number} has {tag.count:,} values")
        data = tag.value
        if tag.size > len(data):
            self.file.seek(min(self.unpack("Q" if self.big else "I", data)[0], self.size))
            data = self.file.read(tag.size)
        return list(self.unpack(f"{tag.count}{_FORMATS[tag.kind]}", data[: tag.size]))


def _expanded(file: BinaryIO, stored: int, compression: int, most: int) -> Iterator[int]:
    """Yield the numbers of bytes that parts of a strip expand to; stop soon after ``most``."""
    if compression == PACK_BITS:
        yield from _unpacked_bits(file.read(min(stored, 2 * most)))
        return
    decoder: Any = lzma.LZMADecompressor() if compression == LZMA else zlib.decompressobj()
    found = 0
    while stored > 0 and found <= most and not decoder.eof:
        block = file.read(min(stored, _BLOCK))
        stored -= len(block)
        while found <= most and not decoder.eof:
            try:
                expanded = len(decoder.decompress(block, _BLOCK))
            except (zlib.error, lzma.LZMAError, EOFError) as error:
                raise DamagedError(f"its data is damaged ({error})") from error
            block = b"" if compression == LZMA else decoder.unconsumed_tail
            found += expanded
            yield expanded
            if not block and (compression != LZMA or decoder.needs_input):
                break


def _unpacked_bits(data: bytes) -> Iterator[int]:
    position = 0
    while position < len(data):
        code = data[position]
        if code < 128:
            yield min(code + 1, len(data) - position - 1)
            position += code + 2
        else:
            yield 257 - code if code > 128 else 0
            position += 2 if code > 128 else 1
