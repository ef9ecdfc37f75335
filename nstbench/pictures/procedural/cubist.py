"""A still life broken into shaded planes, in the manner of Gris and Braque.

Long lines and arcs cut the picture into planes. Through each plane the still life is seen from a
slightly different place, and along each cut the paint goes from dark to light.
"""

from __future__ import annotations

import numpy as np

from nstbench.pictures.procedural.field import (
    Array,
    blur,
    from_oklab,
    grid,
    inks,
    mix,
    noise,
    relief,
    smooth_at,
    smoothstep,
    to_oklab,
)

_WALLS = (
    inks("2f6f86", "8fb4bc", "d8dcc8", "24425e"),
    inks("3a5a9a", "9ab0d8", "e2d8c4", "2a2f60"),
    inks("2f7f62", "9cc4a0", "e8dfc0", "1f4a4c"),
    inks("8a3f4a", "d8a08a", "ecdcc0", "4a2540"),
)
_WOOD, _DARK_WOOD, _CREAM, _BLACK, _BOTTLE, _RED, _SLATE, _WHITE, _ORANGE = inks(
    "e0a040", "8f4520", "f2e6c8", "17161c", "1f6048", "d8452a", "4a7096", "f4ecda", "f0802a"
)
_CUTS = 21


def _guitar(picture: Array, x: Array, y: Array, px: float) -> Array:
    """Lay a guitar standing upright around the origin, one unit tall."""
    bouts = np.minimum(np.hypot(x, y - 0.24) - 0.235, np.hypot(x, y + 0.10) - 0.175)
    body = np.minimum(bouts, np.maximum(np.abs(x) - 0.135, np.abs(y - 0.07) - 0.16))
    grain = 0.5 + 0.5 * np.sin(x * 150 + 3 * np.sin(y * 9))
    wood = mix(np.broadcast_to(_WOOD, picture.shape), _ORANGE, 0.45 * grain * smoothstep(0.4, -0.2, y + x))
    picture = mix(picture, _DARK_WOOD, smoothstep(px, -px, body - 0.022))
    picture = mix(picture, wood, smoothstep(px, -px, body))
    hole = np.hypot(x, y - 0.04)
    picture = mix(picture, _CREAM, smoothstep(px, -px, np.abs(hole - 0.082) - 0.008))
    picture = mix(picture, _BLACK, smoothstep(px, -px, hole - 0.070))
    neck = np.maximum(np.abs(x) - 0.036, np.abs(y + 0.40) - 0.36)
    picture = mix(picture, _DARK_WOOD, smoothstep(px, -px, neck))
    frets = np.abs((-y * 21) % 1 - 0.5) - 0.42
    picture = mix(picture, _WOOD, smoothstep(-2 * px, 2 * px, frets * 0.05) * (neck < -0.004))
    picture = mix(
        picture, _BLACK, smoothstep(px, -px, np.maximum(np.abs(x) - 0.10, np.abs(y - 0.30) - 0.018))
    )
    for k in range(6):
        string = np.maximum(np.abs(x - (k - 2.5) * 0.0115) - 0.0016, np.abs(y + 0.22) - 0.53)
        picture = mix(picture, _WHITE, 0.9 * smoothstep(px, -px, string))
    return picture


def _bottle(picture: Array, x: Array, y: Array, px: float) -> Array:
    """Lay a bottle standing around the origin, one unit tall, light on its left."""
    wide = 0.055 + 0.10 * smoothstep(-0.26, -0.06, y)
    shape = np.maximum(np.abs(x) - wide, np.abs(y) - 0.5)
    glass = mix(np.broadcast_to(_BOTTLE, picture.shape), _BLACK, 0.75 * smoothstep(-0.02, 0.10, x))
    glass = mix(glass, inks("8fd0a0")[0], 0.9 * smoothstep(0.02, 0.0, np.abs(x + 0.55 * wide)))
    picture = mix(picture, glass, smoothstep(px, -px, shape))
    label = np.maximum(np.abs(x) - 0.13, np.abs(y - 0.20) - 0.12)
    picture = mix(picture, _CREAM, smoothstep(px, -px, label))
    return mix(picture, _RED, smoothstep(px, -px, np.maximum(label + 0.02, np.abs(y - 0.20) - 0.03)))


