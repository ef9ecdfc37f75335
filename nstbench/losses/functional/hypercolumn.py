"""Hypercolumns at sampled positions, and cosine distances between them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nstbench.losses.functional.maps import at_least_float32, inside


def draw(count: int, samples: int, generator: torch.Generator) -> Tensor:
    """Return ``samples`` different numbers below ``count``; all of them, in order, if there are no more."""
    if count <= samples:
        return torch.arange(count)
    return torch.randperm(count, generator=generator)[:samples]


def sample_hypercolumns(
    maps: Sequence[Tensor], samples: int, generator: torch.Generator, guide: Tensor | None = None
) -> Tensor:
    """Return the hypercolumns at sampled positions, ``(B, ΣC, n)``, of feature maps ``(B, C, h, w)``.

    The hypercolumn of a position is the concatenation of all maps' features there (Hariharan et al.
    2015). Positions are cells of the finest map. The others are interpolated bilinearly at the centres
    of these cells; Kolkin et al.'s code halves the coordinates at each pooling
    instead, which is half a cell of the coarser map to the upper left.

    Args:
        maps: Feature maps of one picture, from several layers.
        samples: Number of positions to draw; all are taken, in order, if there are no more.
        generator: Random generator of the draw.
        guide: Region from which positions are drawn (`maps.inside`), ``(1, 1, h, w)``; a guide of
            another size than the finest map is read at the nearest cell.
    """
    height, width = max((m.shape[2:] for m in maps), key=lambda size: size[0] * size[1])
    cells = torch.arange(height * width, device=maps[0].device)
    if guide is not None:
        if guide.shape[2:] != (height, width):
            guide = torch.nn.functional.interpolate(guide, (height, width), mode="nearest")
        cells = inside(cells.double().view(1, 1, height, width), guide)[0, 0].long()
    cells = cells[draw(len(cells), samples, generator).to(cells.device)]
    rows, columns = cells // width, cells % width
    return torch.cat([_read(m, rows, columns, height, width) for m in maps], dim=1)


def _read(features: Tensor, rows: Tensor, columns: Tensor, height: int, width: int) -> Tensor:
    """Return a map ``(B, C, h, w)`` at cells of a grid of another size, ``(B, C, n)``."""
    h, w = features.shape[2:]
    flat = features.flatten(2)
    if (h, w) == (height, width):
        return at_least_float32(flat.index_select(2, rows * w + columns))
    top, bottom, down = _neighbours(rows, h, height)
    left, right, across = _neighbours(columns, w, width)

    def at(row: Tensor, column: Tensor) -> Tensor:
        return at_least_float32(flat.index_select(2, row * w + column))

    # index_select and not grid_sample, whose gradient has no deterministic algorithm on a GPU.
    upper_left = at(top, left)
    down, across = down.to(upper_left), across.to(upper_left)
    upper = torch.lerp(upper_left, at(top, right), across)
    lower = torch.lerp(at(bottom, left), at(bottom, right), across)
    return torch.lerp(upper, lower, down)


def _neighbours(cells: Tensor, size: int, finer: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two of ``size`` cells around each cell of a finer grid, and the second's weight."""
    where = ((cells.double() + 0.5) * size / finer - 0.5).clamp(0, size - 1)
    first = where.floor().long()
    return first, (first + 1).clamp(max=size - 1), where - first


def unite(columns: Sequence[Tensor], weights: Sequence[float], generator: torch.Generator) -> Tensor:
    """Return columns ``(B, C, m)`` concatenated, sampled from each source in proportion to its weight."""
    kept = [(x, w) for x, w in zip(columns, weights, strict=True) if w > 0]
    total = min(max(x.shape[2] for x, _ in kept), *(x.shape[2] / w for x, w in kept))
    parts = []
    for x, w in kept:
        count = min(x.shape[2], max(1, round(w * total)))
        parts.append(x[..., draw(x.shape[2], count, generator).to(x.device)])
    batch = max(x.shape[0] for x in parts)
    return torch.cat([x.expand(batch, -1, -1) for x in parts], dim=2)


def shortest(columns: Tensor) -> Tensor:
    """Return 1/1000 of the root mean square length, ``(B, 1, 1)``: the floor for `directions`."""
    return 1e-3 * columns.square().sum(1, keepdim=True).mean(2, keepdim=True).sqrt()


def directions(columns: Tensor, floor: Tensor | float) -> Tensor:
    """Return vectors ``(B, C, n)`` scaled to length 1; those shorter than the floor become shorter than 1.

    x/‖x‖ is undefined at 0, and has a slope of 1/‖x‖ near it; here the slope is at most 1/floor.
    """
    smallest = torch.finfo(columns.dtype).eps ** 2  # for maps that are 0 everywhere, whose floor is 0
    length = torch.linalg.vector_norm(columns, dim=1, keepdim=True)
    return columns / torch.maximum(length, torch.as_tensor(floor).to(length)).clamp_min(smallest)


def cosine_distances(u: Tensor, v: Tensor) -> Tensor:
    """Return ``½‖u - v‖²`` of all pairs, ``(B, n, m)``, of `directions` ``(1 or B, C, n or m)``.

    That is 1 - cos(u, v) for vectors of length 1. For vectors of length 0, whose cosine is 0/0, it is 0
    between two of them and ½ to all others.
    """
    lengths = 0.5 * (u.square().sum(1).unsqueeze(2) + v.square().sum(1).unsqueeze(1))
    return (lengths - u.transpose(1, 2) @ v).clamp_min(0)


def relaxed_emd(x: Tensor, y: Tensor, floor: Tensor | float, *, euclidean: bool = False) -> Tensor:
    """Return the relaxed earth mover's distance of two sets of vectors, ``(B,)``.

    ``max(mean_i min_j C_ij, mean_j min_i C_ij)`` with the cosine distance ``C``
    (Kolkin et al. 2019). The position of each minimum is found without a gradient and its distance
    computed again with one: the same gradient, without n·m values kept for it.

    Args:
        x: Vectors of the canvas, ``(B, C, n)``.
        y: Vectors of the style picture, ``(1 or B, C, m)``.
        floor: Floor for `directions`.
        euclidean: Whether to add ``‖x_i - y_j‖/√C``, as for colours.
    """
    u, v = directions(x, floor), directions(y, floor)
    y, v = y.expand(len(x), -1, -1), v.expand(len(x), -1, -1)
    with torch.no_grad():
        cost = cosine_distances(u, v)
        if euclidean:
            cost = cost + torch.cdist(x.transpose(1, 2), y.transpose(1, 2)) / x.shape[1] ** 0.5
        nearest_y, nearest_x = cost.argmin(2), cost.argmin(1)

    def mean_distance(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        distance = 0.5 * (a - b).square().sum(1)
        if euclidean:
            distance = distance + torch.linalg.vector_norm(c - d, dim=1) / x.shape[1] ** 0.5
        return distance.mean(1)

    from_x = mean_distance(u, _pick(v, nearest_y), x, _pick(y, nearest_y))
    from_y = mean_distance(_pick(u, nearest_x), v, _pick(x, nearest_x), y)
    return torch.maximum(from_x, from_y)


def _pick(columns: Tensor, which: Tensor) -> Tensor:
    """Return columns ``(B, C, n)`` at ``which``, ``(B, m)``: ``(B, C, m)``."""
    return columns.gather(2, which.unsqueeze(1).expand(-1, columns.shape[1], -1))
