"""Dots of pure colour in the manner of Seurat: a river bank on a sunny afternoon."""

from __future__ import annotations

import numpy as np

from nstbench.pictures.procedural.field import (
    Array,
    at,
    grid,
    inks,
    noise,
    reduce,
    relief,
    scatter,
    smoothstep,
    vary,
)

_MAP = 320
# For each zone the pure colours of its light and of its shade; the last of each is the complementary accent.
_ZONES = {
    "sky": (("fff6d8", "fdeac0", "d8ecfa", "f9d6c4"), ("7db6ea", "97cdf2", "b0a4ea", "fbc58e")),
    "river": (("e6f5ff", "fff4c4", "a9daf5", "ffd09a"), ("2a6cc8", "3f92dc", "5c62cc", "f59a48")),
    "bank": (("fbe584", "c2de62", "f8bd70", "e58ab0"), ("4aa45c", "3a74b8", "8060bc", "e87a3c")),
    "grass": (("fff276", "dcea4c", "aede3c", "ff9a3c"), ("62c24c", "2fa460", "f2d040", "7a5cc8")),
    "shadow": (("54b850", "2f9a72", "86cc4c", "e26a9a"), ("1c5a98", "2a3a98", "1f7a5a", "e8622c")),
    "tree": (("9ad23e", "44aa44", "f6ca48", "f08a3c"), ("12684e", "14488a", "40308c", "d84a2e")),
    "trunk": (("f0a050", "d86a34", "f6c070", "5a8ac8"), ("5a2a5c", "30307a", "8a3a2c", "2f7a9a")),
    "sail": (("ffffff", "fff2d6", "ffe0c8", "ffd28a"), ("b4c8f4", "f2bc94", "cbb6ee", "f6a27a")),
    "dress": (("f2583a", "fa8a4a", "f7b0a0", "ffd24a"), ("a81f48", "6a2a8c", "d0302c", "2a6ab0")),
    "coat": (("4a6ac8", "6a5ac0", "8aa4e0", "f09a4a"), ("1c2464", "34206a", "1a3a7a", "d0562c")),
    "skin": (("ffdcb8", "fbc49a", "f8e6c4", "f09a70"), ("e08a5c", "c86a58", "a87ac0", "5aa0a8")),
}
_NAMES = list(_ZONES)


class _Scene:
    """Zone and light ``(n, n)`` of every place."""

    def __init__(self, side: float) -> None:
        x, y = grid(_MAP)
        self.x, self.y = (x if side > 0 else 1 - x), y
        self.zone = np.zeros((_MAP, _MAP), int)
        self.light = np.zeros((_MAP, _MAP))

    def put(self, name: str, mask: Array, light: Array | float) -> None:
        """Give a zone to a mask, with its light in [0, 1]."""
        self.zone[mask] = _NAMES.index(name)
        self.light[mask] = np.broadcast_to(light, mask.shape)[mask]

    def disc(self, name: str, cx: float, cy: float, rx: float, ry: float) -> None:
        """Put an oval lit from the left."""
        u, v = (self.x - cx) / rx, (self.y - cy) / ry
        self.put(name, np.hypot(u, v) < 1, 0.55 - 0.45 * u)


def _boat(scene: _Scene, cx: float, foot: float, tall: float) -> None:
    """Add a sailing boat and its reflection."""
    x, y = scene.x, scene.y
    up = (foot - y) / tall
    for lean, name in ((0.34, "sail"), (-0.22, "sail")):
        u = (x - cx) / (tall * lean)
        scene.put(name, (up > 0.10) & (up < 1) & (u > 0.04) & (u < 1.02 * (1 - up) + 0.04), 0.9 - 0.5 * u)
    hull = (np.abs(x - cx) < 0.42 * tall * (1 + 0.4 * up)) & (up > 0) & (up < 0.10)
    scene.put("coat", hull, 0.4)
    mirrored = (y > foot) & (y < foot + 0.55 * tall) & (np.abs(x - cx - 0.05 * tall) < 0.20 * tall)
    scene.light[mirrored & (scene.zone == _NAMES.index("river"))] += 0.45


