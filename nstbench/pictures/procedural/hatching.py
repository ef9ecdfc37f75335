"""Pen and ink: a still life in cross-hatching on cream paper.

Every layer of hatching is a family of parallel planes that slices the forms, P · a = k s for whole k:
the lines bend round a vase or an apple as an engraver's do. Tone sets their weight and where they end.
"""

from __future__ import annotations

import numpy as np

from nstbench.pictures.procedural.field import Array, blur, grid, inks, noise, smoothstep

_LIGHT = np.array([-0.58, -0.62, 0.53])
_SPACING = 0.0120
# Of each layer: the planes' normal, their spacing, the tone at which lines begin and at which they are full.
_LAYERS = (
    (0.45, 0.85, 0.50, 1.00, 0.92, 0.25),
    (-0.80, 0.52, 0.55, 1.05, 0.66, 0.12),
    (0.98, 0.18, 0.25, 1.00, 0.44, 0.00),
    (0.05, 1.00, -0.10, 0.90, 0.24, -0.10),
)


class _Scene:
    """The position (x, y, z) of the surface, its tone and its object at every pixel."""

    def __init__(self, size: int, side: float) -> None:
        x, y = grid(size)
        self.x, self.y = (x if side > 0 else 1 - x), y
        self.z = np.zeros_like(x)
        self.tone = np.ones_like(x)
        self.part = np.zeros(x.shape, int)

    def put(self, mask: Array, z: Array, tone: Array) -> None:
        """Put an object in front of all others."""
        self.z[mask], self.tone[mask] = z[mask], tone[mask]
        self.part[mask] = self.part.max() + 1

    def shadow(self, cx: float, cy: float, rx: float, ry: float) -> None:
        """Add the shadow of an object on the table to its right."""
        u, v = (self.x - cx - 0.75 * rx) / (1.75 * rx), (self.y - cy - 0.10 * ry) / ry
        self.tone *= 1 - 0.72 * smoothstep(1.0, 0.55, np.hypot(u, v))


def _lit(nx: Array, ny: Array, nz: Array) -> Array:
    """Return the tone of a surface: light from the upper left, and a little thrown back from below."""
    facing = nx * _LIGHT[0] + ny * _LIGHT[1] + nz * _LIGHT[2]
    back = np.clip(nx * 0.6 + ny * 0.5, 0, 1) ** 2
    return np.asarray(0.06 + 0.98 * np.clip(facing, 0, 1) ** 0.9 + 0.22 * back * (1 - nz))


def _vessel(
    scene: _Scene, rng: np.random.Generator, cx: float, top: float, foot: float, radii: Array
) -> None:
    """Add a turned vessel; ``radii`` from lip to foot, evenly spaced."""
    from scipy.interpolate import PchipInterpolator

    x, y = scene.x, scene.y
    t = (y - top) / (foot - top)
    curve = PchipInterpolator(np.linspace(0, 1, len(radii)), radii)
    radius = curve(np.clip(t, 0, 1))
    steep = curve.derivative()(np.clip(t, 0, 1)) / (foot - top)
    u = (x - cx) / radius
    # Seen a little from above: the foot is the front half of an ellipse, the lip a whole one.
    sag = 0.20 * np.sqrt(np.clip(1 - u**2, 0, 1))
    inside = (np.abs(u) < 1) & (t > 0) & (y < foot + sag * radii[-1])
    nz = np.sqrt(np.clip(1 - u**2, 0, 1))
    norm = np.sqrt(1 + steep**2)
    tone = _lit(u / norm, -steep / norm, nz / norm)
    for _ in range(rng.integers(1, 3)):
        at, wide = rng.uniform(0.25, 0.8), rng.uniform(0.03, 0.07)
        band = np.abs(t - sag * 0.25 - at) < wide
        tone = np.where(band, tone * 0.42, tone)
    scene.shadow(cx, foot, radii.max() * 1.05, 0.05)
    scene.put(inside, radius * nz, tone)
    lip = np.hypot((x - cx) / radii[0], (y - top) / (0.22 * radii[0]))
    scene.put(lip < 1, 0 * x, 0.12 + 0.5 * smoothstep(-0.4, 0.8, (x - cx) / radii[0]))


def _fruit(scene: _Scene, rng: np.random.Generator, cx: float, foot: float, radius: float) -> None:
    """Add an apple with its stalk."""
    x, y = scene.x, scene.y
    squat = rng.uniform(0.88, 1.0)
    u, v = (x - cx) / radius, (y - foot + radius * squat) / (radius * squat)
    r2 = u**2 + v**2
    nz = np.sqrt(np.clip(1 - r2, 0, 1))
    tone = _lit(u, v, nz)
    hollow = np.exp(-(((u - 0.1) / 0.34) ** 2) - ((v + 0.72) / 0.16) ** 2)
    scene.shadow(cx, foot, radius, 0.34 * radius)
    scene.put(r2 < 1, radius * nz, tone * (1 - 0.75 * hollow))
    stalk = np.abs(u - 0.1 - 0.35 * (v + 0.72) ** 2) < 0.05
    scene.put(stalk & (v < -0.68) & (v > -1.25), 0 * x, 0 * x)


