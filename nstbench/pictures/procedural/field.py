"""Functions that the procedural styles share: smooth noise, flow lines, colour, relief.

Lattices of random numbers have a fixed number of cells across the picture, whatever its size, so a
style painted at 256 and at 1024 pixels from one seed is one composition at two resolutions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# In float64 throughout: float32 sines and exponentials differ between processors by enough to change
# an 8-bit level here and there, and a style picture should have the same bytes everywhere.
Array = NDArray[Any]


def grid(size: int) -> tuple[Array, Array]:
    """Return x and y of every pixel centre, in [0, 1], each ``(size, size)``; y points down."""
    c = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(c, c)
    return x, y


def smoothstep(low: Array | float, high: Array | float, x: Array | float) -> Array:
    """Return 0 below ``low``, 1 above ``high`` and 3t² - 2t³ between; ``low > high`` falls instead."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))


def _spline(n_out: int, cells: float, offset: float) -> tuple[NDArray[np.intp], Array]:
    """Return the first lattice index and the 4 cubic B-spline weights of each of ``n_out`` positions."""
    p = (np.arange(n_out) + 0.5) / n_out * cells + offset
    i = np.floor(p).astype(np.intp)
    t = p - i
    w = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
    return i, w


def noise(
    size: int,
    rng: np.random.Generator,
    cells: float | tuple[float, float],
    *,
    octaves: int = 1,
    gain: float = 0.5,
) -> Array:
    """Return smooth noise of mean about 0 and deviation about 1, ``(size, size)``.

    Args:
        size: Pixels on a side.
        rng: Random generator; the draws do not depend on ``size``.
        cells: Number of lattice cells (down, across): the larger, the finer.
        octaves: Number of layers, each twice as fine as the previous one.
        gain: Weight of each layer relative to the previous one.
    """
    down, across = cells if isinstance(cells, tuple) else (cells, cells)
    total: Array = np.zeros((size, size))
    power = 0.0
    for k in range(octaves):
        scale, weight = 2.0**k, gain**k
        offset = rng.random(2)
        shape = int(np.ceil(down * scale)) + 5, int(np.ceil(across * scale)) + 5
        lattice = rng.standard_normal(shape)
        i, wi = _spline(size, down * scale, offset[0])
        j, wj = _spline(size, across * scale, offset[1])
        # Sums of four gathers and not a matrix product: the bits must not depend on BLAS threads.
        wide: Array = sum(wj[m] * lattice[:, j + m] for m in range(4))
        for m in range(4):
            total += (weight * wi[m])[:, None] * wide[i + m]
        power += weight**2
    # A cubic B-spline of white noise has variance (151/315)² on average.
    return np.asarray(total / (np.sqrt(power) * 151 / 315))


def at(field: Array, x: Array, y: Array) -> Array:
    """Read a ``(n, n, ...)`` field at positions in [0, 1], at the nearest pixel, clamped at the border."""
    n = field.shape[0]
    col = np.clip((np.asarray(x) * n).astype(np.intp), 0, n - 1)
    row = np.clip((np.asarray(y) * n).astype(np.intp), 0, n - 1)
    return np.asarray(field[row, col])


def smooth_at(field: Array, x: Array, y: Array) -> Array:
    """Read a ``(n, n)`` field at positions in [0, 1], bilinear, reflected at the border."""
    from scipy.ndimage import map_coordinates

    n = field.shape[0]
    return np.asarray(map_coordinates(field, [y * n - 0.5, x * n - 0.5], order=1, mode="reflect"))


def blur(field: Array, sigma: float) -> Array:
    """Gaussian blur of a ``(n, n)`` or ``(n, n, 3)`` field; ``sigma`` as a fraction of the picture."""
    from scipy.ndimage import gaussian_filter

    s = sigma * field.shape[0]
    return np.asarray(gaussian_filter(field, (s, s) + (0,) * (field.ndim - 2), mode="reflect"))


def smear(field: Array, angle: Array, length: float, steps: int = 16) -> Array:
    """Average a ``(n, n)`` field along the flow lines of ``angle`` (line integral convolution).

    Args:
        field: Field to average.
        angle: Direction of the flow in radians, ``(n, n)``.
        length: Half the length of the average, as a fraction of the picture.
        steps: Number of samples on each side.

    Source: Cabral and Leedom, SIGGRAPH 1993, with a box kernel.
    """
    n = field.shape[0]
    x0, y0 = grid(n)
    step = length / steps
    total, dx, dy = field.copy(), np.cos(angle), np.sin(angle)
    for sign in (1.0, -1.0):
        x, y = x0.copy(), y0.copy()
        for _ in range(steps):
            u, v = at(dx, x, y), at(dy, x, y)
            x += sign * step * u
            y += sign * step * v
            total += at(field, x, y)
    return total / (2 * steps + 1)


