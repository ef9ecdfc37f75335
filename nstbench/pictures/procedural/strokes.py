"""Thick brush strokes in the manner of van Gogh's night skies."""

from __future__ import annotations

import numpy as np

from nstbench.pictures.procedural.brush import Painting, lay
from nstbench.pictures.procedural.field import (
    Array,
    at,
    grid,
    inks,
    noise,
    ramp,
    relief,
    scatter,
    smear,
    vary,
)

_SKY = inks("0b1a4a", "12306f", "1f54a0", "2f7cc0", "5aa6d2", "a9d3d6", "e8ecc8")
_GLOW = inks("fffbe0", "ffe873", "fbc02d", "f29a1f", "f6dc74", "d5e6bd", "86bccb")
_FIELDS = (
    inks("0b1f4c", "1a4a80", "3d86b0", "8fc7cf"),
    inks("0c2746", "1c5a6e", "3c9088", "a8cf9a"),
    inks("10301f", "23682f", "6ea83a", "d8dc62"),
    inks("3f3a10", "8a7a1a", "e0b023", "fbe27a"),
)
_TREE = inks("0b1613", "14281a", "2a3c1c", "5a4a1e", "8a5a22")
_MAP = 192


def _scene(rng: np.random.Generator) -> tuple[Array, Array]:
    """Return the direction of the strokes ``(n, n)`` and the colours under them ``(n, n, 3)``."""
    x, y = grid(_MAP)
    horizon = 0.70 + rng.uniform(-0.04, 0.04) + 0.05 * noise(_MAP, rng, 2.0)[0] * (0.4 + x)
    sky_u, sky_v = np.ones_like(x), 0.45 * noise(_MAP, rng, (3, 2.0))
    phase = 0.35 * noise(_MAP, rng, (5, 2), octaves=2) + 1.3 * y / 0.7

    fields = [_FIELDS[i] for i in (0, 1, *rng.choice([1, 2, 2, 3, 3], 4, replace=False))]
    side = rng.choice([-1.0, 1.0])
    halo: Array = np.full_like(x, 9.0)
    # Two great whirls, linked like a wave, then the moon and the stars with rings of light.
    whirls = [
        (0.5 - side * 0.10, rng.uniform(0.26, 0.34), 0.17, 1.0),
        (0.5 + side * 0.16, rng.uniform(0.36, 0.44), 0.10, -1.0),
    ]
    stars = [(0.5 + side * 0.38, rng.uniform(0.11, 0.15), 0.10)]
    for px, py in scatter(rng, 0.19, 0.4):
        clear = all(np.hypot(px - a, py - b) > r + c for a, b, c, r in [(a, b, c, 0.10) for a, b, c in stars])
        calm = all(np.hypot(px - a, py - b) > 1.2 * r for a, b, r, _ in whirls)
        if clear and calm and py < 0.5 and 0.02 < px < 0.98 and len(stars) < 10:
            stars.append((px, py, rng.uniform(0.032, 0.055)))
    for cx, cy, r, turn in whirls:
        dx, dy = x - cx, (y - cy) * 1.25
        d = np.hypot(dx, dy)
        pull = 3.5 * np.exp(-((d / r) ** 2) * 0.8)
        sky_u += pull * (-dy * turn - 0.25 * dx) / (d + 0.01)
        sky_v += pull * (dx * turn - 0.25 * dy) / (d + 0.01)
        spiral = np.sin(turn * np.arctan2(dy, dx) + d / r * 8.0)
        phase += 0.55 * spiral * np.exp(-((d / r) ** 2) * 0.7)
    for cx, cy, r in stars:
        dx, dy = x - cx, y - cy
        d = np.hypot(dx, dy)
        pull = 6.0 * np.exp(-((d / r) ** 2) * 0.42)
        sky_u += pull * -dy / (d + 0.005)
        sky_v += pull * dx / (d + 0.005)
        halo = np.minimum(halo, d / r)
    angle = np.arctan2(sky_v, sky_u)

    tone = smear(phase + 0.5 * noise(_MAP, rng, 26), angle, 0.07)
    sky = ramp(0.46 + 0.36 * (tone - tone.mean()) / tone.std() * 0.75, _SKY)
    ring = np.clip(halo / 1.9 + 0.10 * noise(_MAP, rng, 40), 0, 1)
    colour = np.where((halo < 1.9)[..., None], ramp(ring, _GLOW) * 0.85 + 0.15 * sky, sky)

    # Hills, one before the other, each lit along its crest.
    for k in range(6):
        crest = (
            horizon + 0.055 * k + 0.028 * (1 + 0.25 * k) * noise(_MAP, rng, (1, 2.5), octaves=2)[:1] + 0 * y
        )
        below = (y - crest) / (0.075 + 0.012 * k)
        lean = np.arctan(np.gradient(crest, axis=1) * _MAP) + rng.uniform(-0.5, 0.5) * np.clip(below, 0, 1)
        shade = smear(below * 0.8 + 0.16 * noise(_MAP, rng, 24), lean, 0.04)
        ground = ramp(1.05 - shade + 0.10 * noise(_MAP, rng, 30), fields[k])
        angle = np.where(below > 0, lean, angle)
        colour = np.where((below > 0)[..., None], ground, colour)

    # A cypress: flames that rise past the horizon.
    foot, top = 0.5 - side * rng.uniform(0.26, 0.36), rng.uniform(0.06, 0.16)
    up = np.clip((y - top) / (1.0 - top), 0, 1)
    sway = foot + 0.03 * np.sin(up * 7 + rng.uniform(0, 6)) + 0.02 * noise(_MAP, rng, (9, 3)) * up
    half = 0.115 * up**0.75 * (1 + 0.16 * np.sin(up * 26 + rng.uniform(0, 6)))
    tree = (np.abs(x - sway) < half) & (y > top)
    fan = (x - sway) / (half + 0.01)
    flame = smear(noise(_MAP, rng, (6, 40)), np.full_like(x, np.pi / 2), 0.05)
    angle = np.where(tree, -np.pi / 2 - 0.5 * fan + 0.35 * np.sin(up * 24 + fan * 2), angle)
    colour = np.where(tree[..., None], ramp(0.34 + 0.30 * flame, _TREE), colour)
    return angle, colour


