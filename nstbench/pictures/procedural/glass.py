"""A stained glass window: leaded cells of saturated glass, lit from behind."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nstbench.pictures.procedural.field import (
    Array,
    blur,
    from_oklab,
    grid,
    inks,
    noise,
    ramp,
    smooth_at,
    smoothstep,
    to_oklab,
)

_MAP = 256
_SUN = inks("fff3a0", "ffd21f", "ff9d0a", "f2600c")
_SKIES = (
    inks("ffb60f", "f4700f", "d9262c", "a3156b", "5a1f9c", "2436b8", "1460d8", "12a0e0"),
    inks("ffe27a", "ff9ab0", "c86ad8", "6a4fe0", "1f3fd0", "0f2a9a", "0a1a6a"),
    inks("fff0a0", "8fe0d8", "2fb4e8", "1478e0", "1a4ac8", "3a2aa0", "6a1f8a"),
)
_FAR = inks("2a1a78", "4a2ea8", "7a4fd0", "a98be6")
_NEAR = inks("04502e", "0a8a3e", "52b82c", "b8d820")
_LAKE = inks("062a6e", "0a52b0", "0e8fc0", "34c8c0", "a8ecd8")
_GLINT = inks("ff8a10", "ffc21a", "fff0a0")
_PETAL = inks("8e0a24", "d0142a", "f04030", "ff8a7a")
_LEAF = inks("0a4a22", "128a3c", "4ec04a")


class _Zone(NamedTuple):
    """A part of the window.

    For each of its pixels (row, column): the place ``uv`` in coordinates in which the cells are round, and
    the tone, from 0 to 1, on the ramp of the zone's colours.
    """

    row: Array
    col: Array
    uv: Array
    tone: Array
    spacing: float
    colours: Array


def _zone(
    mask: Array, u: Array, v: Array, spacing: float, colours: Array, tone: Array, at: tuple[int, int] = (0, 0)
) -> _Zone:
    """Return the zone of a mask; ``at`` is the first row and column that the fields cover."""
    row, col = np.nonzero(mask)
    return _Zone(row + at[0], col + at[1], np.stack([u[mask], v[mask]], 1), tone[mask], spacing, colours)


def _zones(size: int, rng: np.random.Generator) -> list[_Zone]:
    """Return the parts of a landscape with a sun, mountains, a lake and flowers, back to front."""
    x, y = grid(size)
    wobble = 0.02 * noise(size, rng, 4)
    cx, cy, r0 = rng.uniform(0.34, 0.66), rng.uniform(0.24, 0.34), rng.uniform(0.085, 0.11)
    dx, dy = x - cx, y - cy
    r, turn = np.hypot(dx, dy) + 0.3 * wobble, np.arctan2(dy, dx) + rng.uniform(0, 6)
    turn = np.mod(turn, 2 * np.pi) - np.pi
    shore = rng.uniform(0.68, 0.73)
    sky = _SKIES[rng.integers(len(_SKIES))]
    zones = [_zone(r >= 0, r * 0.42, turn * 0.30, 0.070, sky, 1.25 * r + 0.4 * wobble)]
    for k, (inner, outer, petals) in enumerate(((0.0, 1.0, 1), (1.0, 1.55, 11), (1.55, 2.3, 15))):
        ring = (r >= inner * r0) & (r < outer * r0)
        spacing = 1.0 if petals == 1 else 2 * np.pi / petals
        zones.append(_zone(ring, 0 * r, turn, spacing, _SUN, 0.12 + 0.3 * k + 0 * r))
    for base, rough, colours in ((0.20, 0.075, _FAR), (0.10, 0.06, _NEAR)):
        ridge = shore - base + rough * noise(size, rng, (1, 2.6), octaves=3)[:1]
        depth = (y - ridge) / 0.3
        zones.append(_zone((y > ridge) & (y < shore), x + 0.35 * y, 0.55 * y, 0.062, colours, 0.85 - depth))
    lake = y > shore
    ripple = y + 0.35 * wobble
    zones.append(_zone(lake, 0.28 * x, ripple, 0.034, _LAKE, 0.85 - 2.2 * (y - shore) + 2 * wobble))
    glitter = np.abs(x - cx + 0.02 * np.sin(ripple * 90)) < 0.05 + 0.30 * (y - shore)
    zones.append(_zone(lake & glitter, 0.25 * x, ripple, 0.034, _GLINT, 1.0 - 2.5 * (y - shore)))
    side = rng.choice([0.0, 1.0])
    for k in range(5):
        px, py = abs(side - 0.08 - 0.125 * k), 0.80 + 0.05 * np.sin(2.4 * k + 6 * side) + 0.045 * k
        zones += _flower(x, y, rng, px, py, rng.uniform(0.062, 0.08))
    return zones


def _flower(x: Array, y: Array, rng: np.random.Generator, px: float, py: float, radius: float) -> list[_Zone]:
    """Return two leaves and a poppy of five petals."""
    n = len(x)
    top, left = max(int((py - 0.12) * n), 0), max(int((px - 0.36) * n), 0)
    right = min(int((px + 0.36) * n) + 1, n)
    dx, dy, at = x[top:, left:right] - px, y[top:, left:right] - py, (top, left)
    zones = []
    for lean in (-0.55, 0.5):
        way = lean + rng.uniform(-0.2, 0.2)
        u, v = dx * np.cos(way) + dy * np.sin(way), dy * np.cos(way) - dx * np.sin(way)
        along = np.clip(v / 0.30, 0, 1)
        blade = np.abs(u - 0.04 * np.sin(3 * along)) < 0.036 * np.sin(np.pi * along) ** 0.8
        zones.append(_zone(blade, np.sign(u), 0.5 * v, 0.05, _LEAF, 0.2 + along, at))
    d, turn = np.hypot(dx, dy * 1.15), np.arctan2(dy * 1.15, dx)
    turn = np.mod(turn + rng.uniform(0, 6), 2 * np.pi)
    edge = radius * (0.86 + 0.16 * np.abs(np.sin(turn * 2.5)))
    zones.append(_zone(d < edge, 0 * d, turn, 2 * np.pi / 5, _PETAL, 1.1 * d / radius - 0.1, at))
    zones.append(_zone(d < 0.30 * radius, 0 * d, 0 * d, 1.0, _SUN, 0.2 + 0 * d, at))
    return zones


def _visible(size: int, zones: list[_Zone]) -> tuple[Array, list[Array]]:
    """Return the zone in front ``(n, n)``, and for each zone which of its pixels are visible."""
    front = np.zeros((size, size), int)
    for k, zone in enumerate(zones):
        front[zone.row, zone.col] = k
    return front, [front[zone.row, zone.col] == k for k, zone in enumerate(zones)]


def _cells(zone: _Zone, seen: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Choose the cells of a zone: their seeds ``(N, 2)`` in its coordinates, colours and middles (x, y)."""
    from scipy.spatial import cKDTree

    uv = zone.uv[seen]
    low, span = uv.min(axis=0), np.ptp(uv, axis=0) + 1e-9
    count = np.ceil(span / zone.spacing).astype(int)
    i, j = np.meshgrid(np.arange(count[0]), np.arange(count[1]))
    seeds = np.stack([i + 0.5 * (j % 2) * (count[0] > 1), j], axis=-1).reshape(-1, 2) + 0.5
    seeds = low + (seeds + rng.uniform(-0.36, 0.36, seeds.shape)) * span / count
    # Lloyd's iteration: each seed moves to the middle of its cell.
    for _ in range(2):
        near = cKDTree(seeds).query(uv)[1]
        held = np.bincount(near, minlength=len(seeds))
        sums = np.stack([np.bincount(near, uv[:, k], len(seeds)) for k in (0, 1)], axis=1)
        seeds = sums[held > 0] / held[held > 0, None]
    near = cKDTree(seeds).query(uv)[1]
    held = np.maximum(np.bincount(near, minlength=len(seeds)), 1)
    places = (zone.col[seen] + 0.5) / _MAP, (zone.row[seen] + 0.5) / _MAP, zone.tone[seen]
    x, y, tone = (np.bincount(near, f, len(seeds)) / held for f in places)
    colours = ramp(tone + rng.normal(0, 0.13, len(seeds)), zone.colours)
    return seeds, colours, np.stack([x, y], axis=1)


