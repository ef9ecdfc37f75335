"""Brush strokes: curved, with bristles, laid one over another with thickness of paint."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nstbench.pictures.procedural.field import Array, at

_PROFILES, _TEXELS = 24, 128


@dataclass
class Painting:
    """Colour ``(size, size, 3)`` and paint thickness ``(size, size)`` under the brush."""

    colour: Array
    height: Array

    @classmethod
    def primed(cls, size: int, colour: Array) -> Painting:
        """Return a canvas of one colour, or of a given ``(size, size, 3)`` underpainting."""
        return cls(
            np.array(np.broadcast_to(colour, (size, size, 3)), np.float32), np.zeros((size, size), np.float32)
        )


def _bristles(rng: np.random.Generator, soft: float) -> Array:
    """Return ``(_PROFILES, _TEXELS)`` smooth random profiles across a brush, mean 0, deviation 1."""
    f = np.fft.rfftfreq(_TEXELS) * _TEXELS
    spectrum = np.exp(-((f / soft) ** 2)) * (f > 0)
    wave = np.fft.irfft(
        np.fft.rfft(rng.standard_normal((_PROFILES, _TEXELS)), axis=1) * spectrum, _TEXELS, axis=1
    )
    return np.asarray(wave / wave.std(axis=1, keepdims=True), np.float32)


def lay(
    painting: Painting,
    rng: np.random.Generator,
    xy: Array,
    angle: Array,
    colour: Array,
    *,
    length: Array | float,
    width: Array | float,
    bend: Array | float = 0.0,
    streak: float = 0.05,
    thickness: float = 1.0,
    ragged: float = 0.35,
) -> None:
    """Lay N strokes in order, each over the last.

    Args:
        painting: Painting, changed in place.
        rng: Random generator of the bristles and the ragged ends.
        xy: Centres in [0, 1], ``(N, 2)``.
        angle: Direction of each stroke in radians, ``(N,)``.
        colour: Colours ``(N, 3)``.
        length: Length of each stroke, as a fraction of the picture.
        width: Width of each stroke, as a fraction of the picture.
        bend: Curvature of each stroke, in 1 / picture widths.
        streak: Variation of lightness between bristles.
        thickness: Thickness of the paint: 1 is impasto.
        ragged: Unevenness of the ends, as a fraction of the width.
    """
    size = painting.height.shape[0]
    n = len(xy)
    L = np.broadcast_to(np.asarray(length, float), n) * size / 2
    W = np.broadcast_to(np.asarray(width, float), n) * size / 2
    K = np.broadcast_to(np.asarray(bend, float), n) / size
    centre = np.asarray(xy) * size - 0.5
    # No more bristles than pixels across a brush can show: finer ones would alias.
    hairs = float(np.clip(np.median(W) / 2.5, 1.5, 9.0))
    draw = rng.spawn(1)[0]
    fine, coarse = _bristles(draw, hairs), _bristles(draw, 1.8)
    which = rng.integers(0, _PROFILES, (n, 3))
    colour = colour.astype(np.float32)
    cos, sin = np.cos(angle), np.sin(angle)
    for k in range(n):
        l, w = float(L[k]), float(W[k])
        sag = 0.5 * abs(float(K[k])) * l * l
        rx = abs(cos[k]) * l + abs(sin[k]) * (w + sag) + 2
        ry = abs(sin[k]) * l + abs(cos[k]) * (w + sag) + 2
        cx, cy = centre[k]
        x0, x1 = max(int(cx - rx), 0), min(int(cx + rx) + 2, size)
        y0, y1 = max(int(cy - ry), 0), min(int(cy + ry) + 2, size)
        if x0 >= x1 or y0 >= y1:
            continue
        dx = np.arange(x0, x1, dtype=np.float32) - np.float32(cx)
        dy = (np.arange(y0, y1, dtype=np.float32) - np.float32(cy))[:, None]
        c, s = np.float32(cos[k]), np.float32(sin[k])
        u = dx * c + dy * s
        v = dy * c - dx * s - np.float32(0.5 * K[k]) * u * u
        across = v * np.float32(1 / w)
        # The position of a pixel across the brush determines its bristle.
        texel = np.minimum(np.maximum((across * 0.5 + 0.5) * _TEXELS, 0), _TEXELS - 1).astype(np.intp)
        end = l + np.float32(ragged * w) * coarse[which[k, 0]][texel] - np.abs(u)
        # Corners are rounded: a brush lands and lifts as an oval.
        side = w * (1 - np.maximum(1 - end / (1.2 * w), 0) ** 2 * 0.55) - np.abs(v)
        cover = np.minimum(np.maximum(np.minimum(side, end) + 0.5, 0), 1)
        lift = u * np.float32(1 / l)
        hair = fine[which[k, 1]][texel]
        body = np.maximum(1 - across**2, 0)
        # Paint is pushed to the sides of the stroke and piles up where the brush leaves.
        raised = (0.45 + 0.55 * np.sqrt(body) + 0.16 * hair + 0.25 * lift * lift * lift) * thickness
        tone = 1 + streak * (coarse[which[k, 2]][texel] + 0.6 * hair)
        window = painting.colour[y0:y1, x0:x1]
        window += cover[..., None] * (tone[..., None] * colour[k] - window)
        relief = painting.height[y0:y1, x0:x1]
        relief += cover * (raised + 0.35 * relief - relief)


def trace(
    angle: Array, start: Array, reach: Array, colour: Array, tolerance: float = 0.34, steps: int = 12
) -> Array:
    """Trace a flow in both directions from N positions, until the colour changes.

    Args:
        angle: Direction of the flow in radians, ``(n, n)``; its sign does not matter.
        start: Positions in [0, 1], ``(N, 2)``.
        reach: Length in each direction, as a fraction of the picture, ``(N,)``.
        colour: Colours of the picture, ``(n, n, 3)``.
        tolerance: Largest difference from the colour at the start.
        steps: Number of steps in each direction.

    Returns:
        Positions ``(N, 2 * steps + 1, 2)``; a line that was stopped repeats its last one.
    """
    base = at(colour, *start.T)
    ux, uy = np.cos(angle), np.sin(angle)
    path = np.empty((len(start), 2 * steps + 1, 2))
    path[:, steps] = start
    stride = (reach / steps)[:, None]
    for way in (1, -1):
        p, alive = start, np.ones(len(start), bool)
        last = way * np.stack([at(ux, *p.T), at(uy, *p.T)], axis=1)
        for k in range(1, steps + 1):
            step = np.stack([at(ux, *p.T), at(uy, *p.T)], axis=1)
            # A direction has no sign: the one nearer to the previous direction.
            step = np.where((step * last).sum(axis=1, keepdims=True) < 0, -step, step)
            ahead = p + step * stride
            alive = alive & (np.abs(at(colour, *ahead.T) - base).max(axis=1) < tolerance)
            p = np.where(alive[:, None], ahead, p)
            last = np.where(alive[:, None], step, last)
            path[:, steps + way * k] = p
    return path


def ribbons(path: Array, half: Array) -> Array:
    """Return the outlines ``(N, 2 m, 2)`` of strokes along ``(N, m, 2)`` paths; ends are rounded.

    Args:
        path: Centre lines of the strokes.
        half: Half their width, ``(N,)``.
    """
    along = np.gradient(path, axis=1)
    normal = np.stack([-along[..., 1], along[..., 0]], axis=-1)
    normal /= np.hypot(along[..., 0], along[..., 1])[..., None] + 1e-9
    step = np.hypot(*np.moveaxis(np.diff(path, axis=1), 2, 0))
    s = np.concatenate([np.zeros((len(path), 1)), np.cumsum(step, axis=1)], axis=1)
    from_end = np.minimum(s, s[:, -1:] - s)
    tip = np.clip(from_end / (1.5 * half[:, None]), 0, 1)
    wide = (half[:, None] * np.sqrt(1 - (1 - tip) ** 2))[..., None]
    return np.concatenate([path + wide * normal, (path - wide * normal)[:, ::-1]], axis=1)