def _paper(picture: Array, x: Array, y: Array, px: float) -> Array:
    """Lay a sheet with staves and notes, one unit wide."""
    sheet = np.maximum(np.abs(x) - 0.5, np.abs(y) - 0.36)
    picture = mix(picture, _CREAM, smoothstep(px, -px, sheet))
    stave = (y * 5.0) % 1
    lines = np.min([np.abs(stave - 0.18 - 0.11 * k) for k in range(5)], axis=0) / 5 - 0.0022
    picture = mix(picture, _BLACK, 0.8 * smoothstep(px, -px, np.maximum(lines, sheet + 0.04)))
    beat = np.floor(x * 13)
    pitch = 0.2 + 0.42 * np.abs(np.sin(beat * 2.7 + np.floor(y * 5) * 1.9))
    note = np.hypot((x * 13) % 1 - 0.5, (stave - pitch) * 2.6) / 13 - 0.019
    stem = np.maximum(np.abs((x * 13) % 1 - 0.72) / 13 - 0.003, np.abs(stave - pitch + 0.2) / 5 - 0.042)
    return mix(picture, _BLACK, smoothstep(px, -px, np.maximum(np.minimum(note, stem), sheet + 0.04)))


def _still_life(x: Array, y: Array, rng: np.random.Generator, px: float) -> Array:
    """Return the colours of a table with a guitar, a bottle, a glass and sheet music, at any positions."""
    wall = _WALLS[rng.integers(len(_WALLS))]
    side = rng.choice([-1.0, 1.0])
    x = 0.5 + side * (x - 0.5)
    panel = np.floor((x + 0.25 * y) * 3.2)
    picture = wall[(panel.astype(int) * 2 + (y > 0.30)) % 3]
    stripes = smoothstep(-80 * px, 80 * px, np.sin((x - 0.4 * y) * 95))
    picture = mix(picture, wall[3], 0.55 * stripes * (panel % 3 == 1))
    table = y + 0.12 * (x - 0.5) > 0.64
    grain = 0.5 + 0.5 * np.sin(y * 120 + 2.5 * np.sin(x * 9 + y * 4))
    picture = np.where(
        table[..., None], mix(np.broadcast_to(_DARK_WOOD, picture.shape), _ORANGE, 0.45 * grain), picture
    )
    cloth = smoothstep(px, -px, 0.80 - y - 0.5 * np.abs(x - 0.55))
    checks = smoothstep(-50 * px, 50 * px, np.sin((x + y) * 15 * np.pi) * np.sin((x - y) * 15 * np.pi))
    picture = mix(picture, mix(np.broadcast_to(_WHITE, picture.shape), _SLATE, checks), cloth)

    def turned(cx: float, cy: float, scale: float, way: float) -> tuple[Array, Array, float]:
        u, v = (x - cx) / scale, (y - cy) / scale
        return u * np.cos(way) + v * np.sin(way), v * np.cos(way) - u * np.sin(way), px / scale

    picture = _paper(picture, *turned(0.30, 0.74, 0.46, rng.uniform(-0.5, -0.1)))
    picture = _bottle(picture, *turned(0.20 + rng.uniform(-0.03, 0.03), 0.40, 0.62, rng.uniform(-0.08, 0.08)))
    picture = _guitar(picture, *turned(0.57, 0.50 + rng.uniform(-0.03, 0.03), 0.95, rng.uniform(0.25, 0.55)))
    u, v, p = turned(0.84, 0.72, 0.34, rng.uniform(-0.1, 0.1))
    bowl = np.maximum(np.abs(u) - 0.30 - 0.12 * v, np.abs(v) - 0.38)
    picture = mix(picture, inks("c4dcea")[0], 0.75 * smoothstep(p, -p, bowl))
    picture = mix(picture, _RED, 0.9 * smoothstep(p, -p, np.maximum(bowl + 0.05, 0.02 - v)))
    return mix(
        picture, _WHITE, smoothstep(p, -p, np.abs(np.hypot(u / 0.28, (v + 0.38) / 0.07) - 1) * 0.07 - 0.012)
    )


