"""Decoded pictures that are converted to floats in bands of rows, to save memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nstbench.pictures.formats import UnreadableError
from nstbench.pictures.shape import Shape

Values = NDArray[np.float32]
_BAND_PIXELS = 1 << 20


@dataclass(frozen=True, eq=False)
class Band:
    """Rows of a picture: ``rgb`` (h, W, 1 or 3) and ``alpha`` (h, W) in [0, 1], not premultiplied."""

    rgb: Values
    alpha: Values | None = None


@dataclass(frozen=True, eq=False)
class Stored:
    """A decoded picture in its stored orientation.

    Attributes:
        shape: Height and width as stored.
        band: Function from the first row and the one after the last to the `Band` of these rows.
        orientation: EXIF orientation, 1 to 8; other values mean 1.
        full_shape: Height and width in the file, if the decoder has reduced the picture.
    """

    shape: Shape
    band: Callable[[int, int], Band]
    orientation: int = 1
    full_shape: Shape | None = None

    @property
    def upright_shape(self) -> Shape:
        """Height and width in the file, after the orientation is applied."""
        return upright(self.full_shape or self.shape, self.orientation)

    def remaining(self, factor: int) -> int:
        """Return the factor that is left after the decoder's own reduction."""
        height = (self.full_shape or self.shape)[0]
        return max(1, factor // max(1, round(height / self.shape[0])))


def upright(shape: Shape, orientation: int) -> Shape:
    """Return the height and width of a stored shape after an orientation is applied."""
    return (shape[1], shape[0]) if orientation in (5, 6, 7, 8) else shape


def assemble(stored: Stored, background: tuple[float, float, float], factor: int = 1) -> Values:
    """Return the upright picture over a background, (3, H, W).

    Args:
        stored: Decoded picture.
        background: sRGB colour in [0, 1] behind transparent parts.
        factor: Number of pixels along each edge that are averaged to one.

    Raises:
        UnreadableError: If a value is NaN or infinite.
    """
    height, width = stored.shape
    rows, columns = _edges(height, factor), _edges(width, factor)
    shape = (len(rows) - 1, len(columns) - 1)
    planes = np.empty((3, *upright(shape, stored.orientation)), dtype=np.float32)
    target = _as_stored(planes, stored.orientation)
    behind = np.asarray(background, dtype=np.float32)
    for first, last in _bands(rows, width):
        band = stored.band(int(rows[first]), int(rows[last]))
        rgb = band.rgb
        if band.alpha is not None:
            alpha = band.alpha[..., None]
            rgb = rgb * alpha + behind * (1 - alpha)
        if not np.isfinite(rgb).all():
            raise UnreadableError("it has values that are NaN or infinite")
        if factor > 1:
            rgb = _means(rgb, rows[first : last + 1] - rows[first], columns)
        np.clip(rgb.transpose(2, 0, 1), 0, 1, out=target[:, first:last])
    return planes


def _edges(length: int, factor: int) -> NDArray[np.int64]:
    """Return where each box of averaged pixels begins, and where the last one ends."""
    number = max(1, round(length / factor))
    return np.round(np.arange(number + 1) * (length / number)).astype(np.int64)


def _bands(rows: NDArray[np.int64], width: int) -> Iterator[tuple[int, int]]:
    number = len(rows) - 1
    step = max(1, math.floor(_BAND_PIXELS / (width * (rows[-1] / number))))
    for first in range(0, number, step):
        yield first, min(number, first + step)


def _means(rgb: Values, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Values:
    sums: Values = np.add.reduceat(np.add.reduceat(rgb, rows[:-1], axis=0), columns[:-1], axis=1)
    sums /= np.diff(rows)[:, None, None] * np.diff(columns)[:, None]
    return sums


def _as_stored(planes: Values, orientation: int) -> Values:
    """Return a view of an upright (3, H, W) picture in its stored orientation."""
    view = planes
    if orientation in (2, 3, 6, 7):
        view = view[..., ::-1]
    if orientation in (3, 4, 7, 8):
        view = view[:, ::-1]
    if orientation in (5, 6, 7, 8):
        view = view.swapaxes(1, 2)
    return view