def scatter(rng: np.random.Generator, spacing: float, jitter: float = 0.5, margin: float = 0.02) -> Array:
    """Return ``(N, 2)`` positions (x, y), about one for each square of side ``spacing``, in random order.

    Rows are staggered and every point is displaced by up to ``jitter`` squares: even, without a grid.
    """
    n = int(np.ceil((1 + 2 * margin) / spacing))
    col, row = np.meshgrid(np.arange(n), np.arange(n))
    x = (col + 0.5 * (row % 2)).ravel() * spacing - margin
    y = row.ravel() * spacing - margin
    p = np.stack([x, y], axis=1) + rng.uniform(-jitter, jitter, (n * n, 2)) * spacing
    return np.asarray(p[rng.permutation(n * n)])


def inks(*codes: str) -> Array:
    """Return colours written as "rrggbb" as an ``(n, 3)`` array in [0, 1]."""
    return np.array([[int(c[i : i + 2], 16) / 255 for i in (0, 2, 4)] for c in codes])


def ramp(t: Array, colours: Array) -> Array:
    """Interpolate ``(n, 3)`` colours at t in [0, 1], evenly spaced, in OKLab; ``(..., 3)``."""
    lab = to_oklab(colours)
    t = np.clip(t, 0, 1) * (len(lab) - 1)
    i = np.minimum(t.astype(np.intp), max(len(lab) - 2, 0))
    f = (t - i)[..., None]
    return from_oklab(lab[i] * (1 - f) + lab[np.minimum(i + 1, len(lab) - 1)] * f)


# Ottosson, "A perceptual color space for image processing" (2020).
_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_FROM_LAB, _FROM_LMS = np.linalg.inv(_TO_LAB), np.linalg.inv(_TO_LMS)


def _times(m: Array, c: Array) -> Array:
    """Return ``c @ m.T`` over the last axis, written out so that the bits do not depend on BLAS."""
    return np.stack([c[..., 0] * r[0] + c[..., 1] * r[1] + c[..., 2] * r[2] for r in m], axis=-1)


def to_oklab(rgb: Array) -> Array:
    """Convert sRGB ``(..., 3)`` in [0, 1] to OKLab (L in [0, 1], a, b)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((np.maximum(rgb, 0) + 0.055) / 1.055) ** 2.4)
    return _times(_TO_LAB, np.cbrt(_times(_TO_LMS, linear)))


def from_oklab(lab: Array) -> Array:
    """Convert OKLab ``(..., 3)`` to sRGB, clipped to [0, 1]."""
    linear = np.clip(_times(_FROM_LMS, _times(_FROM_LAB, lab) ** 3), 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def vary(rgb: Array, rng: np.random.Generator, light: float, hue: float) -> Array:
    """Return ``(N, 3)`` colours with random variations of lightness and hue."""
    lab = to_oklab(rgb)
    n = len(lab)
    turn = rng.normal(0, hue, n)
    cos, sin = np.cos(turn), np.sin(turn)
    a, b = lab[:, 1] * cos - lab[:, 2] * sin, lab[:, 1] * sin + lab[:, 2] * cos
    chroma = 1 + rng.normal(0, 0.12, n)
    return from_oklab(np.stack([lab[:, 0] + rng.normal(0, light, n), a * chroma, b * chroma], axis=1))


def mix(under: Array, over: Array, alpha: Array) -> Array:
    """Lay ``over`` on ``under`` with an opacity ``(n, n)``; colours are ``(n, n, 3)`` or ``(3,)``."""
    a = alpha[..., None]
    return np.asarray(under * (1 - a) + over * a)


def relief(picture: Array, height: Array, strength: float, shine: float = 0.0) -> Array:
    """Shade a picture as if its paint had a ``height`` and light came from the upper left.

    Args:
        picture: Picture ``(n, n, 3)``.
        height: Height of the paint, ``(n, n)``; about 1 for a thick stroke.
        strength: Contrast of light and dark slopes.
        shine: White added on slopes towards the light.
    """
    n = height.shape[0]
    # Slopes per 1/512 of the picture, so that the light does not depend on the resolution.
    down, across = np.gradient(height.astype(float) * (n / 512))
    slope = -(across + down) / np.sqrt(2)
    light = np.tanh(strength * slope)
    lit = picture * (1 + 0.5 * np.minimum(light, 0))[..., None]
    lit += (1 - lit) * (np.maximum(light, 0) * 0.28)[..., None] * (0.35 + 0.65 * picture)
    return np.asarray(lit + shine * (np.maximum(light, 0) ** 3)[..., None])


def reduce(picture: Array, factor: int) -> Array:
    """Average ``factor`` × ``factor`` blocks of an ``(n, n)`` or ``(n, n, 3)`` picture."""
    n = picture.shape[0] // factor
    return np.asarray(picture.reshape(n, factor, n, factor, *picture.shape[2:]).mean(axis=(1, 3)))
