"""A colour woodcut in the manner of Hokusai: breaking waves in a few flat inks with carved lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nstbench.pictures.procedural.field import Array, grid, inks, mix, noise, reduce, smoothstep

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

_PAPER, _KEY, _DEEP, _MID, _PALE, _SUN, _BLUSH = inks(
    "f3e8cf", "14243f", "173f70", "2f78ac", "9cc6d4", "cf4a2c", "ecc08e"
)
# A wave about to break, in units of its height: its back from trough to lip, and its hollow face.
_BACK = (
    (-2.3, -0.10),
    (-1.5, 0.10),
    (-0.85, 0.40),
    (-0.38, 0.78),
    (0.05, 1.00),
    (0.42, 1.00),
    (0.70, 0.82),
    (0.80, 0.58),
)
_FACE = (
    (1.70, -0.10),
    (0.95, -0.02),
    (0.42, 0.12),
    (0.12, 0.36),
    (0.13, 0.60),
    (0.34, 0.73),
    (0.60, 0.72),
    (0.78, 0.57),
)


class _Block:
    """Polygons in picture coordinates, printed with an ink."""

    def __init__(self, draw: ImageDraw, n: int) -> None:
        self.draw, self.n = draw, n

    def fill(self, xy: Array, ink: Array) -> None:
        """Print an area."""
        self.draw.polygon((xy * self.n).ravel().tolist(), fill=_rgb(ink))

    def line(self, xy: Array, ink: Array, width: float) -> None:
        """Print a line of even width."""
        self.draw.line(
            (xy * self.n).ravel().tolist(), fill=_rgb(ink), width=max(1, round(width * self.n)), joint="curve"
        )

    def blade(self, xy: Array, ink: Array, width: float) -> None:
        """Print a line that swells from a point and tapers to a point, as a knife cuts it."""
        along = np.gradient(xy, axis=0)
        normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / (np.hypot(*along.T)[:, None] + 1e-9)
        half = 0.5 * width * np.sin(np.linspace(0, np.pi, len(xy)))[:, None] ** 0.6
        self.fill(np.concatenate([xy + half * normal, (xy - half * normal)[::-1]]), ink)

    def discs(self, xy: Array, radius: Array, ink: Array) -> None:
        """Print discs."""
        for (x, y), r in zip(xy * self.n, radius * self.n, strict=True):
            self.draw.ellipse((x - r, y - r, x + r, y + r), fill=_rgb(ink))


def _rgb(ink: Array) -> tuple[int, ...]:
    return tuple(round(255 * float(c)) for c in ink)


def _curve(points: Array, n: int = 70) -> Array:
    """Return ``n`` points of a smooth curve through the given ones."""
    from scipy.interpolate import CubicSpline

    s = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    return np.asarray(CubicSpline(s, points)(np.linspace(0, s[-1], n)))


def _wave(
    block: _Block, rng: np.random.Generator, foot: tuple[float, float], height: float, way: float
) -> None:
    """Print a breaking wave that stands on ``foot`` and falls towards ``way`` (-1 left, 1 right)."""
    unit = np.array([way * height, -height])
    back, face = (_curve(np.array(p) + rng.normal(0, 0.018, (8, 2))) for p in (_BACK, _FACE))
    face[-1] = back[-1]
    t = np.linspace(0, 1, len(back))

    def ribs(s: Array | float) -> Array:
        """Return the curve a share s of the way from the back to the face."""
        s = np.asarray(s)[..., None]
        return np.asarray(foot + unit * (back * (1 - s) + face * s))

    outline = np.concatenate([ribs(0.0), ribs(1.0)[::-1]])
    block.fill(outline, _DEEP)
    # Stripes run up the body and curl over with the lip.
    edges = np.linspace(0.03, 1.0, 17) + rng.normal(0, 0.008, 17)
    for k, s in enumerate(edges[:-1]):
        ink = (_MID, _PAPER, _MID, _PALE)[k % 4]
        wide = (edges[k + 1] - s) * (0.60 if k % 2 else 0.85) * np.clip(1.15 - t, 0, 1) ** 0.5
        begin, end = rng.uniform(0.0, 0.12), rng.uniform(0.86, 0.99)
        taper = smoothstep(begin, begin + 0.22, t) * smoothstep(end, end - 0.30, t)
        first, second = ribs(s + 0 * t), ribs(s + wide * taper)
        block.fill(np.concatenate([first, second[::-1]]), ink)
        block.line(first[4:-2], _KEY, 0.0014)
        for _ in range(3):
            low = rng.integers(2, 30)
            cut = ribs(s + rng.uniform(0.1, 0.9) * (edges[k + 1] - s) + 0 * t)[
                low : low + rng.integers(12, 34)
            ]
            block.blade(cut, (_PAPER, _KEY, _PALE)[rng.integers(3)], 0.0042 * min(1.0, 0.4 + height))
    block.line(ribs(1.0), _KEY, 0.0030)
    block.line(ribs(0.0), _KEY, 0.0030)
    _foam(block, rng, ribs(0.0), ribs(0.16), height, way)


def _foam(
    block: _Block, rng: np.random.Generator, crest: Array, under: Array, height: float, way: float
) -> None:
    """Print the crest: lumps of foam, fingers that claw forward, and spray."""
    xy: list[Array] = []
    radius: list[float] = []
    n = len(crest)
    for i in np.linspace(0.42, 0.99, 44):
        k = min(int(i * n), n - 1)
        r = height * rng.uniform(0.018, 0.042) * (0.45 + 0.75 * i)
        for depth in (0.0, 0.5, 1.0):
            if rng.random() < 1.2 * i - 0.25 * depth:
                share = depth * rng.uniform(0.6, 1.2) * i
                xy.append(crest[k] * (1 - share) + under[k] * share + rng.normal(0, 0.008 * height, 2))
                radius.append(r * (1 - 0.25 * depth))
    # Fingers grow from the crest and hook downwards, more of them towards the lip.
    for i in np.concatenate([np.linspace(0.50, 0.80, 8), np.linspace(0.82, 1.0, 14)]):
        k = min(int(i * n), n - 2)
        along = crest[k + 1] - crest[k]
        heading = np.arctan2(along[1], along[0]) + way * rng.uniform(-1.0, 0.2)
        p, r = crest[k] + rng.normal(0, 0.02 * height, 2), height * rng.uniform(0.020, 0.032)
        bend = way * rng.uniform(0.14, 0.30)
        for _ in range(rng.integers(8, 14)):
            xy.append(p.copy())
            radius.append(r)
            p = p + 0.9 * r * np.array([np.cos(heading), np.sin(heading)])
            heading += bend
            r *= 0.87
    spots, sizes = np.array(xy), np.array(radius)
    line = 0.0026
    block.discs(spots, sizes + line, _KEY)
    block.discs(spots, sizes, _PAPER)
    inner = sizes > 0.013 * height
    block.discs(spots[inner] + sizes[inner, None] * [0.10 * -way, 0.22], sizes[inner] * 0.62, _PALE)
    block.discs(spots[inner] + sizes[inner, None] * [0.16 * way, -0.05], sizes[inner] * 0.60, _PAPER)
    m = 46
    throw = (
        crest[rng.integers(int(0.5 * n), n, m)]
        + rng.normal(0, 1, (m, 2)) * height * [0.15, 0.10]
        + height * np.array([0.16 * way, -0.06])
    )
    block.discs(throw, height * rng.uniform(0.004, 0.013, m), _PAPER)


def _swell(block: _Block, rng: np.random.Generator, level: float, rise: float, way: float) -> None:
    """Print a long low swell over the width of the picture, in bands that follow its ridge."""
    x = np.linspace(-0.02, 1.02, 120)
    ridge = level - rise * np.abs(np.sin(np.pi * (x * rng.uniform(1.2, 1.8) + rng.random()))) ** 1.6
    ridge -= 0.012 * np.sin(x * rng.uniform(14, 20) + rng.uniform(0, 6))
    block.fill(np.concatenate([np.stack([x, ridge], 1), [[1.02, 1.1], [-0.02, 1.1]]]), _DEEP)
    depth = 0.006
    for k in range(9):
        thick = 0.010 + 0.0045 * k
        slide = 0.5 + 0.5 * np.sin(x * rng.uniform(5, 9) + rng.uniform(0, 6))
        top = ridge + depth + (0.10 + 0.03 * k) * (level - ridge)
        bottom = top + thick * (0.15 + 0.85 * slide) * (0.7 if k % 2 else 1.0)
        block.fill(
            np.concatenate([np.stack([x, top], 1), np.stack([x, bottom], 1)[::-1]]),
            (_PALE, _MID, _PAPER, _MID)[k % 4],
        )
        block.line(np.stack([x, top], 1), _KEY, 0.0014)
        depth += thick * 1.25
    block.line(np.stack([x, ridge], 1), _KEY, 0.003)
    for _ in range(14):
        cx, wide = rng.random(), rng.uniform(0.03, 0.09)
        u = np.linspace(cx - wide, cx + wide, 20)
        y = np.interp(u, x, ridge) + rng.uniform(0.02, 0.14)
        block.blade(np.stack([u, y - 0.01 * np.sin((u - cx) / wide * 3)], 1), _PAPER, 0.005)
    caps = rng.choice(len(x) - 1, 26)
    spots = np.stack([x, ridge], 1)[caps] + rng.normal(0, 0.006, (26, 2))
    sizes = rng.uniform(0.005, 0.012, 26)
    block.discs(spots, sizes + 0.0024, _KEY)
    block.discs(spots, sizes, _PAPER)


def _sky(block: _Block, rng: np.random.Generator, way: float) -> None:
    """Print the sun, clouds cut in bands, the far sea and the mountain."""
    sun = np.array([[0.5 + way * rng.uniform(0.32, 0.40), rng.uniform(0.13, 0.20)]])
    block.discs(sun, np.array([0.085]), _SUN)
    for _ in range(9):
        cx, cy, wide = rng.uniform(0, 1), rng.uniform(0.08, 0.42), rng.uniform(0.10, 0.28)
        for j in range(3):
            u = np.linspace(cx - wide * (1 - 0.25 * j), cx + wide * (1 - 0.2 * j), 40)
            block.blade(
                np.stack([u, cy + 0.016 * j + 0.004 * np.sin(u * 30 + j)], 1),
                (_PAPER, _BLUSH, _PAPER)[j],
                0.016,
            )
    top, foot, wide = 0.44, 0.60, 0.19
    cx = 0.5 + way * rng.uniform(0.10, 0.24)
    u = np.linspace(-1, 1, 60)
    flank = top + (foot - top) * np.clip(np.abs(u) - 0.06, 0, 1) ** 0.72
    hill = np.stack([cx + wide * u, flank], 1)
    block.fill(hill, _MID)
    snow = np.abs(u) < 0.42
    teeth = hill[snow][::-1] + np.stack([0 * u[snow], 0.030 * (np.arange(snow.sum()) % 2) + 0.012], 1)
    block.fill(np.concatenate([hill[snow], teeth]), _PAPER)
    block.line(hill, _KEY, 0.0026)
    x = np.array([-0.02, 1.02, 1.02, -0.02])
    block.fill(np.stack([x, [0.58, 0.58, 1.02, 1.02]], 1), _MID)
    for y in np.linspace(0.588, 0.72, 9):
        for start in rng.uniform(-0.1, 1.0, 5):
            u = np.linspace(start, start + rng.uniform(0.08, 0.3), 16)
            block.blade(
                np.stack([u, y + 0.003 * np.sin(40 * u)], 1), (_PAPER, _DEEP, _PALE)[rng.integers(3)], 0.005
            )


def paint(size: int, rng: np.random.Generator) -> Array:
    """Print sky, mountain and waves from back to front; then let the grain of the block show."""
    from PIL import Image, ImageDraw

    scale = 3 if size <= 1024 else 2
    n = size * scale
    way = rng.choice([-1.0, 1.0])
    _, y = grid(size)
    # Bokashi: the printer wipes the block, so the sky fades from blue to paper to a blush.
    sky = mix(np.broadcast_to(_PAPER, (size, size, 3)), _MID, 0.85 * smoothstep(0.16, -0.02, y))
    sky = mix(sky, _BLUSH, 0.75 * smoothstep(0.22, 0.56, y))
    image = Image.fromarray((sky * 255).round().astype(np.uint8)).resize((n, n), Image.Resampling.BILINEAR)
    block = _Block(ImageDraw.Draw(image), n)
    _sky(block, rng, way)
    _wave(block, rng, (0.5 + way * rng.uniform(0.14, 0.26), 0.74), rng.uniform(0.15, 0.20), way)
    _swell(block, rng, 0.76, 0.05, way)
    _wave(block, rng, (0.5 - way * rng.uniform(0.10, 0.18), 0.84), rng.uniform(0.60, 0.70), way)
    _wave(block, rng, (0.5 + way * rng.uniform(0.20, 0.34), 0.93), rng.uniform(0.20, 0.28), way)
    _swell(block, rng, 0.93, 0.07, way)
    print_ = reduce(np.asarray(image, np.float32) / 255, scale).astype(float)

    # Ink lies thinner on the hard rings of the plank.
    rings = np.sin(
        2 * np.pi * (26 * y + 1.3 * noise(size, rng, (4, 1.2), octaves=2) + 0.06 * noise(size, rng, (130, 6)))
    )
    baren = noise(size, rng, 5, octaves=3)
    speck = noise(size, rng, 230)
    thin = np.clip(0.055 + 0.045 * rings + 0.030 * baren + 0.025 * speck, 0, 0.3)
    fibre = noise(size, rng, (60, 150), octaves=2)
    return mix(print_, _PAPER, thin) * (1 + 0.012 * fibre)[..., None]
