"""A Roman floor mosaic: tesserae laid in courses along the outlines of the figures."""

from __future__ import annotations

import numpy as np

from nstbench.pictures.procedural.field import Array, grid, inks, noise, relief, smoothstep, vary

_MAP = 400
_TILE = 1 / 68
_STONES = np.concatenate(
    [
        inks("efe3c6", "e2cfa4", "c2452a", "e08e34", "1d2733", "154e80"),
        inks("1c8799", "7db8b0", "e8b64c", "6b7f3a", "8c2f26", "f6efdc"),
    ]
)
_CREAM, _SAND, _BRICK, _OCHRE, _BLACK, _DEEP, _SEA, _FOAM, _GOLD, _OLIVE, _OX, _WHITE = range(12)


class _Floor:
    """Stone ``(n, n)`` wanted at each place and part ``(n, n)``: courses follow the borders of the parts."""

    def __init__(self) -> None:
        self.stone = np.full((_MAP, _MAP), _CREAM)
        self.part = np.zeros((_MAP, _MAP), int)

    def add(self, mask: Array, stone: Array | int, *, figure: bool = True) -> None:
        """Set the stone within a mask; a figure has courses of its own, a change of colour alone has not."""
        self.stone[mask] = stone[mask] if isinstance(stone, np.ndarray) else stone
        if figure:
            self.part[mask] = self.part.max() + 1

    def outline(self, mask: Array, stone: int) -> None:
        """Set the stone of the first course around a mask."""
        from scipy.ndimage import distance_transform_edt

        self.stone[(distance_transform_edt(~mask) < _TILE * _MAP) & ~mask] = stone


def _fish(floor: _Floor, rng: np.random.Generator, cx: float, cy: float, length: float, turn: float) -> None:
    """Add a fish: dark outline, striped body, fins, tail and eye."""
    x, y = grid(_MAP)
    flip = -1.0 if np.cos(turn) < 0 else 1.0
    u = ((x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)) / length
    v = flip * ((y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)) / length
    v = v + rng.uniform(0.08, 0.26) * rng.choice([-1, 1]) * (u**2 - 0.1)
    half = 0.24 * np.sqrt(np.clip(1 - ((u - 0.06) / 0.46) ** 2, 0, 1)) * (1 - 0.7 * np.maximum(0.06 - u, 0))
    body = np.abs(v) < half
    wedge = 0.04 + 0.62 * (-0.31 - u)
    tail = (u < -0.31) & (u > -0.60) & (np.abs(v) < wedge) & (np.abs(v) > 1.3 * (-0.46 - u))
    fins = (np.abs(u - 0.03 + 0.5 * np.abs(v)) < 0.20 - 0.40 * (np.abs(v) - 0.2)) & (np.abs(v) < 0.36) & ~body
    rim = _TILE / length
    back, belly, fin = rng.choice(
        [(_BRICK, _OCHRE, _GOLD), (_BLACK, _FOAM, _BRICK), (_OX, _GOLD, _OCHRE), (_OLIVE, _GOLD, _OX)]
    )
    floor.outline(fins | tail | body, _BLACK)
    floor.add(fins | tail, fin)
    scales = (np.sin(u * 60) * np.sin(v * 60 + 0.5) > 0.35) & (np.abs(v) < 0.55 * half)
    bands = np.select([v < -0.40 * half, v < 0.05 * half, v < 0.5 * half], [back, belly, _WHITE], _CREAM)
    floor.add(body, np.where(scales & (v > -0.4 * half), _OCHRE if belly == _GOLD else _FOAM, bands))
    floor.add(body & (np.abs(u - 0.24 - 0.25 * v**2) < rim * 0.5), _BLACK, figure=False)
    eye = np.hypot(u - 0.37, v + 0.07)
    floor.add((eye < 1.7 * rim) & body, _WHITE, figure=False)
    floor.add(eye < 0.8 * rim, _BLACK, figure=False)