def _window(size: int, rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """Return the cell and the zone of every pixel, ``(n, n)``, and the colours and middles of the cells."""
    from scipy.spatial import cKDTree

    # The cells are chosen on a map of fixed size, so that they are the same at every resolution.
    key, cut = int(rng.integers(2**62)), rng.spawn(1)[0]
    plan, zones = _zones(_MAP, np.random.default_rng(key)), _zones(size, np.random.default_rng(key))
    front, seen = _visible(size, zones)
    labels = np.zeros((size, size), int)
    colours: list[Array] = []
    middles: list[Array] = []
    for zone, shown, draft, drafted in zip(zones, seen, plan, _visible(_MAP, plan)[1], strict=True):
        if not drafted.any():
            continue
        seeds, colour, middle = _cells(draft, drafted, cut)
        first = sum(map(len, colours))
        labels[zone.row[shown], zone.col[shown]] = first + cKDTree(seeds).query(zone.uv[shown])[1]
        colours.append(colour)
        middles.append(middle)
    return labels, front, np.concatenate(colours), np.concatenate(middles)


def paint(size: int, rng: np.random.Generator) -> Array:
    """Paint a window: cells cut from the zones of a landscape, graded and streaked glass, rounded lead."""
    from scipy.ndimage import distance_transform_edt

    labels, front, colours, middles = _window(size, rng)
    edge, outline = np.zeros((2, size, size), bool)
    for field, out in ((labels, edge), (front, outline)):
        out[:-1] |= field[:-1] != field[1:]
        out[:, :-1] |= field[:, :-1] != field[:, 1:]
    away = blur(np.asarray(distance_transform_edt(~edge), float), 0.7 / size) / size
    heavy = blur(np.asarray(distance_transform_edt(~outline), float), 1.0 / size) / size
    half = 0.0042 + 0.0022 * smoothstep(0.012, 0.0, heavy) + 0.0010 * np.tanh(noise(size, rng, 9))

    x, y = grid(size)
    n = len(colours)
    way, offset = rng.uniform(0, 2 * np.pi, n)[labels], rng.uniform(0.3, 0.7, (n, 2))[labels]
    dx, dy = x - middles[labels, 0], y - middles[labels, 1]
    u, v = dx * np.cos(way) + dy * np.sin(way), dy * np.cos(way) - dx * np.sin(way)
    streaks = noise(size, rng, (9, 34), octaves=3, gain=0.65)
    streak = smooth_at(streaks, np.mod(u + offset[..., 0], 1), np.mod(v + offset[..., 1], 1))
    lab = to_oklab(colours)[labels]
    grade = np.clip(v / 0.05, -1.4, 1.4) * rng.uniform(0.3, 1.0, n)[labels]
    lab[..., 0] += 0.060 * grade + 0.042 * streak + 0.012 * noise(size, rng, 280)
    lab[..., 0] += 0.07 * smoothstep(0.004, 0.030, away) - 0.03
    twist = 0.14 * grade + 0.08 * streak
    lab[..., 1], lab[..., 2] = lab[..., 1] - twist * lab[..., 2], lab[..., 2] + twist * lab[..., 1]
    glass = from_oklab(lab)

    profile = np.sqrt(np.clip(1 - (away / half) ** 2, 0, 1))
    down, across = np.gradient(blur(profile, 0.8 / size))
    light = np.tanh(-(down + across) * size / 512 * 1.6)
    metal = 0.10 + 0.02 * noise(size, rng, 160) + 0.16 * np.maximum(light, 0) - 0.06 * np.maximum(-light, 0)
    lead = np.clip(metal, 0.02, 1)[..., None] * np.array([0.95, 0.98, 1.08])
    inside = smoothstep(half - 0.7 / size, half + 0.7 / size, away)[..., None]
    return np.asarray(lead * (1 - inside) + glass * inside)