def paint(size: int, rng: np.random.Generator) -> Array:
    """Paint a night sky of whirls and stars over rolling hills, with a cypress, in three layers."""
    angle, colour = _scene(rng)
    ux, uy = np.cos(angle), np.sin(angle)
    curl = (np.gradient(uy, axis=1) - np.gradient(ux, axis=0)) * _MAP
    painting = Painting.primed(size, inks("0d1838")[0])
    for spacing, length, width, light, reach in (
        (0.026, 0.130, 0.040, 0.020, 0.0),
        (0.0175, 0.092, 0.0230, 0.045, 0.004),
        (0.0175, 0.066, 0.0155, 0.060, 0.006),
    ):
        xy = scatter(rng, spacing)
        seen = xy + rng.normal(0, reach, xy.shape)
        px, py = xy.T
        n = len(xy)
        # A stroke shortens where the flow turns fast, so that it stays within its ring.
        turning = at(curl, px, py)
        stretch = rng.uniform(0.7, 1.25, n) / (1 + np.minimum(np.abs(turning), 22) * length * 0.55)
        # At borders between objects the direction jumps: no curvature there.
        bend = np.where(np.abs(turning) < 60, np.clip(turning, -22, 22), 0)
        pigment = vary(at(colour, *seen.T), rng, light, 0.13)
        lay(
            painting, rng, xy, at(angle, px, py) + rng.normal(0, 0.07, n), pigment,
            length=length * stretch, width=width * rng.uniform(0.75, 1.2, n), bend=bend, streak=0.07,
        )  # fmt: skip
    weave = noise(size, rng, 180)
    return relief(painting.colour, painting.height + 0.02 * weave, 2.2, 0.10)
