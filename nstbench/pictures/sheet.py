"""Contact sheets: labelled grids of pictures, for figures, reports and `nstbench images --sheet`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from nstbench.pictures.io import to_image
from nstbench.pictures.resize import resize, shape_for

_PAPER, _EDGE = (247, 247, 245), (216, 216, 212)
_INK, _SECOND_INK = (34, 34, 34), (112, 112, 112)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def contact_sheet(
    pictures: Sequence[tuple[str, Tensor]], *, columns: int, cell: int = 256, title: str = ""
) -> Tensor:
    """Draw labelled pictures in a grid: (1, 3, H, W) in [0, 1].

    Each picture is scaled to fit ``cell`` × ``cell`` with its aspect ratio kept; a row is as high as
    its highest picture, and pictures are placed directly above their labels. Labels are centred; one that
    is too wide is set smaller, then shortened in its middle. A line break in a label starts a second,
    lighter line.

    Args:
        pictures: Pairs (label, picture); a picture is (3, H, W) or (1, 3, H, W).
        columns: Largest number of pictures in a row.
        cell: Longer side of a picture on the sheet, in pixels.
        title: Title above the grid.

    Raises:
        ValueError: If there are no pictures, fewer than 1 column, or cells under 16 pixels.
    """
    if not pictures or columns < 1 or cell < 16:
        raise ValueError(
            f"a sheet needs pictures, columns and cells of 16 pixels, not {len(pictures)}, {columns}, {cell}"
        )
    columns = min(columns, len(pictures))
    margin, gap = max(4, cell // 10), max(3, cell // 14)
    text_size, title_size = max(9, cell // 15), max(12, cell // 9)
    line = round(text_size * 1.3)

    shown = [(label.splitlines(), _fit(picture, cell)) for label, picture in pictures]
    rows = [shown[start : start + columns] for start in range(0, len(shown), columns)]
    row_gap = gap + gap // 2
    # The height of each row's pictures, and of the labels below them.
    heights = [(max(i.height for _, i in row), line * max(len(lines) for lines, _ in row)) for row in rows]

    width = 2 * margin + columns * cell + (columns - 1) * gap
    top = margin + (round(title_size * 1.25) + gap if title else 0)
    height = (
        top + sum(p + t + (gap // 3 if t else 0) for p, t in heights) + (len(rows) - 1) * row_gap + margin
    )
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        text, font = _fit_text(title, title_size, width - 2 * margin)
        draw.text((margin, margin), text, fill=_INK, font=font)

    y = top
    for row, (picture_height, text_height) in zip(rows, heights, strict=True):
        for column, (lines, image) in enumerate(row):
            x = margin + column * (cell + gap)
            corner = x + (cell - image.width) // 2, y + picture_height - image.height
            # A line around the picture separates white pictures from the background.
            box = (corner[0] - 1, corner[1] - 1, corner[0] + image.width, corner[1] + image.height)
            draw.rectangle(box, outline=_EDGE)
            sheet.paste(image, corner)
            for number, words in enumerate(lines):
                text, font = _fit_text(words, text_size, cell)
                base = y + picture_height + gap // 3 + number * line + round(text_size * 0.95)
                ink = _SECOND_INK if number else _INK
                draw.text((x + cell / 2, base), text, fill=ink, font=font, anchor="ms")
        y += picture_height + text_height + (gap // 3 if text_height else 0) + row_gap
    return torch.from_numpy(np.asarray(sheet, dtype=np.float32).transpose(2, 0, 1) / 255)[None].contiguous()


def table_of_pictures(
    rows: Sequence[str],
    columns: Sequence[str],
    pictures: Mapping[tuple[int, int], Image.Image],
    *,
    longest: int = 2000,
    title: str = "",
) -> Image.Image:
    """Draw pictures in a table with a label for each row and each column; cells may be empty.

    Args:
        rows: Labels left of the table.
        columns: Labels above the table; a line break starts another line.
        pictures: Pictures by (row, column), scaled to fit their cell with their aspect ratio kept.
        longest: Largest length of the longer edge of the result, in pixels; cells are at most 256.
        title: Title above the table; may have several lines.

    Raises:
        ValueError: If there are no rows or columns, or so many that cells would be under 16 pixels.
    """
    if not rows or not columns:
        raise ValueError(f"a table needs rows and columns: {len(rows)}, {len(columns)}")
    gap, margin, text_size = 4, 16, 14
    line = round(text_size * 1.35)
    titles = title.splitlines()
    left = margin + min(longest // 6, round(max(_font(text_size).getlength(_plain(r)) for r in rows))) + 8
    top = margin + line * (len(titles) + max(len(c.splitlines()) for c in columns)) + (8 if titles else 0)
    cell = min(
        256, *((longest - at - margin) // n - gap for at, n in ((left, len(columns)), (top, len(rows))))
    )
    if cell < 16:
        raise ValueError(f"{len(rows)} x {len(columns)} pictures do not fit into {longest} pixels")
    shapes = [(p.width / max(p.size), p.height / max(p.size)) for p in pictures.values()] or [(1.0, 1.0)]
    cell_width, cell_height = (max(1, round(cell * max(each))) for each in zip(*shapes, strict=True))
    width = max(left + len(columns) * (cell_width + gap) + margin, min(longest, 480) if titles else 0)
    sheet = Image.new("RGB", (width, top + len(rows) * (cell_height + gap) + margin), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, words in enumerate(titles):
        text, font = _fit_text(words, text_size, width - 2 * margin)
        draw.text((margin, margin + number * line), text, fill=_INK, font=font)
    for column, label in enumerate(columns):
        lines = label.splitlines()
        for number, words in enumerate(lines):
            text, font = _fit_text(words, text_size, cell_width)
            base = top - 8 - (len(lines) - 1 - number) * line
            x = left + column * (cell_width + gap) + cell_width / 2
            draw.text((x, base), text, fill=_SECOND_INK if number else _INK, font=font, anchor="ms")
    for row, label in enumerate(rows):
        text, font = _fit_text(label, text_size, left - margin - 8)
        middle = top + row * (cell_height + gap) + cell_height / 2
        draw.text((left - 8, middle), text, fill=_INK, font=font, anchor="rm")
    for (row, column), picture in pictures.items():
        scale = min(cell_width / picture.width, cell_height / picture.height)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        x, y = left + column * (cell_width + gap), top + row * (cell_height + gap)
        corner = x + (cell_width - size[0]) // 2, y + (cell_height - size[1]) // 2
        sheet.paste(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS), corner)
    return sheet


def _fit(picture: Tensor, cell: int) -> Image.Image:
    batch = picture.detach().to("cpu", torch.float32)
    batch = batch if batch.ndim == 4 else batch[None]
    return to_image(resize(batch, shape_for(batch.shape[-2], batch.shape[-1], cell, "long_edge")))


@cache
def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def _fit_text(text: str, size: int, width: float) -> tuple[str, Font]:
    """Return a text and font that fit ``width``: down to three quarters of ``size``, then shortened."""
    text = _plain(text)
    for smaller in range(size, max(8, size * 3 // 4) - 1, -1):
        font = _font(smaller)
        if font.getlength(text) <= width:
            return text, font
    # Labels are shortened in the middle, as those of one sheet often differ at their ends.
    for kept in range(len(text) - 1, 0, -1):
        shorter = f"{text[: (kept + 1) // 2].rstrip()}…{text[len(text) - kept // 2 :].lstrip()}"
        if font.getlength(shorter) <= width:
            return shorter, font
    return "", font


_NAMES = {letter: unicodedata.name(letter).split()[-1].lower() for letter in "αβγδεζηθκλμνξπρστφχψω"}
_NAMES |= {letter: unicodedata.name(letter).split()[-1].capitalize() for letter in "ΓΔΘΛΞΠΣΦΨΩ"}
_NAMES |= {"×": "x", "→": "->", "←": "<-", "≤": "<=", "≥": ">=", "≈": "~", "≠": "!=", "∞": "inf", "√": "sqrt"}
_NAMES |= {"–": "-", "—": "-", "−": "-", "‑": "-", "ß": "ss", "½": "1/2", "✓": "yes", "∇": "grad "}
_IN_FONT = set("°±·…«»‘’“”").union(map(chr, range(32, 127)))


def _plain(text: str) -> str:
    """Replace the characters that Pillow's built-in font lacks, mostly non-ASCII: α → alpha, 10⁻³ → 10^-3."""
    text = re.sub("[⁰¹²³⁴-⁹⁺⁻]+", lambda raised: "^" + unicodedata.normalize("NFKC", raised.group()), text)
    text = "".join(_NAMES.get(letter, letter) for letter in text)
    letters = (letter if letter in _IN_FONT else unicodedata.normalize("NFKD", letter) for letter in text)
    bare = (letter for letter in "".join(letters) if not unicodedata.combining(letter))
    return "".join(_NAMES.get(letter, letter if letter in _IN_FONT else "?") for letter in bare)