def _plan(rng: np.random.Generator) -> _Floor:
    """Plan a roundel of sea and fish in a square frame, with leaves in the corners."""
    floor = _Floor()
    x, y = grid(_MAP)
    t = _TILE
    dx, dy = x - 0.5, y - 0.5
    r, turn = np.hypot(dx, dy), np.arctan2(dy, dx)

    # The frame: a running wave between plain courses.
    edge = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    outer, inner = rng.choice([(_OX, _OCHRE), (_DEEP, _GOLD), (_OLIVE, _SAND), (_BRICK, _FOAM)])
    along = np.where(np.abs(dx) > np.abs(dy), y, x) - 0.5
    wave = edge / t - 3.5 - 1.2 * np.sin(along * 2 * np.pi * 9)
    floor.add(edge > 6 * t, _CREAM)
    floor.add(
        edge < 6 * t, np.where(np.abs(wave) < 0.5, _WHITE, np.where(wave > 0, inner, outer)), figure=False
    )
    floor.add((edge < 1 * t) | ((edge > 6 * t) & (edge < 7 * t)), _BLACK, figure=False)
    # Leaves in the corners.
    for sx in (-1, 1):
        for sy in (-1, 1):
            u, v = (sx * dx + sy * dy) / np.sqrt(2) - 0.49, np.abs(sx * dx - sy * dy) / np.sqrt(2)
            lobe = 0.055 + 0.024 * np.cos(6 * np.arctan2(v, u))
            floor.add(np.hypot(u, v) < lobe, _OLIVE)
            floor.add(np.hypot(u, v) < 1.3 * t, _GOLD, figure=False)
    # The roundel: a ring of teeth, then the sea.
    radius = 0.5 - 7 * t
    teeth = np.abs((turn / np.pi * 17) % 1 - 0.5) * 2 < (radius - r) / (3 * t) - 0.25
    floor.add(r < radius, np.where(teeth, _DEEP, _WHITE))
    floor.add((r < radius) & (r > radius - t), _BLACK, figure=False)
    sea = r < radius - 4 * t
    depth = y + 0.018 * np.sin(x * 34 + rng.uniform(0, 6)) + 0.02 * noise(_MAP, rng, 3)
    water = np.select([depth < 0.36, depth < 0.62], [_FOAM, _SEA], _DEEP)
    swell = np.abs((depth * 9) % 1 - 0.5) < 0.075
    floor.add(
        sea, np.where(swell, np.where(depth < 0.36, _WHITE, np.where(depth < 0.62, _FOAM, _SEA)), water)
    )
    tilt = rng.uniform(-0.3, 0.3)
    for cx, cy, length in ((0.52, 0.32, 0.40), (0.40, 0.53, 0.32), (0.60, 0.69, 0.36)):
        heading = tilt + rng.uniform(-0.3, 0.3) + (np.pi if rng.random() < 0.5 else 0.0)
        _fish(floor, rng, cx + rng.uniform(-0.03, 0.03), cy, length * rng.uniform(0.92, 1.08), heading)
    return floor


