"""Textures computed pixel by pixel: waves, cells, lattices, clouds, fractals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from nstbench.training.textures.fields import (
    Array,
    Composition,
    grid,
    log_uniform,
    noise,
    palette,
    pick,
    ramp,
)


@dataclass(frozen=True)
class Waves:
    """Stripes along the level sets of the composition: bands, rings, spirals, rays, plaids, marble.

    Attributes:
        composition: Large structure.
        colours: Palette.
        kind: ``stripes``; ``plaid`` and ``checks`` with a second set across; or turbulent ``marble``.
        sharpness: Sharpness of the stripes: 1 is a sine, 20 two flat tones.
        varied: Variation of the width of the stripes.
        streaks: Amplitude of fine lines along the stripes.
    """

    composition: Composition
    colours: Array
    kind: str
    sharpness: float
    varied: float
    streaks: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Waves:
        """Draw a texture of waves."""
        return cls(
            composition=Composition.draw(rng),
            colours=palette(rng),
            kind=pick(rng, {"stripes": 0.5, "plaid": 0.15, "checks": 0.15, "marble": 0.2}),
            sharpness=float(rng.choice([1, 1, 3, 20])),
            varied=float(rng.choice([0, 0, 0.6])),
            streaks=float(rng.choice([0, 0, 0.1, 0.2])),
        )

    def __call__(self, rng: np.random.Generator, size: int) -> Array:
        """Return one picture ``(size, size, 3)`` of the texture."""
        layout = self.composition(rng, size)
        width = self.composition.width
        x, y = grid(size)
        turn = layout.phase / width * np.pi
        if self.varied:
            turn = turn + self.varied * 2.5 * noise(rng, size, 2.2)[0]
        if self.kind == "marble":
            turn = 0.5 * turn + 2.2 * noise(rng, size, 1.8)[0]
        wave = np.sin(turn)
        if self.kind in ("plaid", "checks"):
            along = x * np.cos(self.composition.angle) + y * np.sin(self.composition.angle)
            other = np.sin(along / width * np.pi)
            wave = 0.5 * (wave + other) if self.kind == "plaid" else 1.4 * wave * other
        wave = np.tanh(wave * self.sharpness) / np.tanh(self.sharpness)
        t = 0.5 + 0.35 * wave + 0.3 * (layout.tone - 0.5) + 0.06 * noise(rng, size, 2.0)[0]
        picture = ramp(self.colours, t)
        if self.streaks:
            fine = np.sin(layout.phase * (2 * np.pi / max(3.0, width / 4)) + 1.5 * noise(rng, size, 1.6)[0])
            picture = picture + (self.streaks * fine)[..., None]
        return picture


@dataclass(frozen=True)
class Cells:
    """Voronoi cells: mosaics, leading, cobbles, scales.

    Attributes:
        composition: Large structure, which sets the angle and the tones of the cells.
        colours: Palette.
        cell: Mean side of a cell, in pixels.
        regular: Whether the centres lie on a jittered grid.
        look: Shading: ``flat``, with an ``edge``, domed (``dist``) or ridged.
        edge: Width of the joints, in pixels.
        norm: Order p of the distance's norm: 1 gives diamonds, 2 is Euclidean, 4 nearly squares.
        aspect: Ratio of breadth to length of cells.
        warp: Deviation of the displacement of pixels, in pixels.
        jitter: Deviation of tones.
    """

    composition: Composition
    colours: Array
    cell: float
    regular: bool
    look: str
    edge: float
    norm: int
    aspect: float
    warp: float
    jitter: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Cells:
        """Draw a texture of cells."""
        return cls(
            composition=Composition.draw(rng),
            colours=palette(rng),
            cell=log_uniform(rng, 7, 55),
            regular=bool(rng.random() < 0.3),
            look=pick(rng, {"flat": 0.3, "edge": 0.4, "dist": 0.15, "ridge": 0.15}),
            edge=log_uniform(rng, 1.0, 5),
            norm=int(rng.choice([1, 2, 2, 4])),
            aspect=float(rng.choice([1, 1, 0.6, 0.35])),
            warp=float(rng.choice([0, 0, 2, 8])),
            jitter=float(rng.choice([0.05, 0.15, 0.4])),
        )

    def __call__(self, rng: np.random.Generator, size: int) -> Array:
        """Return one picture ``(size, size, 3)`` of the texture."""
        layout = self.composition(rng, size)
        points = self._points(rng, size)
        x, y = grid(size)
        bend = self.warp * noise(rng, size, 2.2, count=2)
        pixels = np.stack([x + bend[0], y + bend[1]], -1).reshape(-1, 2)
        cos, sin = np.cos(self.composition.angle), np.sin(self.composition.angle)
        to = np.array([[cos, sin / self.aspect], [-sin, cos / self.aspect]], np.float32)
        distances, near = cKDTree(points @ to).query(pixels @ to, k=2, p=self.norm)
        near = near[:, 0].reshape(size, size)
        first, second = (distances[:, k].reshape(size, size).astype(np.float32) for k in (0, 1))
        if self.look == "dist":
            return ramp(self.colours, first / self.cell * 1.1)
        if self.look == "ridge":
            return ramp(self.colours, (second - first) / self.cell)
        column = np.clip(points[:, 0], 0, size - 1).astype(int)
        row = np.clip(points[:, 1], 0, size - 1).astype(int)
        tone = layout.tone[row, column] + self.jitter * rng.standard_normal(len(points))
        picture = ramp(self.colours, tone)[near]
        if self.look == "edge":
            inside = np.clip((second - first) / self.edge, 0, 1)
            picture = picture * inside[..., None] + self.colours[0] * 0.25 * (1 - inside[..., None])
        return np.asarray(picture)

    def _points(self, rng: np.random.Generator, size: int) -> Array:
        n = max(4, round(size / self.cell) + 2)
        if self.regular:
            c = (np.arange(n) - 0.5) * self.cell
            px, py = np.meshgrid(c, c)
            px = px + 0.5 * self.cell * (np.arange(n) % 2)[:, None]
            points = np.stack([px, py], -1).reshape(-1, 2)
            points += 0.12 * self.cell * rng.standard_normal(points.shape) + rng.uniform(0, self.cell, 2)
        else:
            points = rng.uniform(-self.cell, size + self.cell, (n * n, 2))
        return points.astype(np.float32)


@dataclass(frozen=True)
class Lattice:
    """A motif repeated on a warped grid: dots, bricks, hatching, crosses, zigzags, scales, rosettes.

    Attributes:
        colours: Palette; the first colour is the background.
        motif: Name of the motif.
        period: Period of the grid, in pixels.
        angle: Angle of the grid, in radians.
        warp: Deviation of the displacement of pixels, in pixels.
        jitter: Displacement of each motif, as a fraction of the period.
        fill: Size of the motif, as a fraction of the period.
    """

    colours: Array
    motif: str
    period: float
    angle: float
    warp: float
    jitter: float
    fill: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Lattice:
        """Draw a lattice."""
        return cls(
            colours=palette(rng),
            motif=str(rng.choice(["dots", "bricks", "hatch", "cross", "zigzag", "scales", "rosettes"])),
            period=log_uniform(rng, 6, 40),
            angle=rng.uniform(0, np.pi),
            warp=float(rng.choice([0, 1, 4, 10])),
            jitter=float(rng.choice([0, 0.1, 0.3])),
            fill=rng.uniform(0.22, 0.5),
        )

    def __call__(self, rng: np.random.Generator, size: int) -> Array:
        """Return one picture ``(size, size, 3)`` of the texture."""
        x, y = grid(size)
        bend = self.warp * noise(rng, size, 2.4, count=2)
        shift = rng.uniform(0, 50, 2)
        x, y = x + bend[0], y + bend[1]
        a = (x * np.cos(self.angle) + y * np.sin(self.angle)) / self.period + shift[0]
        b = (y * np.cos(self.angle) - x * np.sin(self.angle)) / self.period + shift[1]
        if self.motif in ("bricks", "scales"):
            b = b * 1.6
            a = a + 0.5 * (np.floor(b) % 2)
        i, j = np.floor(a).astype(int), np.floor(b).astype(int)
        table = rng.random((64, 64, 3)).astype(np.float32)
        chance = table[i % 64, j % 64]
        u = a - i - 0.5 + (chance[..., 0] - 0.5) * self.jitter
        v = b - j - 0.5 + (chance[..., 1] - 0.5) * self.jitter
        inside = self._motif(u, v, a, b)
        edge = np.clip(inside * self.period + 0.5, 0, 1)[..., None]
        which = 1 + (chance[..., 2] * (len(self.colours) - 1)).astype(int) % (len(self.colours) - 1)
        return np.asarray(self.colours[which] * edge + self.colours[0] * (1 - edge), np.float32)

    def _motif(self, u: Array, v: Array, a: Array, b: Array) -> Array:
        """Return the signed distance to the motif's edge, positive inside, in periods."""
        if self.motif == "dots":
            return self.fill - np.hypot(u, v)
        if self.motif == "bricks":
            return np.asarray(np.minimum(0.45 - abs(u), 0.43 - abs(v)))
        if self.motif == "hatch":
            return 0.5 * self.fill - abs(u)
        if self.motif == "cross":
            return np.asarray(np.maximum(0.4 * self.fill - abs(u), 0.3 * self.fill - abs(v)))
        if self.motif == "zigzag":
            return np.asarray(0.5 * self.fill - abs((a + abs(b % 2 - 1)) % 1 - 0.5))
        if self.motif == "scales":
            return 0.6 - np.hypot(u, v + 0.3)
        turn = np.arctan2(v, u)
        return np.asarray(self.fill * (0.65 + 0.35 * np.cos(6 * turn)) - np.hypot(u, v))