def paint(size: int, rng: np.random.Generator) -> Array:
    """Cut the scene into planes, shift each plane, shade along the cuts, and add brush strokes."""
    x, y = grid(size)
    px = 0.8 / size
    draw_scene, draw_planes = rng.spawn(2)
    leading = rng.uniform(0, np.pi)
    away = []
    for k in range(_CUTS):
        # Three leading directions, as in a crystal; some cuts are arcs.
        way = leading + (k % 3) * np.pi / 3 + rng.normal(0, 0.16)
        ox, oy = 0.5 + rng.normal(0, 0.24, 2)
        d = (x - ox) * np.cos(way) + (y - oy) * np.sin(way)
        if k % 5 == 4:
            r = rng.uniform(0.22, 0.5)
            d = np.hypot(x - ox - r * np.cos(way), y - oy - r * np.sin(way)) - r
        away.append(d)
    plane = np.zeros((size, size), int)
    for k, d in enumerate(away):
        plane += (d > 0) * (1 << k)

    def of_plane(low: float, high: float) -> Array:
        """Return one random number for each plane, spread over its pixels."""
        return np.asarray(draw_planes.uniform(low, high, 65537)[plane % 65537])

    dx, dy = of_plane(-0.055, 0.055), of_plane(-0.055, 0.055)
    turn, zoom = of_plane(-0.16, 0.16), of_plane(0.86, 1.14)
    u, v = (x - 0.5) * zoom, (y - 0.5) * zoom
    seen_x = 0.5 + u * np.cos(turn) + v * np.sin(turn) + dx
    seen_y = 0.5 + v * np.cos(turn) - u * np.sin(turn) + dy
    picture = blur(_still_life(seen_x, seen_y, draw_scene, px), 0.45 / size)

    # Passage: some planes let a neighbouring colour of their own through.
    tint = inks("e8c070", "4a86a8", "f2ead4", "d8582e", "2a3a5a", "7aa890")[of_plane(0, 6).astype(int)]
    picture = mix(picture, tint, smoothstep(0.45, 1.0, of_plane(0, 1)) * 0.62)
    lab = to_oklab(picture)
    shade = np.zeros_like(x)
    line = np.zeros_like(x)
    for d in away:
        force, reach = rng.uniform(0.06, 0.15), rng.uniform(0.05, 0.13)
        shade += force * np.where(d > 0, np.exp(-np.abs(d) / reach), -np.exp(-np.abs(d) / (0.7 * reach)))
        drawn = smoothstep(-0.3, 0.6, noise(size, rng, 4))
        line = np.maximum(line, drawn * smoothstep(px, -px, np.abs(d) - 0.0016))
    lab[..., 0] += np.where(shade > 0, 0.5, 1.0) * np.tanh(shade * 1.2) + of_plane(-0.07, 0.03)

    # Short parallel touches, in each plane along a direction of its own.
    brush = of_plane(0, np.pi)
    bu = 0.5 + 0.7 * ((x - 0.5) * np.cos(brush) + (y - 0.5) * np.sin(brush))
    bv = 0.5 + 0.7 * ((y - 0.5) * np.cos(brush) - (x - 0.5) * np.sin(brush))
    touch = smooth_at(noise(size, rng, (80, 20), octaves=2), bu, bv)
    lab[..., 0] += 0.030 * touch
    lab[..., 1:] *= (1.08 + 0.05 * touch)[..., None]
    picture = from_oklab(lab)
    # A hard cut between planes would show as steps of pixels.
    picture = mix(picture, blur(picture, px), smoothstep(2 * px, 0.5 * px, np.min(np.abs(away), axis=0)))
    picture = mix(picture, _BLACK, 0.8 * line)
    weave = noise(size, rng, 200)
    return relief(picture, 0.75 * touch + 0.14 * weave, 0.8, 0.02)