def _still_life(size: int, rng: np.random.Generator) -> _Scene:
    """Arrange vessels and apples on a table before a wall and a curtain."""
    scene = _Scene(size, rng.choice([-1.0, 1.0]))
    x, y = scene.x, scene.y
    table = rng.uniform(0.60, 0.66)
    vignette = 0.10 * noise(size, rng, 2.5, octaves=2)
    scene.tone = 0.80 - 0.52 * smoothstep(0.05, 1.1, x + 0.35 * (0.5 - y)) + vignette
    # The curtain hangs in folds and is drawn aside.
    hem = 0.30 + 0.16 * y**1.5 - 0.10 * np.cos(2.6 * y) + 0.02 * noise(size, rng, (3, 1))
    x_c = 1 - x if rng.random() < 0.5 else x
    hang = (x_c - 0.16 * y**2) * (1.0 + 0.5 * y) + 0.022 * noise(size, rng, (3, 5))
    fold = np.cos(hang * 58) + 0.45 * np.cos(hang * 97 + 1.3)
    scene.put(x_c < hem, 0.035 * fold, 0.47 + 0.30 * np.sin(hang * 58 + 0.5) + 0.16 * np.sin(hang * 97 + 1.8))
    ground = y > table
    far = (y - table) / (1 - table)
    scene.put(ground, 1.9 * (y - table), 0.98 - 0.30 * smoothstep(0.2, 1.15, x) - 0.16 * far + 0.4 * vignette)
    front = y > 0.945 + 0 * x
    tall = np.array([0.040, 0.034, 0.036, 0.095, 0.125, 0.105, 0.062, 0.070]) * rng.uniform(0.9, 1.1, 8)
    slim = np.array([0.030, 0.026, 0.027, 0.034, 0.082, 0.088, 0.086, 0.080]) * rng.uniform(0.95, 1.08, 8)
    bowl = np.array([0.175, 0.170, 0.150, 0.110, 0.060, 0.072])
    shift = rng.uniform(-0.04, 0.04)
    _vessel(scene, rng, 0.66 + shift, rng.uniform(0.20, 0.27), 0.735, slim)
    _vessel(scene, rng, 0.38 + shift, rng.uniform(0.13, 0.22), 0.790, tall * 1.15)
    for _ in range(3):
        _fruit(scene, rng, 0.74 + rng.uniform(-0.09, 0.09), 0.735, rng.uniform(0.06, 0.075))
    _vessel(scene, rng, 0.74, 0.70, 0.865, bowl)
    for cx, foot in ((0.17, 0.83), (0.30, 0.905), (0.49, 0.93)):
        _fruit(
            scene,
            rng,
            cx + rng.uniform(-0.03, 0.03),
            foot + rng.uniform(-0.01, 0.01),
            rng.uniform(0.062, 0.085),
        )
    scene.put(front, 0 * x, 0.30 + 0.25 * vignette)
    return scene


def paint(size: int, rng: np.random.Generator) -> Array:
    """Draw the still life with four layers of hatching, outlines, and ink that pools a little."""
    from scipy.ndimage import distance_transform_edt

    scene = _still_life(size, rng)
    edge = np.zeros((size, size), bool)
    edge[:-1] |= scene.part[:-1] != scene.part[1:]
    edge[:, :-1] |= scene.part[:, :-1] != scene.part[:, 1:]
    tone = np.clip(scene.tone, 0.0, 1.0)
    shake = noise(size, rng, 6) * 0.22 + noise(size, rng, 40) * 0.06
    gap = blur(np.asarray(distance_transform_edt(~edge), float), 0.7 / size) / size

    ink = np.zeros((size, size))
    px = 1 / size
    for ax, ay, az, spacing, begin, full in _LAYERS:
        s = _SPACING * spacing
        psi = (scene.x * ax + scene.y * ay + scene.z * az) / s + shake
        down, across = np.gradient(psi)
        rate = np.clip(np.hypot(down, across), 0.25 * px / s, 3.2 * px / s)
        line = np.floor(psi)
        away = np.abs(psi - line - 0.5) / rate * px
        # Each line has a pressure of its own and lifts from the paper at a place of its own.
        temper = rng.uniform(-0.06, 0.06, 4096)[line.astype(int) % 4096]
        t = smoothstep(begin, full, tone + temper + 0.035 * noise(size, rng, 30))
        crowd = np.clip(1.6 * px / s / rate, 0, 1)
        half = 0.5 * s * (0.10 + 0.43 * t) * crowd * smoothstep(0.0, 0.10, t)
        half *= 1 + 0.14 * noise(size, rng, 60)
        cover = np.clip(0.5 + (half - away) / px, 0, 1) * smoothstep(0.0, 0.06, t)
        ink = np.maximum(ink, cover * (0.90 + 0.07 * np.tanh(noise(size, rng, 12))))
    width = 0.0021 + 0.0016 * smoothstep(0.7, 0.1, blur(tone, 0.006)) + 0.0006 * noise(size, rng, 14)
    ink = np.maximum(ink, np.clip(0.5 + (width - gap) / px, 0, 1) * 0.95)

    fibre = noise(size, rng, (90, 160), octaves=2)
    age = noise(size, rng, 3, octaves=3)
    paper = (
        inks("f4e7c8")[0]
        * (1 + 0.012 * fibre + 0.018 * age)[..., None]
        * (1 - np.maximum(age - 1.2, 0)[..., None] * [0.01, 0.03, 0.07])
    )
    black = inks("231812")[0] + 0.05 * np.clip(fibre, -1, 1)[..., None] * [1.0, 0.7, 0.5]
    ink = np.clip(ink * (1 - 0.10 * np.clip(fibre, -1, 1)), 0, 1)[..., None]
    return np.asarray(paper * (1 - ink) + black * ink)