@dataclass(frozen=True)
class Clouds:
    """Noise of a power-law spectrum, smooth, thresholded, ridged, terraced, or one field per channel.

    Attributes:
        colours: Palette.
        alpha: Exponent of the amplitude spectrum.
        look: Mapping from noise to tones.
        angle: Angle of the grain, in radians.
        stretch: Ratio of length to breadth of the grain.
        coarsest: Largest size of structures in pixels; 0: the size of the picture.
        folds: Number of times the noise is displaced by other noise, which looks like smoke.
    """

    colours: Array
    alpha: float
    look: str
    angle: float
    stretch: float
    coarsest: float
    folds: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Clouds:
        """Draw a texture of noise."""
        return cls(
            colours=palette(rng),
            alpha=rng.uniform(0.5, 2.4),
            look=str(rng.choice(["smooth", "threshold", "ridge", "terraces", "channels"])),
            angle=rng.uniform(0, np.pi),
            stretch=float(rng.choice([1, 1, 2, 5, 12])),
            coarsest=float(rng.choice([0, 8, 20, 50])),
            folds=int(rng.choice([0, 0, 1, 2])),
        )

    def __call__(self, rng: np.random.Generator, size: int) -> Array:
        """Return one picture ``(size, size, 3)`` of the texture."""
        z = noise(
            rng, size, self.alpha, count=3, coarsest=self.coarsest, angle=self.angle, stretch=self.stretch
        )
        if self.look == "channels":
            spread = np.abs(self.colours[0] - self.colours[1]) + 0.08
            return np.asarray(self.colours.mean(0) + 0.4 * spread * z.transpose(1, 2, 0), np.float32)
        t = z[0]
        x, y = grid(size)
        for _ in range(self.folds):
            rows = (y + 14 * z[1]).astype(int) % size
            columns = (x + 14 * z[2]).astype(int) % size
            t = t[rows, columns]
        if self.look == "threshold":
            t = np.tanh(t * 8)
        elif self.look == "ridge":
            t = 1.5 - 3 * np.abs(t)
        elif self.look == "terraces":
            t = np.round(t * 1.5) / 1.5
        return ramp(self.colours, t * 0.25 + 0.5)


