"""Transparent washes on rough paper: flowers whose petals overlap, with blooms and dark pigment edges.

Washes are filters, so they multiply: paper · exp(-Σ density · absorbance), absorbance = -log(colour).
"""

from __future__ import annotations

import numpy as np

from nstbench.pictures.procedural.field import Array, grid, inks, noise, scatter, smoothstep

# Grounds of neighbouring hues only: complementary washes, one over another, become brown.
_GROUNDS = (
    inks("b4e4ee", "cfd0f4", "bfead2"),
    inks("fde9ae", "fbcfcb", "fcd9a4"),
    inks("f6c9dc", "d6cdf4", "c4e0f4"),
    inks("d8eeb0", "fbecb4", "b4e6da"),
)
_LEAVES = inks("5f9a3a", "2f7f5a", "9bb83a", "2f6f80")
_BLOSSOMS = (
    inks("e8332a", "f46a2a", "c81e50"),
    inks("7a4cc8", "4a5fd0", "b45ad0"),
    inks("e84a90", "f58ab0", "c03ab0"),
    inks("f9b21f", "f57f25", "f6d23a"),
    inks("2f7fd8", "3fb0d8", "5a5ad8"),
)
_HEART = inks("2b2440", "7a4a1e", "f2c230")


class _Sheet:
    """The paper, the pigment that it has absorbed, and the textures of washes."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size = size
        self.x, self.y = grid(size)
        self.absorbed = np.zeros((size, size, 3))
        self.tooth = noise(size, rng, 130, octaves=2, gain=0.7)
        self.wander = 0.012 * noise(size, rng, 9, octaves=2) + 0.0035 * noise(size, rng, 45, octaves=2)
        self.pool = noise(size, rng, 6, octaves=4, gain=0.6)
        self.fringe = np.abs(noise(size, rng, 22, octaves=3))
        self.wet = smoothstep(0.4, 1.5, noise(size, rng, 5))

    def window(self, cx: float, cy: float, reach: float) -> tuple[slice, slice]:
        """Return the pixels within ``reach`` of a place."""
        low = [int(np.clip((c - reach) * self.size, 0, self.size)) for c in (cy, cx)]
        high = [int(np.clip((c + reach) * self.size + 1, 0, self.size)) for c in (cy, cx)]
        return slice(low[0], high[0]), slice(low[1], high[1])

    def wash(
        self,
        part: tuple[slice, slice],
        depth: Array,
        colour: Array,
        strength: Array | float,
        second: Array | None = None,
        share: Array | float = 0.0,
        soft: float = 1.0,
    ) -> None:
        """Lay a wash where ``depth`` (distance inside the edge, of the picture) is positive.

        Args:
            part: Pixels that ``depth`` covers.
            depth: Distance inside the edge, ``(h, w)``.
            colour: Colour of the pigment at full density.
            strength: Density.
            second: Colour of a second pigment, mixed in the proportion ``share``.
            share: Proportion of the second pigment.
            soft: Width of the soft edge where the paper is wet.
        """
        d = depth + self.wander[part]
        bleed = 0.0010 + 0.022 * soft * self.wet[part]
        inside = smoothstep(-bleed, bleed, d)
        rim = np.exp(-np.maximum(d, 0) / 0.0035) + 0.45 * np.exp(-np.maximum(d, 0) / 0.014)
        rim *= 1 - 0.85 * self.wet[part]
        grit = np.clip(1 + 0.20 * self.tooth[part], 0.4, 1.8)
        density = strength * inside * grit * np.clip(0.66 + 0.22 * self.pool[part] + 0.62 * rim, 0.12, 2)
        absorb = -np.log(np.clip(colour, 0.02, 0.995))
        if second is not None:
            s = np.clip(np.asarray(share), 0, 1)[..., None]
            absorb = absorb * (1 - s) - np.log(np.clip(second, 0.02, 0.995)) * s
        self.absorbed[part] += density[..., None] * absorb

    def spare(self, part: tuple[slice, slice], depth: Array, share: float) -> None:
        """Remove a share of the pigment laid before, so that the paper is left white there."""
        kept = share * smoothstep(-0.004, 0.006, depth + self.wander[part])
        self.absorbed[part] *= (1 - kept)[..., None]

    def bloom(self, rng: np.random.Generator, cx: float, cy: float, radius: float) -> None:
        """Move the pigment into a ragged ring, as a drop of water does."""
        part = self.window(cx, cy, 1.7 * radius)
        if 0 in self.absorbed[part].shape:
            return
        dx, dy = self.x[part] - cx, self.y[part] - cy
        r = (
            np.hypot(dx, dy) / radius
            + 0.16 * self.pool[part]
            + 0.10 * self.fringe[part] / (radius * 12 + 0.2)
        )
        pushed = 1 - 0.45 * smoothstep(1.0, 0.55, r) + 0.60 * np.exp(-np.abs(r - 1.0) / 0.045) * (r < 1.0)
        self.absorbed[part] *= pushed[..., None]


def _petals(
    sheet: _Sheet, rng: np.random.Generator, cx: float, cy: float, radius: float, colours: Array
) -> None:
    """Lay a flower: broad petals, one transparent over another, then its heart."""
    count = int(rng.integers(5, 8))
    turn = rng.uniform(0, 2 * np.pi)
    squash = rng.uniform(0.72, 1.0)
    part = sheet.window(cx, cy, 1.35 * radius)
    x, y = (sheet.x[part] - cx) / radius, (sheet.y[part] - cy) / radius / squash
    if 0 in x.shape:
        return
    sheet.spare(part, (0.92 - np.hypot(x, y)) * radius, 0.88)
    for k in rng.permutation(count):
        way = turn + 2 * np.pi * k / count + rng.normal(0, 0.10)
        long, wide = rng.uniform(0.85, 1.1), rng.uniform(0.50, 0.62) * (6 / count) ** 0.5
        u, v = x * np.cos(way) + y * np.sin(way), y * np.cos(way) - x * np.sin(way)
        t = np.clip(u / long, 0, 1)
        frill = 0.045 * np.sin(v * 17 + rng.uniform(0, 6)) * t
        half = wide * np.sin(np.pi * np.clip(t * 0.93 + 0.05, 0, 1) ** 1.25) ** 0.75
        depth = np.minimum((half - np.abs(v)), np.minimum(u - 0.04, long + frill - u)) * radius
        main, other = colours[rng.permutation(3)[:2]]
        vein = 0.10 * np.sin(np.arctan2(v, u + 0.15) * 46) * t
        strength = (0.50 + 0.55 * (1 - t) + vein) * rng.uniform(0.75, 1.15)
        sheet.wash(
            part, depth, main, strength, other, smoothstep(0.2, 0.9, t + 0.35 * sheet.pool[part]), soft=0.35
        )
    hx, hy = rng.normal(0, 0.03, 2)
    heart = 0.17 - np.hypot(x - hx, y - hy)
    sheet.spare(part, heart * radius, 0.7)
    sheet.wash(part, heart * radius, _HEART[0], 0.8, _HEART[2], smoothstep(0.06, 0.13, heart), soft=0.3)
    for _ in range(22):
        a, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.20, 0.36)
        dot = (0.024 - np.hypot(x - hx - far * np.cos(a), y - hy - far * np.sin(a))) * radius
        sheet.wash(part, dot - 0.9 * sheet.wander[part], _HEART[0], 0.6, soft=0.0)


def _leaf(sheet: _Sheet, rng: np.random.Generator, cx: float, cy: float, long: float, way: float) -> None:
    """Lay a leaf in two halves, so that its midrib stays pale."""
    part = sheet.window(cx, cy, long * 1.1)
    x, y = sheet.x[part] - cx, sheet.y[part] - cy
    if 0 in x.shape:
        return
    u, v = (x * np.cos(way) + y * np.sin(way)) / long, (y * np.cos(way) - x * np.sin(way)) / long
    t = np.clip(u, 0, 1)
    v = v - rng.uniform(-0.25, 0.25) * t * (1 - t)
    half = rng.uniform(0.14, 0.20) * np.sin(np.pi * t**0.8)
    sheet.spare(part, np.where((u > 0) & (u < 1), half - np.abs(v), -0.2) * long, 0.5)
    main, other = _LEAVES[rng.permutation(4)[:2]]
    for side, force in ((1, rng.uniform(0.7, 1.1)), (-1, rng.uniform(0.45, 0.9))):
        depth = np.minimum(half - side * v, side * v - 0.008) * long
        depth = np.where((u > 0) & (u < 1), depth, -0.05)
        sheet.wash(
            part,
            depth,
            main,
            force * (1 - 0.35 * t),
            other,
            smoothstep(0.1, 0.9, t + 0.4 * sheet.pool[part]),
            soft=0.4,
        )


def paint(size: int, rng: np.random.Generator) -> Array:
    """Lay a wet ground, leaves, flowers, blooms and spatter; the paper stays the only white."""
    sheet = _Sheet(size, rng)
    everywhere = (slice(None), slice(None))
    for colour in _GROUNDS[rng.integers(4)]:
        spread = noise(size, rng, 2.2, octaves=3)
        sheet.wash(
            everywhere, 0.06 * (spread - 0.05), colour, 0.8 + 0.5 * smoothstep(0, 1.6, spread), soft=2.5
        )
    for cx, cy in rng.uniform(0, 1, (7, 2)):
        sheet.bloom(rng, cx, cy, rng.uniform(0.06, 0.14))

    kinds = rng.permutation(len(_BLOSSOMS))[:3]
    flowers = []
    for cx, cy in scatter(rng, 0.29, 0.22, margin=0.0):
        if -0.02 < cx < 1.02 and -0.02 < cy < 1.02:
            flowers.append((cx, cy, rng.uniform(0.125, 0.20)))
    # Each leaf and flower has a random stream of its own: which of them are visible may depend on the size.
    for cx, cy, radius in flowers:
        for _ in range(4):
            way = rng.uniform(0, 2 * np.pi)
            near = 0.55 * radius
            px, py, long = cx + near * np.cos(way), cy + near * np.sin(way), rng.uniform(0.15, 0.27)
            _leaf(sheet, rng.spawn(1)[0], px, py, long, way + rng.normal(0, 0.3))
    for k, (cx, cy, radius) in enumerate(flowers):
        _petals(sheet, rng.spawn(1)[0], cx, cy, radius, _BLOSSOMS[kinds[(0, 1, 0, 2)[k % 4]]])
    for cx, cy in rng.uniform(0, 1, (9, 2)):
        sheet.bloom(rng, cx, cy, rng.uniform(0.025, 0.06))
    for cx, cy in rng.uniform(0, 1, (70, 2)):
        r = 0.0018 + 0.006 * rng.random() ** 4
        part = sheet.window(cx, cy, 4 * r + 0.02)
        away = r - np.hypot(sheet.x[part] - cx, sheet.y[part] - cy)
        colour = _BLOSSOMS[kinds[rng.integers(3)]][0]
        sheet.wash(part, away - sheet.wander[part] * 0.9, colour, 0.8, soft=0.0)

    # Rough paper catches the light on its tooth.
    lit = np.gradient(sheet.tooth, axis=1) * size / 512
    paper = inks("fdfaf2")[0] * (1 + 0.012 * np.tanh(lit))[..., None]
    # Even the heaviest wash is not black.
    return np.asarray(paper * np.exp(-2.0 * np.tanh(sheet.absorbed / 2.0)))