def _courses(part: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return the middles ``(N, 2)`` and directions ``(N,)`` of tiles set in rows along all outlines."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter, maximum_filter
    from scipy.spatial import cKDTree
    from skimage.measure import find_contours

    edge = np.zeros(part.shape, bool)
    edge[:-1] |= part[:-1] != part[1:]
    edge[:, :-1] |= part[:, :-1] != part[:, 1:]
    away = gaussian_filter(distance_transform_edt(~edge), 0.8) / _MAP
    xy, turn = [], []
    for level in np.arange(_TILE / 2, away.max(), _TILE):
        for line in find_contours(away, level):  # type: ignore[no-untyped-call]
            p = line[:, ::-1] / _MAP
            step = np.hypot(*np.diff(p, axis=0).T)
            s = np.concatenate([[0], np.cumsum(step)])
            n = int(s[-1] / (_TILE * 1.02))
            if n < 2:
                continue
            places = (np.arange(n) + rng.random() + rng.uniform(-0.12, 0.12, n)) * s[-1] / n % s[-1]
            px, py = np.interp(places, s, p[:, 0]), np.interp(places, s, p[:, 1])
            reach = _TILE * 0.5
            qx, qy = (np.interp(np.clip(places + reach, 0, s[-1]), s, p[:, i]) for i in (0, 1))
            ox, oy = (np.interp(np.clip(places - reach, 0, s[-1]), s, p[:, i]) for i in (0, 1))
            xy.append(np.stack([px, py], axis=1))
            turn.append(np.arctan2(qy - oy, qx - ox))
    middles, turns = np.concatenate(xy), np.concatenate(turn)
    keep = np.ones(len(middles), bool)
    for i, j in sorted(cKDTree(middles).query_pairs(0.66 * _TILE)):
        if keep[i] and keep[j]:
            keep[j] = False
    middles, turns = middles[keep], turns[keep]

    # Where courses meet, the layer cuts a tile to fill what is left.
    x, y = grid(_MAP)
    places = np.stack([x.ravel(), y.ravel()], axis=1)
    down, across = np.gradient(away)
    for _ in range(2):
        far = cKDTree(middles).query(places)[0].reshape(x.shape)
        row, col = np.nonzero((far == maximum_filter(far, 7)) & (far > 0.72 * _TILE))
        middles = np.concatenate([middles, np.stack([x[row, col], y[row, col]], axis=1)])
        turns = np.concatenate([turns, np.arctan2(across[row, col], -down[row, col])])
    return middles, turns


def paint(size: int, rng: np.random.Generator) -> Array:
    """Lay the plan in tiles: each pixel goes to the nearest tile in the tile's own square metric."""
    floor = _plan(rng)
    xy, turn = _courses(floor.part, rng)
    n = len(xy)
    col, row = np.clip((xy * _MAP).astype(int), 0, _MAP - 1).T
    stone = floor.stone[row, col]
    colours = vary(_STONES[stone], rng, 0.035, 0.10)
    aspect = rng.uniform(0.88, 1.14, n)
    turn = turn + rng.normal(0, 0.06, n)
    lean = rng.normal(0, 1, (n, 2)) * 0.16

    best, second = np.full((2, size, size), 9.0)
    tile = np.zeros((size, size), int)
    slope = np.zeros((size, size))
    half = _TILE / 2 * size
    for k in range(n):
        cx, cy = xy[k] * size - 0.5
        reach = 1.75 * half + 1
        x0, x1 = max(int(cx - reach), 0), min(int(cx + reach) + 2, size)
        y0, y1 = max(int(cy - reach), 0), min(int(cy + reach) + 2, size)
        dx, dy = np.arange(x0, x1) - cx, (np.arange(y0, y1) - cy)[:, None]
        u = (dx * np.cos(turn[k]) + dy * np.sin(turn[k])) * (1 / (half * aspect[k]))
        v = (dy * np.cos(turn[k]) - dx * np.sin(turn[k])) * (aspect[k] / half)
        d = np.maximum(np.abs(u), np.abs(v))
        window = slice(y0, y1), slice(x0, x1)
        b, s = best[window], second[window]
        nearer = d < b
        s[:] = np.where(nearer, b, np.minimum(s, d))
        b[nearer] = d[nearer]
        tile[window][nearer] = k
        slope[window][nearer] = (lean[k, 0] * u + lean[k, 1] * v)[nearer]

    joint = 0.10 + 0.035 * noise(size, rng, 60)
    inside = np.minimum((second - best) / 2, 1.16 - best) - joint
    cover = smoothstep(-0.6 / half, 0.6 / half, inside)
    grain = noise(size, rng, 220)
    vein = noise(size, rng, (70, 40), octaves=2)
    face = colours[tile] * (1 + 0.030 * grain + 0.030 * vein + 0.25 * slope)[..., None]
    grout = inks("8d7b63")[0] * (1 + 0.06 * grain)[..., None]
    picture = grout + (face - grout) * cover[..., None]
    dome = smoothstep(-0.05, 0.40, inside) + 0.5 * slope * cover
    worn = 1 + 0.05 * noise(size, rng, 4, octaves=2)
    return relief(picture * worn[..., None], 1.4 * dome, 1.1, 0.05)