@dataclass(frozen=True)
class Fractal:
    """Self-similar pictures: quartered squares, Julia sets, folded planes.

    Attributes:
        colours: Palette.
        kind: Kind of fractal, ``blocks``, ``julia`` or ``folds``.
        constant: Constant c of the Julia set z² + c, as an angle on the edge of the main cardioid.
        scale: Pixels per unit.
        chance: Probability that a block is split again.
        joint: Width of the dark line between blocks, in pixels.
        turns: Angle of the folds, in radians.
    """

    colours: Array
    kind: str
    constant: float
    scale: float
    chance: float
    joint: int
    turns: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Fractal:
        """Draw a fractal."""
        return cls(
            colours=palette(rng),
            kind=str(rng.choice(["blocks", "julia", "folds"])),
            constant=rng.uniform(0, 2 * np.pi),
            scale=log_uniform(rng, 25, 90),
            chance=rng.uniform(0.5, 0.85),
            joint=int(rng.choice([0, 1, 2])),
            turns=rng.uniform(0, np.pi),
        )

    def __call__(self, rng: np.random.Generator, size: int) -> Array:
        """Return one picture ``(size, size, 3)`` of the texture."""
        if self.kind == "blocks":
            return self._blocks(rng, size)
        x, y = grid(size)
        turn = rng.uniform(0, 2 * np.pi)
        x, y = x - size * rng.uniform(0.3, 0.7), y - size * rng.uniform(0.3, 0.7)
        if self.kind == "julia":
            return self._julia((x + 1j * y) / self.scale * np.exp(1j * turn))
        # Kaleidoscopic folds: reflection, rotation, scaling.
        cos, sin = np.cos(self.turns), np.sin(self.turns)
        nearest = np.full(x.shape, np.inf, np.float32)
        x, y = x / self.scale, y / self.scale
        for k in range(6):
            x, y = np.abs(x) - 0.6, np.abs(y) - 0.35
            x, y = x * cos - y * sin, x * sin + y * cos
            nearest = np.minimum(nearest, np.hypot(x, y) * 1.25**k)
            x, y = x * 1.25, y * 1.25
        return ramp(self.colours, nearest * 1.1)

    def _julia(self, z: Array) -> Array:
        e = np.exp(1j * self.constant)
        c = 1.04 * (e / 2 - e * e / 4)
        smooth = np.zeros(z.shape, np.float32)
        for _ in range(28):
            inside = np.abs(z) < 4
            z = np.where(inside, z * z + c, z)
            smooth += np.exp(-np.abs(z))
        return ramp(self.colours, (smooth * 0.17) % 1.0)

    def _blocks(self, rng: np.random.Generator, size: int) -> Array:
        picture = np.empty((size, size, 3), np.float32)
        top = 2 ** int(np.ceil(np.log2(size)))
        stack = [(0, 0, top)]
        while stack:
            r, c, side = stack.pop()
            if r >= size or c >= size:
                continue
            if side > 4 and (side > 48 or rng.random() < self.chance):
                h = side // 2
                stack += [(r, c, h), (r + h, c, h), (r, c + h, h), (r + h, c + h, h)]
                continue
            picture[r : r + side, c : c + side] = self.colours[0] * 0.3
            tone = rng.random()
            picture[r : r + side - self.joint, c : c + side - self.joint] = ramp(
                self.colours, np.asarray(tone)
            )
        return picture
