"""Textures of overlapping marks: brush strokes, thin curves, leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from nstbench.training.textures.fields import (
    Array,
    Composition,
    Layout,
    grid,
    log_uniform,
    noise,
    palette,
    pick,
    ramp,
    read,
)

_FINER = 2  # marks are drawn larger by this factor and averaged, for smooth edges
_STEPS = 7  # segments of a stroke

Shading = Literal["flat", "bristles", "gradient", "grain"]


@dataclass(frozen=True)
class Ink:
    """The colours of marks.

    Attributes:
        colours: Palette ``(n, 3)``.
        mixing: Whether colours are interpolated between two of the palette.
        jitter: Deviation of a mark's tone, and of its lightness.
        shading: Shading within a mark.
        depth: Contrast of the shading.
        outline: Whether marks have a dark edge.
    """

    colours: Array
    mixing: bool
    jitter: float
    shading: Shading
    depth: float
    outline: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Ink:
        """Draw an ink."""
        return cls(
            colours=palette(rng),
            mixing=bool(rng.random() < 0.6),
            jitter=float(rng.choice([0.05, 0.15, 0.4])),
            shading=pick(rng, {"flat": 0.35, "bristles": 0.35, "gradient": 0.2, "grain": 0.1}),
            depth=rng.uniform(0.06, 0.25),
            outline=bool(rng.random() < 0.2),
        )

    def of_marks(self, rng: np.random.Generator, tone: Array) -> Array:
        """Return one colour ``(n, 3)`` for each tone in [0, 1]."""
        t = tone + self.jitter * rng.standard_normal(tone.shape)
        if not self.mixing:
            last = len(self.colours) - 1
            t = np.rint(np.clip(t, 0, 1) * last) / last
        colours = ramp(self.colours, t)
        lightness = 0.3 * self.jitter * rng.standard_normal(tone.shape)
        return np.asarray(colours + lightness[:, None].astype(np.float32))

    def dark(self) -> Array:
        """Return the colour of outlines."""
        return np.asarray(self.colours[0] * 0.2)


@dataclass
class _Sheet:
    """An image of numbered marks; 0 is the background, which includes outlines."""

    size: int

    def __post_init__(self) -> None:
        self.image = Image.new("I", (self.size * _FINER, self.size * _FINER), 0)
        self.pen = ImageDraw.Draw(self.image)

    def numbers(self) -> Array:
        """Return the number of the topmost mark at each pixel of the finer grid."""
        return np.asarray(self.image, np.intp)


def _coloured(
    rng: np.random.Generator,
    ink: Ink,
    layout: Layout,
    numbers: Array,
    colours: Array,
    centres: Array,
    reach: Array | float,
    thickness: float,
) -> Array:
    """Return the picture ``(size, size, 3)`` of numbered marks."""
    size = layout.tone.shape[0]
    ground = ramp(ink.colours, 0.5 + 0.2 * noise(rng, size, 2.2)[0]) * 0.9
    if ink.outline:
        ground = np.broadcast_to(ink.dark(), ground.shape)
    bare = numbers == 0
    picture = np.concatenate([np.zeros((1, 3), np.float32), colours.astype(np.float32)])[numbers]
    if ink.shading != "flat":
        shade = _shade(rng, ink, layout, numbers, centres, reach, thickness)
        picture += (ink.depth * shade)[..., None]
    picture[bare] = ground.repeat(_FINER, 0).repeat(_FINER, 1)[bare]
    return np.asarray(picture.reshape(size, _FINER, size, _FINER, 3).mean(axis=(1, 3)))


def _shade(
    rng: np.random.Generator,
    ink: Ink,
    layout: Layout,
    numbers: Array,
    centres: Array,
    reach: Array | float,
    thickness: float,
) -> Array:
    size = layout.tone.shape[0]
    if ink.shading == "grain":
        return np.asarray(noise(rng, size, 1.0)[0].repeat(_FINER, 0).repeat(_FINER, 1))
    x, y = grid(size * _FINER)
    centre = np.concatenate([np.zeros((1, 2)), centres]).astype(np.float32)[numbers]
    dx, dy = x / _FINER - centre[..., 0], y / _FINER - centre[..., 1]
    angle = layout.angle.repeat(_FINER, 0).repeat(_FINER, 1)
    if ink.shading == "gradient":
        along = dx * np.cos(angle) + dy * np.sin(angle)
        far = np.concatenate([[1.0], np.broadcast_to(reach, len(centres))]).astype(np.float32)[numbers]
        return np.clip(along / far, -1, 1)
    # Streaks along the stroke, as from the hairs of a brush, a few across its width.
    across = dy * np.cos(angle) - dx * np.sin(angle)
    return np.sin(across * (2 * np.pi / max(2.5, thickness / 3)) + numbers * 2.4)


@dataclass(frozen=True)
class Strokes:
    """Brush strokes that follow the composition, in passes from broad to fine.

    Attributes:
        composition: Large structure.
        ink: Colours.
        length: Length of a stroke of the first pass, in pixels.
        width: Width of a stroke of the first pass, in pixels.
        passes: Number of passes, each with strokes of half the width of the previous one.
        cover: Area of the first pass's strokes, as a multiple of the picture's area.
        curl: Curvature of strokes in addition to that of the composition.
    """

    composition: Composition
    ink: Ink
    length: float
    width: float
    passes: int
    cover: float
    curl: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Strokes:
        """Draw a texture of strokes, or of thin curves that leave the background visible."""
        thin = rng.random() < 0.25
        width = log_uniform(rng, 1.0, 4.0) if thin else log_uniform(rng, 2.0, 16.0)
        return cls(
            composition=Composition.draw(rng),
            ink=Ink.draw(rng),
            length=max(log_uniform(rng, 10, 110), 2.5 * width),
            width=width,
            passes=1 if thin else int(rng.choice([1, 1, 2, 3])),
            cover=rng.uniform(0.15, 0.5) if thin else rng.uniform(1.2, 2.6),
            curl=float(rng.choice([0, 0, 0, 0.04])),
        )

    def __call__(self, rng: np.random.Generator, size: int) -> Array:
        """Return one picture ``(size, size, 3)`` of the texture."""
        layout = self.composition(rng, size)
        sheet = _Sheet(size)
        colours: list[Array] = []
        centres: list[Array] = []
        first = 1
        for k in range(self.passes):
            width, length = self.width / 2**k, self.length / 1.5**k
            cover = self.cover if k == 0 else 0.35 * self.cover
            count = int(np.clip(cover * size * size / (width * length), 8, 900))
            start = rng.uniform(-0.05 * size, 1.05 * size, (count, 2)).astype(np.float32)
            path = self._paths(rng, layout, start, length)
            middle = path[:, _STEPS // 2]
            colours.append(self.ink.of_marks(rng, read(layout.tone, middle[:, 0], middle[:, 1])))
            centres.append(middle)
            widths = np.maximum(1, width * _FINER * np.exp(0.2 * rng.standard_normal(count))).astype(int)
            points = (path * _FINER).reshape(count, -1).tolist()
            for i, (line, w) in enumerate(zip(points, widths.tolist(), strict=True)):
                if self.ink.outline:
                    sheet.pen.line(line, fill=0, width=w + 3)
                sheet.pen.line(line, fill=first + i, width=w, joint="curve" if w > 4 else None)
            first += count
        return _coloured(
            rng,
            self.ink,
            layout,
            sheet.numbers(),
            np.concatenate(colours),
            np.concatenate(centres),
            self.length / 2,
            self.width,
        )

    def _paths(self, rng: np.random.Generator, layout: Layout, start: Array, length: float) -> Array:
        """Return ``(count, _STEPS + 1, 2)`` points along the directions of the layout."""
        step = length / _STEPS
        count = len(start)
        wobble = self.composition.spread * rng.standard_normal(count)
        bend = self.curl * step * rng.standard_normal(count)
        fixed = self.composition.structure in ("crossed", "random")
        x, y = start[:, 0], start[:, 1]
        heading = read(layout.angle, x, y)
        points = [np.stack([x, y], -1)]
        for k in range(_STEPS):
            if not fixed:
                turned = read(layout.angle, x, y)
                # Directions have no sign: continue in the one that does not turn back.
                back = np.cos(turned - heading) < 0
                heading = np.where(back, turned + np.pi, turned)
            angle = heading + wobble + bend * k
            x = x + step * np.cos(angle)
            y = y + step * np.sin(angle)
            points.append(np.stack([x, y], -1))
        path = np.stack(points, 1)
        # Shifted so that the stroke's middle is at its start point: simpler than drawing two halves.
        return np.asarray(path - (path[:, _STEPS // 2] - path[:, 0])[:, None])


_CORNERS = {"ellipse": 14, "star": 10, "blob": 12, "rectangle": 4, "triangle": 3, "petal": 12, "crescent": 14}


@dataclass(frozen=True)
class Leaves:
    """Opaque shapes whose sizes follow a power law, the dead leaves model of natural pictures.

    Attributes:
        composition: Large structure, which sets angles and tones of the shapes.
        ink: Colours.
        shape: Kind of shape, ``polygon`` or a key of `_CORNERS`.
        smallest: Smallest radius in pixels.
        largest: Largest radius in pixels.
        power: Exponent of the density of radii; near 3 pictures are similar at every scale.
        aspect: Ratio of breadth to length.
        corners: Number of corners of a polygon.

    Source: Lee, Mumford & Huang, "Occlusion Models for Natural Images", IJCV 41 (2001).
    """

    composition: Composition
    ink: Ink
    shape: str
    smallest: float
    largest: float
    power: float
    aspect: float
    corners: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Leaves:
        """Draw a texture of leaves."""
        smallest = log_uniform(rng, 2.0, 12)
        return cls(
            composition=Composition.draw(rng),
            ink=Ink.draw(rng),
            shape=str(rng.choice([*_CORNERS, "polygon"])),
            smallest=smallest,
            largest=min(smallest * rng.uniform(1.1, 9), 60),
            power=rng.uniform(1.6, 3.2),
            aspect=float(rng.choice([1, 1, 0.6, 0.35])),
            corners=int(rng.integers(5, 9)),
        )

    def __call__(self, rng: np.random.Generator, size: int) -> Array:
        """Return one picture ``(size, size, 3)`` of the texture."""
        layout = self.composition(rng, size)
        area = 3 * self.aspect * self.smallest * self.largest + 16
        count = int(np.clip(3.0 * size * size / area, 30, 800))
        e = 1 - self.power
        u = rng.random(count)
        radius = (self.smallest**e + u * (self.largest**e - self.smallest**e)) ** (1 / e)
        centre = rng.uniform(-0.05 * size, 1.05 * size, (count, 2)).astype(np.float32)
        angle = read(layout.angle, centre[:, 0], centre[:, 1])
        angle = angle + self.composition.spread * rng.standard_normal(count)
        points = self._outline(rng, count) * radius[:, None, None]
        points[..., 1] *= self.aspect
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        px = points[..., 0] * cos - points[..., 1] * sin + centre[:, :1]
        py = points[..., 0] * sin + points[..., 1] * cos + centre[:, 1:]
        polygons = (np.stack([px, py], -1) * _FINER).reshape(count, -1).tolist()
        sheet = _Sheet(size)
        for i, polygon in enumerate(polygons):
            sheet.pen.polygon(polygon, fill=i + 1)
            if self.ink.outline:
                sheet.pen.line([*polygon, *polygon[:2]], fill=0, width=3)
        colours = self.ink.of_marks(rng, read(layout.tone, centre[:, 0], centre[:, 1]))
        return _coloured(
            rng, self.ink, layout, sheet.numbers(), colours, centre, radius, float(np.median(radius))
        )

    def _outline(self, rng: np.random.Generator, count: int) -> Array:
        """Return unit outlines ``(count, corners, 2)``."""
        n = self.corners if self.shape == "polygon" else _CORNERS[self.shape]
        t = np.linspace(0, 2 * np.pi, n, endpoint=False) + (np.pi / 4 if self.shape == "rectangle" else 0)
        r = np.ones((count, n))
        if self.shape == "star":
            r[:, 1::2] = 0.45
        elif self.shape in ("blob", "polygon"):
            r *= np.exp((0.25 if self.shape == "blob" else 0.1) * rng.standard_normal((count, n)))
        x, y = r * np.cos(t), r * np.sin(t)
        if self.shape == "petal":
            y = y * np.sin(t / 2) * 0.9
        elif self.shape == "crescent":
            x = np.where(np.cos(t) < 0, -0.35 * x, x) - 0.4
        return np.stack([x, y], -1)
