"""Javanese batik: flowers, leaves and paisleys drawn in wax, dyed in few colours, with crackle veins."""

from __future__ import annotations

import numpy as np

from nstbench.pictures.procedural.field import Array, blur, grid, inks, mix, noise, scatter, smoothstep

_CLOTHS = (
    # ground, two dyes, a light dye, the cream of the waxed cloth
    inks("141f4c", "8a4416", "2f5a9c", "d0932f", "f4e6c6"),
    inks("4a1c10", "17306a", "a85a1c", "e0a83c", "f6e8c8"),
    inks("8c1c28", "123c5a", "d06a24", "eeb64a", "f8ecd0"),
    inks("0f4a4e", "7a2030", "2f8a80", "e2a63a", "f4ead0"),
)
_WAX = 0.0042
_MAP = 512


class _Cloth:
    """The dyed cloth, and how far each place is from the nearest motif."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.x, self.y = grid(size)
        self.dyes = _CLOTHS[int(rng.random() * len(_CLOTHS))]
        self.picture = np.array(np.broadcast_to(self.dyes[0], (size, size, 3)))
        self.away = np.full((size, size), 1.0)
        self.hand = 0.0015 * noise(size, rng, 30)
        self.px = 0.8 / size

    def at(self, cx: float, cy: float, reach: float) -> tuple[tuple[slice, slice], Array, Array]:
        """Return the pixels within ``reach`` of a place, and their offsets from it."""
        n = len(self.x)
        rows = slice(max(int((cy - reach) * n), 0), max(min(int((cy + reach) * n) + 1, n), 0))
        cols = slice(max(int((cx - reach) * n), 0), max(min(int((cx + reach) * n) + 1, n), 0))
        return (rows, cols), self.x[rows, cols] - cx, self.y[rows, cols] - cy

    def dye(self, part: tuple[slice, slice], depth: Array, colour: Array) -> None:
        """Dye where ``depth`` (distance inside the edge, of the picture) is positive."""
        self.picture[part] = mix(
            self.picture[part], colour, smoothstep(-self.px, self.px, depth + self.hand[part])
        )

    def motif(self, part: tuple[slice, slice], depth: Array, dye: int) -> None:
        """Dye a shape within an outline of wax and a margin of ground."""
        self.dye(part, depth + 1.2 * _WAX, self.dyes[0])
        self.dye(part, depth, self.dyes[4])
        self.dye(part, depth - _WAX, self.dyes[dye])
        self.away[part] = np.minimum(self.away[part], -depth)

    def wax(self, part: tuple[slice, slice], away: Array, width: float, dye: int = 4) -> None:
        """Draw a line of wax of a given width where ``away`` is zero."""
        self.dye(part, width / 2 - np.abs(away), self.dyes[dye])


def _flower(cloth: _Cloth, rng: np.random.Generator, cx: float, cy: float, radius: float) -> None:
    """Draw a rosette: veined petals in two rings about a dotted heart."""
    part, dx, dy = cloth.at(cx, cy, 1.2 * radius)
    if 0 in dx.shape:
        return
    r, turn = np.hypot(dx, dy), np.arctan2(dy, dx) + rng.uniform(0, 6)
    petals = int(rng.integers(6, 10))
    dyes = rng.permutation([1, 2, 3])
    for ring, (share, dye) in enumerate(((1.0, dyes[0]), (0.62, dyes[1]))):
        a = turn + ring * np.pi / petals
        lobe = np.abs(np.cos(a * petals / 2)) ** 0.55
        depth = 0.8 * (radius * share * (0.66 + 0.34 * lobe) - r)
        cloth.motif(part, depth, int(dye))
        rim = smoothstep(0.0, 0.3, lobe)
        veins = np.abs(((a * petals * 5 / (2 * np.pi)) % 1) - 0.5) * 2 * np.pi * r / (petals * 5)
        inside = (depth > 2.5 * _WAX) & (r > share * radius * 0.45) & (rim > 0.5)
        cloth.wax(part, np.where(inside, veins, 1.0), 0.7 * _WAX)
    cloth.motif(part, 0.30 * radius - r, int(dyes[2]))
    for circle, count in ((0.10, 6), (0.20, 11)):
        a = (turn * count / (2 * np.pi)) % 1 - 0.5
        cloth.wax(
            part,
            np.hypot(r - circle * radius, a * 2 * np.pi * circle * radius / count),
            1.7 * _WAX * (0.6 + radius * 3),
        )


def _leaf(cloth: _Cloth, rng: np.random.Generator, cx: float, cy: float, long: float, way: float) -> None:
    """Draw a leaf with a midrib and side veins."""
    part, dx, dy = cloth.at(cx, cy, 1.1 * long)
    if 0 in dx.shape:
        return
    u, v = dx * np.cos(way) + dy * np.sin(way), dy * np.cos(way) - dx * np.sin(way)
    t = u / long
    v = v - rng.uniform(-0.35, 0.35) * long * np.clip(t, 0, 1) * (1 - np.clip(t, 0, 1))
    half = long * rng.uniform(0.17, 0.25) * np.sin(np.pi * np.clip(t, 0, 1) ** 0.85)
    depth = np.where(
        (t > 0) & (t < 1), 0.9 * (half - np.abs(v)), -np.hypot(np.minimum(np.abs(u), np.abs(u - long)), v)
    )
    cloth.motif(part, depth, int(rng.integers(1, 4)))
    inside = depth > 2.2 * _WAX
    cloth.wax(part, np.where(inside, v, 1.0), _WAX)
    side = ((u - 0.9 * np.abs(v)) / 0.0165) % 1 - 0.5
    cloth.wax(part, np.where(inside & (np.abs(v) > 1.2 * _WAX), side * 0.0125, 1.0), 0.65 * _WAX)


def _paisley(cloth: _Cloth, rng: np.random.Generator, cx: float, cy: float, radius: float) -> None:
    """Draw a mango: a drop with a bent tip, in bands, with a flower inside."""
    part, dx, dy = cloth.at(cx, cy, 2.1 * radius)
    if 0 in dx.shape:
        return
    way, bend = rng.uniform(0, 2 * np.pi), rng.choice([-1.0, 1.0])
    u = (dx * np.cos(way) + dy * np.sin(way)) / radius
    v = bend * (dy * np.cos(way) - dx * np.sin(way)) / radius
    t = np.clip(u, 0, 1.9) / 1.9
    v = v - 1.1 * t**2.2
    half = np.where(u < 0, np.sqrt(np.clip(1 - u**2, 0, 1)), (1 - t**1.25))
    depth = 0.75 * radius * np.where((u > -1) & (u < 1.9), half - np.abs(v), -np.abs(v) - 0.2)
    dyes = rng.permutation([1, 2, 3])
    cloth.motif(part, depth, int(dyes[0]))
    s = np.arctan2(v, u) * 13 / np.pi
    cloth.wax(part, np.hypot(depth - 0.17 * radius, ((s % 1) - 0.5) * 0.20 * radius), 0.085 * radius)
    cloth.motif(part, depth - 0.30 * radius, int(dyes[1]))
    hatch = ((u + 0.8 * v) * radius / 0.014) % 1 - 0.5
    cloth.wax(part, np.where(depth > 0.34 * radius, hatch * 0.011, 1.0), 0.7 * _WAX)
    r, turn = np.hypot(u + 0.05, v), np.arctan2(v, u + 0.05)
    cloth.motif(part, radius * (0.30 * (0.72 + 0.28 * np.abs(np.cos(3 * turn))) - r), int(dyes[2]))
    cloth.wax(part, r * radius, 0.16 * radius)


def _echoes(cloth: _Cloth) -> None:
    """Fill the ground with rows of dots that follow the motifs."""
    from PIL import Image, ImageDraw
    from scipy.ndimage import distance_transform_edt
    from skimage.measure import find_contours

    n = len(cloth.x)
    step = max(1, n // _MAP)
    # Each motif has set the distance only nearby.
    away = np.asarray(distance_transform_edt(cloth.away[::step, ::step] > 0)) * step / n
    image = Image.new("L", (3 * n, 3 * n), 0) if n <= 1024 else Image.new("L", (2 * n, 2 * n), 0)
    draw, m = ImageDraw.Draw(image), image.width
    for k, level in enumerate(np.arange(0.0135, 0.12, 0.0125)):
        spacing, r = (0.0105, 0.0026) if k % 2 == 0 else (0.0125, 0.0034)
        for line in find_contours(blur(away, 0.002), level):  # type: ignore[no-untyped-call]
            p = line[:, ::-1] / len(away)
            s = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(p, axis=0).T))])
            count = int(s[-1] / spacing)
            if count < 3:
                continue
            places = (np.arange(count) + 0.5) * s[-1] / count
            for x, y in zip(
                np.interp(places, s, p[:, 0]) * m, np.interp(places, s, p[:, 1]) * m, strict=True
            ):
                draw.ellipse((x - r * m, y - r * m, x + r * m, y + r * m), fill=255)
    dots = np.asarray(image.resize((n, n), Image.Resampling.BOX), float) / 255
    cloth.picture[:] = mix(cloth.picture, cloth.dyes[4], dots * (cloth.away > 2 * _WAX))


def _crackle(size: int, rng: np.random.Generator) -> Array:
    """Return the density of dye in cracks of the wax, ``(n, n)`` in [0, 1]."""
    from scipy.spatial import cKDTree

    x, y = grid(size)
    veins = np.zeros((size, size))
    for spacing, width, strength in ((0.11, 0.0017, 0.95), (0.045, 0.0011, 0.7)):
        bx = x + 0.010 * noise(size, rng, 12, octaves=2)
        by = y + 0.010 * noise(size, rng, 12, octaves=2)
        seeds = scatter(rng, spacing, 0.6, margin=0.15)
        d = cKDTree(seeds).query(np.stack([bx, by], axis=-1), k=2)[0]
        gap = (d[..., 1] - d[..., 0]) / 2
        open_ = smoothstep(-0.5, 0.9, noise(size, rng, 6, octaves=2))
        line = np.maximum(
            smoothstep(width + 0.7 / size, width - 0.7 / size, gap), 0.35 * np.exp(-gap / (2.5 * width))
        )
        veins = np.maximum(veins, strength * open_ * line)
    return veins


def paint(size: int, rng: np.random.Generator) -> Array:
    """Draw motifs from small to large, fill the ground with dots, then let the wax crack."""
    cloth = _Cloth(size, rng)
    spots: list[tuple[float, float, float]] = []
    for cx, cy in rng.uniform(-0.03, 1.03, (260, 2)):
        room = min([np.hypot(cx - a, cy - b) - r for a, b, r in spots], default=0.15)
        radius = min(room, 0.115 + 0.05 * rng.random())
        if radius > 0.075:
            spots.append((cx, cy, radius))
    # Each motif has a random stream of its own: whether it reaches into the picture may depend on the size.
    # Sprigs are drawn behind the large motifs.
    for cx, cy, radius in spots:
        start = rng.uniform(0, 6)
        for k in range(7):
            way = start + k * 2 * np.pi / 7 + rng.normal(0, 0.15)
            px, py = cx + 0.62 * radius * np.cos(way), cy + 0.62 * radius * np.sin(way)
            long = rng.uniform(0.75, 1.15) * radius
            _leaf(cloth, rng.spawn(1)[0], px, py, long, way + rng.normal(0, 0.3))
    for k, (cx, cy, radius) in enumerate(spots):
        if k % 3 == 1:
            _paisley(cloth, rng.spawn(1)[0], cx, cy, 0.62 * radius)
        else:
            _flower(cloth, rng.spawn(1)[0], cx, cy, 0.80 * radius)
    for (cx, cy), draw in zip(rng.uniform(0, 1, (60, 2)), rng.spawn(60), strict=True):
        if cloth.away[min(int(cy * size), size - 1), min(int(cx * size), size - 1)] > 0.034:
            _flower(cloth, draw, cx, cy, 0.030)
    _echoes(cloth)
    cloth.picture = blur(cloth.picture, 0.35 / size)

    waxed = smoothstep(0.30, 0.75, cloth.picture.mean(axis=2))
    veins = _crackle(size, rng) * (0.25 + 0.75 * waxed)
    picture = mix(cloth.picture, cloth.dyes[0] * 0.5 + cloth.dyes[1] * 0.5, veins)
    # Dye takes unevenly, and the threads show.
    threads = 0.5 * noise(size, rng, (230, 60)) + 0.5 * noise(size, rng, (60, 230))
    bath = noise(size, rng, 5, octaves=3)
    return picture * (1 + 0.035 * threads + 0.050 * bath)[..., None]
