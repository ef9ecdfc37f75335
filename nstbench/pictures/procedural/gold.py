"""Gold leaf and ornament in the manner of Klimt: a tree of spirals over two patterned robes and a meadow."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from nstbench.pictures.procedural.field import (
    Array,
    grid,
    inks,
    mix,
    noise,
    ramp,
    reduce,
    relief,
    scatter,
    smoothstep,
    vary,
)

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

_GOLD = inks("8a5a12", "b8821c", "d9a72c", "efc94e", "fbe592")
_BLACK, _WHITE, _SILVER, _BROWN, _BRONZE = inks("18120e", "f6eedb", "b4ad9c", "4a260c", "8c4c14")
_JEWELS = inks("c8322c", "2456b0", "2f8a52", "7c3f9c", "18a09a", "ef7a24", "e65a8a", "f6d23c")


def _rgb(colour: Array) -> tuple[int, ...]:
    return tuple(round(255 * float(c)) for c in colour)


def _disc(draw: ImageDraw, n: int, x: float, y: float, r: float, colour: Array) -> None:
    draw.ellipse(((x - r) * n, (y - r) * n, (x + r) * n, (y + r) * n), fill=_rgb(colour))


def _fill(draw: ImageDraw, n: int, xy: Array, colour: Array) -> None:
    draw.polygon((np.asarray(xy) * n).ravel().tolist(), fill=_rgb(colour))


def _leaf(size: int, rng: np.random.Generator) -> Array:
    """Return beaten gold laid in square leaves, ``(n, n, 3)``."""
    x, y = grid(size)
    u, v = x * 11 + 0.10 * noise(size, rng, 5), y * 11 + 0.10 * noise(size, rng, 5)
    each = rng.normal(0, 0.055, (16, 16))[v.astype(int) % 16, u.astype(int) % 16]
    seam = np.minimum(np.abs(u - np.round(u)), np.abs(v - np.round(v)))
    tone = 0.64 + each + 0.12 * noise(size, rng, 3, octaves=2) + 0.055 * noise(size, rng, 70, octaves=2)
    tone -= 0.12 * smoothstep(0.05, 0.0, seam + 0.02 * noise(size, rng, 60))
    worn = smoothstep(1.5, 2.3, noise(size, rng, 40, octaves=3))
    return mix(ramp(tone, _GOLD), inks("a8431c")[0], 0.5 * worn)


def _spiral(centre: Array, radius: float, way: float, turns: float, root: Array, curl: float) -> Array:
    """Return the path ``(m, 2)`` of a branch from its root to the heart of its spiral."""
    t = np.linspace(1, 0.06, 70)
    turn = way + curl * 2 * np.pi * turns * (1 - t)
    coil = centre + radius * t[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1)
    # A cubic curve that meets the coil along its tangent.
    tangent = coil[0] - coil[1]
    tangent /= np.hypot(*tangent)
    far = np.hypot(*(coil[0] - root))
    s = np.linspace(0, 1, 40)[:, None]
    pull, rise = coil[0] + tangent * far * 0.5, root + np.array([0, -0.35 * far])
    stem = (1 - s) ** 3 * root + 3 * s * (1 - s) ** 2 * rise + 3 * s**2 * (1 - s) * pull + s**3 * coil[0]
    return np.concatenate([stem[:-1], coil])


def _tree(draw: ImageDraw, n: int, rng: np.random.Generator) -> None:
    """Draw the tree: a trunk, and a spiral at the end of every branch."""
    foot = np.array([0.5 + rng.uniform(-0.05, 0.05), 1.0])
    fork = np.array([0.5 + rng.uniform(-0.04, 0.04), 0.60])
    spots: list[tuple[Array, float]] = []
    for p in rng.uniform((0.0, 0.0), (1.0, 0.66), (900, 2)):
        room = min([np.hypot(*(p - q)) - r for q, r in spots], default=0.14)
        room = min(room - 0.004, 0.085 + 0.045 * rng.random())
        if room > 0.030:
            spots.append((p, room))
    spots.sort(key=lambda s: float(s[0][1]))
    trunk = np.linspace(0, 1, 40)[:, None]
    middle = fork + [0, -0.05] + (foot - fork + [0, 0.05]) * trunk + [[0.012, 0]] * np.sin(trunk * 9)
    half = 0.052 + 0.075 * trunk**2.2
    _fill(draw, n, np.concatenate([middle + half * [1, 0], (middle - half * [1, 0])[::-1]]), _BROWN)
    half = half - 0.006
    _fill(draw, n, np.concatenate([middle + half * [1, 0], (middle - half * [1, 0])[::-1]]), _BRONZE)
    # Dark edge, bronze, and a streak of light along every branch: each over the whole tree at once.
    for colour, share, shift, fade in ((_BROWN, 1, 0, 0), (_BRONZE, 0.72, 0, 0), (_GOLD[3], 0.2, -0.22, 0.7)):
        for k, (p, r) in enumerate(spots):
            curl = 1.0 if k % 2 else -1.0
            root = fork + (foot - fork) * 0.30 * (0.5 + 0.5 * np.sin(7.0 * k)) + [0.030 * np.sin(3.0 * k), 0]
            path = _spiral(p, 0.93 * r, np.arctan2(*(fork - p)[::-1]) + curl * 0.8, 1.6 + 9 * r, root, curl)
            m = len(path)
            wide = np.linspace(1, 0, m) ** 1.3
            along = np.gradient(path, axis=0)
            normal = np.stack([-along[:, 1], along[:, 0]], 1) / (np.hypot(*along.T)[:, None] + 1e-9)
            half = (0.0035 + 0.048 * r + 0.012 * wide)[:, None] * (0.42 + 0.58 * wide[:, None])
            # The light fades towards the trunk, where it would run together.
            reach = share * ((1 - wide) ** fade)[:, None]
            left, right = path + half * normal * (shift - reach), path + half * normal * (shift + reach)
            _fill(draw, n, np.concatenate([left, right[::-1]]), colour)
    for _ in range(190):
        s = rng.random()
        c = fork + (foot - fork) * s
        x, w = c[0] + rng.uniform(-1, 1) * (0.04 + 0.07 * s**2.2), rng.uniform(0.003, 0.008)
        fleck = np.array([x, c[1]]) + w * np.array([[0, 0], [1, 0], [1, 3], [0, 3]])
        _fill(draw, n, fleck, _GOLD[rng.choice([1, 3, 4])])
    for x, y in rng.uniform((0.03, 0.03), (0.97, 0.5), (14, 2)):
        r, colour = rng.uniform(0.008, 0.014), _JEWELS[rng.integers(0, 5)]
        for share, ink in ((1.0, _BROWN), (0.85, _GOLD[4]), (0.62, colour), (0.25, _WHITE)):
            _disc(draw, n, x, y, share * r, ink)


def _blocks(draw: ImageDraw, n: int, rng: np.random.Generator) -> None:
    """Draw upright rectangles in black, white, silver and gold, some with a smaller one inside."""
    inlay = np.concatenate([[_BLACK] * 4, [_WHITE] * 3, [_SILVER] * 2, _GOLD[[0, 3, 4]], [_JEWELS[1]]])
    for x, y in scatter(rng, 0.026, 0.45):
        w, h = rng.uniform(0.008, 0.017), rng.uniform(0.016, 0.046)
        k = rng.integers(len(inlay))
        corners = np.array([[-w, -h], [w, -h], [w, h], [-w, h]])
        _fill(draw, n, corners + np.array([x, y]), _BROWN)
        _fill(draw, n, corners * 0.88 + np.array([x, y]), inlay[k])
        if rng.random() < 0.45:
            inside = inlay[(k + rng.integers(1, len(inlay))) % len(inlay)]
            _fill(draw, n, corners * (0.45, 0.55) + np.array([x, y]), inside)


def _rounds(draw: ImageDraw, n: int, rng: np.random.Generator) -> None:
    """Draw discs within discs, in the colours of jewels and flowers."""
    for x, y in scatter(rng, 0.036, 0.45):
        r = rng.uniform(0.012, 0.030)
        _disc(draw, n, x, y, r, _BROWN)
        pick = rng.permutation(8)
        for k, share in enumerate((0.90, 0.66, 0.40, 0.18)):
            colour = (_GOLD[4], _JEWELS[pick[0]], _WHITE, _JEWELS[pick[1]])[(k + pick[2]) % 4]
            _disc(draw, n, x, y, share * r, colour)
        if pick[3] < 4:
            for a in np.arange(7) * 2 * np.pi / 7:
                _disc(draw, n, x + 0.70 * r * np.cos(a), y + 0.70 * r * np.sin(a), 0.19 * r, _JEWELS[pick[4]])


def _meadow(draw: ImageDraw, n: int, rng: np.random.Generator) -> None:
    """Draw leaves and small flowers over the foot of the picture."""
    places = scatter(rng, 0.0135, 0.5)
    places = places[places[:, 1] > 0.80]
    shades = vary(
        inks("1f6b3a", "3f9a3f", "8abf3c", "14524a")[rng.integers(0, 4, len(places))], rng, 0.04, 0.15
    )
    for (x, y), shade in zip(places, shades, strict=True):
        _disc(draw, n, x, y, rng.uniform(0.007, 0.012), shade)
    for x, y in places[::5]:
        r, colour = rng.uniform(0.006, 0.012), _JEWELS[rng.integers(8)]
        for a in np.arange(5) * 2 * np.pi / 5 + rng.random():
            _disc(draw, n, x + 0.75 * r * np.cos(a), y + 0.75 * r * np.sin(a), 0.52 * r, colour)
        _disc(draw, n, x, y, 0.42 * r, _GOLD[4])


def _layer(
    ornament: Callable[[ImageDraw, int, np.random.Generator], None], leaf: Array, rng: np.random.Generator
) -> Array:
    """Return the gold leaf with an ornament drawn over all of it, smooth at its edges."""
    from PIL import Image
    from PIL.ImageDraw import Draw

    size = len(leaf)
    scale = 3 if size <= 1024 else 2
    n = size * scale
    image = Image.fromarray((leaf * 255).round().astype(np.uint8)).resize((n, n), Image.Resampling.BILINEAR)
    ornament(Draw(image), n, rng.spawn(1)[0])
    return reduce(np.asarray(image, np.float32) / 255, scale).astype(float)


def paint(size: int, rng: np.random.Generator) -> Array:
    """Lay gold leaf, draw a tree, two robes and a meadow on it, and let the metal glint."""
    x, y = grid(size)
    px = 0.8 / size
    leaf = _leaf(size, rng)
    picture = _layer(_tree, leaf, rng)
    side = rng.choice([-1.0, 1.0])
    for ornament, cx, top, wide in (
        (_rounds, 0.5 + 0.37 * side, rng.uniform(0.46, 0.54), 0.27),
        (_blocks, 0.5 - 0.36 * side, rng.uniform(0.32, 0.42), 0.25),
    ):
        robe = top + 0.62 * np.abs((x - cx - 0.05 * np.sin(6 * y)) / wide) ** 2.6 + 0.01 * np.sin(22 * x) - y
        picture = mix(picture, _BROWN, smoothstep(px, -px, robe - 0.010))
        picture = mix(picture, _GOLD[4], smoothstep(px, -px, robe - 0.004))
        picture = mix(picture, _layer(ornament, leaf, rng), smoothstep(px, -px, robe + 0.010))
    bank = 0.87 + 0.02 * np.sin(9 * x + rng.uniform(0, 6)) + 0.015 * noise(size, rng, 6)
    picture = mix(picture, _layer(_meadow, leaf, rng), smoothstep(-0.006, 0.006, y - bank))

    # Highlights of gold have its own colour, not grey.
    metal = smoothstep(0.10, 0.35, picture[..., 0] - picture[..., 2])
    glint = noise(size, rng, 120, octaves=2)
    picture = picture * (1 + 0.09 * metal * glint)[..., None]
    raised = picture.mean(axis=2) * 0.9 + 0.10 * glint
    return relief(picture, raised, 1.0, 0.04)