def _lady(scene: _Scene, cx: float, foot: float, tall: float, dress: str) -> None:
    """Add a lady with a bustle and a parasol."""
    x, y = scene.x, scene.y
    up, u = (foot - y) / tall, (x - cx) / tall
    shade = (np.abs(y - foot) < 0.035 * tall + 0.01) & (u > -0.15) & (u < 0.9)
    scene.put("shadow", shade, 0.35)
    flare = 0.075 + 0.17 * (1 - np.clip(up / 0.55, 0, 1)) ** 0.8
    scene.put(dress, (up > 0) & (up < 0.58) & (np.abs(u + 0.02) < flare), 0.55 - 2.2 * u)
    scene.disc(dress, cx + 0.13 * tall, foot - 0.47 * tall, 0.12 * tall, 0.10 * tall)
    scene.put(dress, (up > 0.5) & (up < 0.80) & (np.abs(u) < 0.062 + 0.10 * np.abs(up - 0.58)), 0.6 - 3 * u)
    scene.disc("skin", cx - 0.01 * tall, foot - 0.87 * tall, 0.052 * tall, 0.065 * tall)
    scene.disc("coat", cx, foot - 0.935 * tall, 0.075 * tall, 0.035 * tall)
    dome = ((x - cx + 0.10 * tall) / (0.32 * tall)) ** 2 + ((up - 1.02) / 0.24) ** 2
    ribs = 0.35 * np.sin((x - cx + 0.10 * tall) / tall * 40)
    scene.put("dress" if dress != "dress" else "sail", (dome < 1) & (up > 1.02), 0.5 - 1.4 * u + ribs)
    scene.put("trunk", (np.abs(u + 0.10 * (up - 0.6) / 0.42) < 0.008) & (up > 0.6) & (up < 1.04), 0.3)


def _afternoon(rng: np.random.Generator) -> _Scene:
    """Compose sky, river and sails, a meadow with long shadows, trees and promenaders."""
    scene = _Scene(rng.choice([-1.0, 1.0]))
    x, y = scene.x, scene.y
    soft = noise(_MAP, rng, 3, octaves=2)
    clouds = smoothstep(-0.2, 1.6, noise(_MAP, rng, (11, 4), octaves=3))
    scene.put("sky", np.ones_like(x, bool), 0.12 + 1.6 * y + 0.42 * clouds)
    far, near = 0.34 + 0.012 * noise(_MAP, rng, (1, 6))[:1], rng.uniform(0.52, 0.56)
    shore = near + 0.13 * (0.5 - x) + 0.02 * np.sin(9 * x)
    scene.put("river", y > far, 0.42 + 0.4 * noise(_MAP, rng, (60, 7)) - 0.8 * (y - 0.4))
    scene.put(
        "bank", (y > far - 0.045 - 0.02 * noise(_MAP, rng, (1, 9))[:1]) & (y < far + 0.012), 0.5 + 0.3 * soft
    )
    for cx in np.sort(rng.uniform(0.32, 0.95, 3)):
        _boat(scene, cx, rng.uniform(0.39, 0.47), rng.uniform(0.09, 0.17))
    scene.put("grass", y > shore, 0.62 + 0.26 * soft + 0.1 * noise(_MAP, rng, 20))
    band = (y - 0.20 * x - 0.035 * noise(_MAP, rng, (5, 9), octaves=2)) % 0.26
    scene.put("shadow", (y > shore + 0.05) & (band < 0.085), 0.45 + 0.25 * soft)
    scene.put("shadow", y > 0.90 + 0.05 * x + 0.02 * soft, 0.30 + 0.2 * soft)
    # A tree at the side whose crown fills the corner, and one further off.
    for tx, foot, tall, wide in ((0.86, 0.60, 0.40, 0.12), (0.10, 0.93, 0.80, 0.33)):
        stem = 0.017 + 0.02 * np.clip((y - foot + 0.15) / 0.15, 0, 1) ** 2
        scene.put(
            "trunk",
            (np.abs(x - tx - 0.02 * np.sin(8 * y)) < stem * wide / 0.2) & (y > foot - tall) & (y < foot),
            0.6 - 12 * (x - tx),
        )
        lumps = 0.20 * noise(_MAP, rng, 9, octaves=2)
        u, v = (x - tx) / wide, (y - foot + tall * 0.80) / (0.42 * tall)
        clump = noise(_MAP, rng, 15)
        scene.put("tree", np.hypot(u, v) < 1 + lumps, 0.46 + 0.24 * clump - 0.20 * u - 0.22 * v)
    places = sorted(
        zip(rng.uniform(0.62, 0.90, 4), (0.30, 0.48, 0.66, 0.86), strict=True), key=lambda p: p[0]
    )
    for foot, cx in places:
        dress = str(rng.choice(["dress", "coat", "sail"]))
        _lady(scene, cx + rng.uniform(-0.05, 0.05), foot, 0.07 + 0.62 * (foot - 0.52), dress)
    return scene


