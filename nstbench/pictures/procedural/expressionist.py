"""Long wavering bands of hot colour over a dark fjord, in the manner of Munch."""

from __future__ import annotations

import numpy as np

from nstbench.pictures.procedural.brush import ribbons, trace
from nstbench.pictures.procedural.field import (
    Array,
    at,
    grid,
    inks,
    noise,
    ramp,
    reduce,
    relief,
    scatter,
    smoothstep,
    vary,
)

_MAP = 256
_SKY = inks("6e1220", "a81c1e", "d83a1c", "f2681c", "f99a22", "fdc83c", "fde98c")
_COLD = inks("2f5f8a", "5f95a0", "a9c08a")
_WATER = inks("0c1430", "14285a", "1f4c84", "2f7c96", "6aa884", "d8c060")
_LAND = inks("0f1424", "1c2c44", "24503c", "5a6a2c", "a8742c")
_PLANK = inks("3a1a1c", "7a3020", "b85a28", "dc9440", "f0c878")
_COAT = inks("080a14", "101a34", "1e3050")


def _scene(rng: np.random.Generator) -> tuple[Array, Array]:
    """Return the direction of the strokes ``(n, n)`` and the colours under them ``(n, n, 3)``."""
    x, y = grid(_MAP)
    wander = noise(_MAP, rng, 3)
    # Sky: the level lines of a wavy slope, with larger waves near the horizon.
    heave = 0.050 * np.sin(x * 7 + rng.uniform(0, 6) + 3 * y) + 0.055 * noise(_MAP, rng, (2, 3)) * (0.5 + y)
    sky_level = y + heave + 0.022 * np.sin(15 * x - 9 * y + 1.5 * wander)
    t = sky_level / 0.085 + 0.30 * noise(_MAP, rng, (24, 4))
    band = 0.5 + 0.30 * np.sin(t * 2.1) + 0.24 * np.sin(t * 3.7 + rng.uniform(0, 6))
    colour = ramp(0.12 + 0.55 * band + 0.30 * smoothstep(0.0, 0.42, y), _SKY)
    cold = smoothstep(0.80, 0.98, 0.5 + 0.5 * np.sin(t * 1.3 + rng.uniform(0, 6))) * smoothstep(0.42, 0.2, y)
    colour = colour * (1 - 0.85 * cold[..., None]) + ramp(band, _COLD) * 0.85 * cold[..., None]
    level = sky_level

    # Fjord: the sky's waves again, colder and slower, round the bay.
    shore = rng.uniform(0.38, 0.43) + 0.012 * np.sin(x * 8 + rng.uniform(0, 6))
    swing = 0.5 + 0.5 * np.sin(5.2 * x + rng.uniform(2.6, 3.6))
    sink = np.clip(y - shore, 0, 1)
    water_level = y + 0.6 * sink * (swing - 0.5) * 1.5 + 0.35 * heave + 0.02 * noise(_MAP, rng, 5)
    t = (water_level - shore) / 0.055
    band = (
        0.42
        + 0.30 * np.sin(t * 2.2 + rng.uniform(0, 6))
        + 0.20 * np.sin(t * 4.1 + 1)
        + 0.08 * noise(_MAP, rng, 24)
    )
    water = y > shore
    colour = np.where(water[..., None], ramp(band + 0.6 * smoothstep(0.05, 0.0, sink), _WATER), colour)
    level = np.where(water, water_level, level)
    # Land: a far ridge, and a near shore that swings down from it.
    coast = (
        shore
        + 0.01
        + 0.50 * (1 - smoothstep(0.40, 1.02, x + 0.03 * np.sin(14 * y)) ** 0.8)
        + 0.015 * np.sin(17 * x)
    )
    ridge = shore + 0.02 - (0.10 + 0.02 * np.sin(11 * x)) * smoothstep(0.30, 1.0, x)
    for land, land_level in (((y > ridge) & (y < shore + 0.015), y - ridge), (y > coast, 0.75 * (y - coast))):
        t = (land_level + 0.008 * noise(_MAP, rng, 5)) / 0.05
        band = (
            0.40
            + 0.30 * np.sin(t * 2.3 + rng.uniform(0, 6))
            + 0.22 * np.sin(t * 4.3)
            + 0.08 * noise(_MAP, rng, 24)
        )
        colour = np.where(land[..., None], ramp(band, _LAND), colour)
        level = np.where(land, land_level, level)

    # A footbridge runs from the lower corner to a vanishing point at the left.
    vx, vy = -0.16, rng.uniform(0.36, 0.42)
    slope = (y - vy) / (x - vx)
    deck = slope > 0.72
    plank = ramp(
        0.45 + 0.28 * np.sin(slope * 40) + 0.2 * np.sin(slope * 71 + 1) + 0.12 * noise(_MAP, rng, 20), _PLANK
    )
    colour = np.where(deck[..., None], plank, colour)
    angle = np.arctan2(-np.gradient(level, axis=1), np.gradient(level, axis=0))
    angle = np.where(deck, np.arctan(slope), angle)
    for low, high in ((0.36, 0.415), (0.53, 0.575), (0.69, 0.735)):
        rail = (slope > low) & (slope < high)
        colour = np.where(rail[..., None], ramp(0.9 - 14 * (slope - low) + 0 * x, _PLANK[:4]), colour)
        angle = np.where(rail, np.arctan(slope), angle)
    # Two walkers in the distance, seen from behind.
    for fx, tall in ((0.055, 0.15), (0.12, 0.17)):
        foot = vy + 0.80 * (fx - vx) + 0.04
        up = (foot - y) / tall
        body = (
            (up > 0)
            & (up < 0.86)
            & (np.abs(x - fx) < tall * (0.10 + 0.05 * np.sin(np.pi * np.clip(up, 0, 1))))
        )
        head = np.hypot(x - fx, (y - foot + 0.92 * tall) / 1.2) < 0.075 * tall
        colour = np.where((body | head)[..., None], ramp(0.4 + 2 * (x - fx) / tall, _COAT), colour)
        angle = np.where(body | head, np.pi / 2, angle)
    return (angle, colour) if rng.random() < 0.5 else (np.pi - angle[:, ::-1], colour[:, ::-1])


