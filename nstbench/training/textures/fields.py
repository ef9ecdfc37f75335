"""Smooth random fields, colours and the large structure of a texture.

All arrays are float32 of side ``size``; lengths are in pixels, so that the scale of a texture does not
depend on the size of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Array = NDArray[Any]
Structure = Literal["uniform", "crossed", "random", "flow", "vortices", "halos", "bands", "bursts"]
_STRUCTURES: dict[Structure, float] = {
    "uniform": 0.14,
    "crossed": 0.06,
    "random": 0.10,
    "flow": 0.18,
    "vortices": 0.20,
    "halos": 0.14,
    "bands": 0.12,
    "bursts": 0.06,
}


def pick(rng: np.random.Generator, choices: dict[Any, float]) -> Any:
    """Draw a key with a probability proportional to its value."""
    weights = np.array(list(choices.values()))
    return list(choices)[rng.choice(len(weights), p=weights / weights.sum())]


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniformly distributed."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


@cache
def grid(size: int) -> tuple[Array, Array]:
    """Return x and y of the pixel centres in pixels, each ``(size, size)``; y points down."""
    c = np.arange(size, dtype=np.float32) + 0.5
    return np.meshgrid(c, c)


@cache
def _frequencies(size: int) -> tuple[Array, Array]:
    return (
        fft.fftfreq(size).astype(np.float32)[:, None],
        fft.rfftfreq(size).astype(np.float32)[None],
    )


def noise(
    rng: np.random.Generator,
    size: int,
    alpha: float,
    *,
    count: int = 1,
    coarsest: float = 0.0,
    angle: float = 0.0,
    stretch: float = 1.0,
) -> Array:
    """Return Gaussian noise with amplitude f^-alpha, mean 0 and deviation 1: ``(count, size, size)``.

    Args:
        rng: Random generator.
        size: Side of the picture.
        alpha: Exponent: 0 is white noise, 1 pink; from about 2 on the field is smooth.
        count: Number of independent fields.
        coarsest: Largest size of structures in pixels; 0: the size of the picture.
        angle: Direction along which ``stretch`` lengthens the structure, in radians.
        stretch: Factor of this lengthening; 1 is isotropic.
    """
    fy, fx = _frequencies(size)
    u = (fx * np.cos(angle) + fy * np.sin(angle)) * stretch
    v = fy * np.cos(angle) - fx * np.sin(angle)
    f = np.sqrt(u * u + v * v)
    if coarsest:
        f = np.maximum(f, 1 / coarsest)
    f[0, 0] = np.inf
    shape = (count, *f.shape)
    spectrum = rng.standard_normal(shape, np.float32) + 1j * rng.standard_normal(shape, np.float32)
    field: Array = fft.irfft2(spectrum * f**-alpha, s=(size, size))
    field -= field.mean(axis=(1, 2), keepdims=True)
    field /= field.std(axis=(1, 2), keepdims=True) + 1e-6
    return field


def read(field: Array, x: Array, y: Array) -> Array:
    """Read a field at positions in pixels: at the nearest pixel, clamped at the border."""
    last = field.shape[0] - 1
    column = np.clip(x, 0, last).astype(np.intp)
    row = np.clip(y, 0, last).astype(np.intp)
    return np.asarray(field[row, column])


def palette(rng: np.random.Generator) -> Array:
    """Return 2 to 7 related colours ``(n, 3)``, drawn from a random ellipsoid of the RGB cube.

    They are not sorted: neighbours in the list are neighbours in a ramp, not in lightness.
    """
    n = int(rng.integers(2, 8))
    centre = rng.uniform(0.2, 0.8, 3)
    spread = rng.standard_normal((3, 3)) * rng.uniform(0.06, 0.28)
    lightness = rng.permutation(np.linspace(-1, 1, n)) * rng.uniform(0.1, 0.45)
    colours = centre + rng.standard_normal((n, 3)) @ spread + lightness[:, None]
    return np.clip(colours, 0.02, 0.98).astype(np.float32)


def ramp(colours: Array, t: Array) -> Array:
    """Interpolate colours evenly spaced along t in [0, 1]: ``(..., 3)``."""
    t = np.clip(t, 0, 1) * (len(colours) - 1)
    i = np.minimum(t.astype(np.intp), len(colours) - 2)
    f = (t - i)[..., None].astype(np.float32)
    return np.asarray(colours[i] * (1 - f) + colours[i + 1] * f)


@dataclass(frozen=True)
class Layout:
    """The large structure of one picture.

    Attributes:
        angle: Direction of marks in radians, ``(size, size)``.
        phase: Distance in pixels that increases across the marks: rings and bands are its level sets.
        tone: Position of the colour in the palette, in [0, 1], ``(size, size)``.
    """

    angle: Array
    phase: Array
    tone: Array


@dataclass(frozen=True)
class Composition:
    """Parameters of the large structure of a texture, which is drawn at random for every picture of it.

    Attributes:
        structure: Kind of the structure that the marks follow.
        angle: Angle of ``uniform`` and ``crossed``, in radians.
        spread: Deviation of the angle from mark to mark, in radians.
        smoothness: Exponent of the noise that bends ``flow`` and ``bands``.
        radius: Radius of vortices, halos and bursts, in pixels.
        twist: Angle between the marks and the circles around a centre; if not 0, spirals.
        arms: Number of arms of a spiral.
        width: Width of bands and rings, in pixels.
        tone: Source of the colours' positions in the palette: the structure, a smooth field, or a constant.
        contrast: Range of the palette that the structure covers.
    """

    structure: Structure
    angle: float
    spread: float
    smoothness: float
    radius: float
    twist: float
    arms: int
    width: float
    tone: Literal["structure", "field", "none"]
    contrast: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Composition:
        """Draw a composition."""
        return cls(
            structure=pick(rng, _STRUCTURES),
            angle=rng.uniform(0, np.pi),
            spread=float(rng.choice([0.03, 0.1, 0.25, 0.5])),
            smoothness=rng.uniform(2.0, 3.2),
            radius=log_uniform(rng, 10, 60),
            twist=float(rng.choice([0, 0, 0.15, 0.35, 0.7])) * float(rng.choice([-1, 1])),
            arms=int(rng.integers(1, 5)),
            width=log_uniform(rng, 5, 40),
            tone=pick(rng, {"structure": 0.65, "field": 0.25, "none": 0.1}),
            contrast=rng.uniform(0.4, 1.0),
        )

    def __call__(self, rng: np.random.Generator, size: int) -> Layout:
        """Return the layout of one picture."""
        angle, phase, shape = self._structure(rng, size)
        if self.tone == "structure":
            tone = 0.5 + self.contrast * (shape - 0.5) + 0.06 * noise(rng, size, 2.0)[0]
        elif self.tone == "field":
            tone = 0.5 + self.contrast * 0.28 * noise(rng, size, 2.2)[0]
        else:
            tone = np.full((size, size), 0.5, np.float32)
        return Layout(angle.astype(np.float32), phase.astype(np.float32), np.clip(tone, 0, 1))

    def _structure(self, rng: np.random.Generator, size: int) -> tuple[Array, Array, Array]:
        """Return the angle, the phase, and the tone of the structure in [0, 1]."""
        x, y = grid(size)
        if self.structure in ("vortices", "halos", "bursts"):
            return self._around_centres(rng, x, y)
        if self.structure == "bands":
            bend = noise(rng, size, self.smoothness, angle=self.angle, stretch=2.0)[0]
            across = y * np.cos(self.angle) - x * np.sin(self.angle)
            phase = across + bend * self.radius * 0.6 + rng.uniform(0, 4 * self.width)
            down, along = np.gradient(phase)
            return np.arctan2(-along, down), phase, _wave(phase, self.width)
        if self.structure == "flow":
            angle = noise(rng, size, self.smoothness)[0] * 1.3 + self.angle
        elif self.structure == "random":
            angle = rng.uniform(0, 2 * np.pi, (size, size))
        else:
            angle = self.angle + 0.3 * self.spread * noise(rng, size, 2.4)[0]
            if self.structure == "crossed":
                angle = angle + (rng.random((size, size)) < 0.5) * (np.pi / 2)
        across = y * np.cos(self.angle) - x * np.sin(self.angle)
        phase = across + 0.4 * self.radius * noise(rng, size, self.smoothness)[0]
        return angle, phase, 0.5 + 0.28 * noise(rng, size, 2.2)[0]

    def _around_centres(self, rng: np.random.Generator, x: Array, y: Array) -> tuple[Array, Array, Array]:
        size = x.shape[0]
        count = max(1, int(rng.poisson(0.35 * (size / (2 * self.radius)) ** 2)))
        count = min(count, 24)
        cx, cy = rng.uniform(0, size, (2, count))
        reach = self.radius * np.exp(0.35 * rng.standard_normal(count))
        dx, dy = x[..., None] - cx, y[..., None] - cy
        distance = np.sqrt(dx * dx + dy * dy) + 1e-3
        nearest = (distance / reach).argmin(axis=-1)[..., None]
        r = np.take_along_axis(distance, nearest, -1)[..., 0]
        around = np.arctan2(np.take_along_axis(dy, nearest, -1), np.take_along_axis(dx, nearest, -1))[..., 0]
        turn = np.where(rng.random(count) < 0.5, -1.0, 1.0)[nearest[..., 0]]
        inside = np.exp(-((r / reach[nearest[..., 0]]) ** 4) * 0.4)
        # Far from every centre the marks follow a smooth flow.
        flow = noise(rng, size, self.smoothness)[0] * 0.5 + self.angle
        if self.structure == "bursts":
            tangent = around
            phase, shape = around * (self.radius / 2), 1 - np.clip(r / (2 * self.radius), 0, 1)
        elif self.structure == "vortices":
            tangent = around + turn * (np.pi / 2 + self.twist)
            # Level sets of a logarithmic spiral: r·e^(-twist·around), with `arms` of them.
            spiral = self.arms * around * self.width / np.pi if self.twist else 0.0
            phase = r + turn * spiral
            shape = _wave(phase, self.width) * inside + 0.35 * (1 - inside)
        else:
            tangent = around + np.pi / 2
            phase = r
            core = np.exp(-((r / (0.45 * reach[nearest[..., 0]])) ** 2))
            shape = np.maximum(core, 0.5 * _wave(phase, self.width) * inside)
        blended = np.angle(inside * np.exp(2j * tangent) + (1 - inside) * np.exp(2j * flow)) / 2
        return blended, phase, shape


def _wave(phase: Array, width: float) -> Array:
    """Return a wave in [0, 1] with one period per two widths."""
    return np.asarray(0.5 + 0.5 * np.cos(phase * (np.pi / width)))