def paint(size: int, rng: np.random.Generator) -> Array:
    """Lay three sizes of dots; each takes one pure colour of its zone, by the light there."""
    from PIL import Image, ImageDraw

    scene = _afternoon(rng)
    light, dark = (np.array([inks(*_ZONES[n][k]) for n in _NAMES]) for k in (0, 1))
    scale = 3 if size <= 1024 else 2
    n = size * scale
    ground = tuple((inks("efe2c2")[0] * 255).astype(int))
    image = Image.new("RGBA", (n, n), (*ground, 60))
    draw = ImageDraw.Draw(image)
    around = np.arange(8) * (np.pi / 4)
    for spacing, radius, accent, light_jitter in (
        (0.0135, 0.0105, 0.06, 0.02),
        (0.0105, 0.0068, 0.10, 0.03),
        (0.0105, 0.0048, 0.16, 0.04),
    ):
        xy = scatter(rng, spacing, 0.6)
        m = len(xy)
        seen = xy + rng.normal(0, 0.002, xy.shape)
        zone, bright = at(scene.zone, *seen.T), at(scene.light, *seen.T)
        lit = rng.random(m) < smoothstep(0.05, 0.95, bright + rng.normal(0, 0.12, m))
        shade = np.where(rng.random(m) < accent, 3, rng.integers(0, 3, m))
        pigment = vary(np.where(lit[:, None], light[zone, shade], dark[zone, shade]), rng, light_jitter, 0.06)
        # Dabs, not discs: an uneven oval for each.
        turn, long = rng.uniform(0, np.pi, m), rng.uniform(1.0, 1.4, m)
        r = radius * rng.uniform(0.75, 1.2, m)[:, None] * (1 + rng.normal(0, 0.10, (m, 8)))
        u, v = r * np.cos(around) * long[:, None], r * np.sin(around) / long[:, None]
        px = (xy[:, :1] + u * np.cos(turn)[:, None] - v * np.sin(turn)[:, None]) * n
        py = (xy[:, 1:] + u * np.sin(turn)[:, None] + v * np.cos(turn)[:, None]) * n
        points = np.stack([px, py], axis=2).reshape(m, 16).tolist()
        fills = np.column_stack([pigment * 255, rng.integers(110, 250, m)]).round().astype(int).tolist()
        for corners, fill in zip(points, fills, strict=True):
            draw.polygon(corners, fill=tuple(fill))
    full = reduce(np.asarray(image, np.float32) / 255, scale)
    weave = noise(size, rng, 170)
    return relief(full[..., :3].astype(float), 1.3 * full[..., 3] + 0.03 * weave, 0.9, 0.03)