def paint(size: int, rng: np.random.Generator) -> Array:
    """Draw long strokes along the bands, from broad to fine, over a ground of bare cardboard."""
    from PIL import Image, ImageDraw

    angle, colour = _scene(rng)
    scale = 2
    n = size * scale
    ground = tuple(int(255 * c) for c in inks("b07a48")[0])
    image = Image.new("RGBA", (n, n), (*ground, 50))
    draw = ImageDraw.Draw(image)
    for spacing, width, length, light, hue in (
        (0.020, 0.0230, 0.16, 0.015, 0.06),
        (0.016, 0.0110, 0.20, 0.035, 0.12),
        (0.014, 0.0058, 0.17, 0.055, 0.20),
    ):
        xy = scatter(rng, spacing)
        m = len(xy)
        base = at(colour, *xy.T)
        pigment = vary(base, rng, light, hue)
        path = trace(angle, xy, length * rng.uniform(0.25, 0.6, m), colour)
        points = (ribbons(path, 0.5 * width * rng.uniform(0.6, 1.25, m)) * n).reshape(m, -1).tolist()
        fills = np.column_stack([pigment * 255, rng.integers(90, 230, m)]).round().astype(int).tolist()
        for corners, fill in zip(points, fills, strict=True):
            draw.polygon(corners, fill=tuple(fill))
    full = reduce(np.asarray(image, np.float32) / 255, scale).astype(float)
    board = noise(size, rng, 190)
    picture = full[..., :3] * (1 + 0.020 * board)[..., None]
    return relief(picture, full[..., 3] * 1.5 + 0.06 * board, 0.9, 0.02)
