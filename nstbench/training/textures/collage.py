"""Training pictures: crops of textures, recoloured, cut out and laid side by side."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nstbench.training.textures.fields import Array

_PATCHES = 5  # regions of a collage before those of one texture merge
_RECOLOURED = 0.75  # share of crops whose colours are turned: a program is not its palette
_WHOLE = 0.25  # share of collages of one texture only


@dataclass(frozen=True)
class Collage:
    """A batch of training pictures.

    Attributes:
        pictures: ``(B, 3, H, W)`` sRGB float32 in [0, 1].
        labels: the texture program of every pixel ``(B, H, W)``.
    """

    pictures: Tensor
    labels: Tensor


def collage(
    bank: Array,
    pictures: slice,
    batch: int,
    crop: int,
    generator: torch.Generator,
    *,
    textures: int = 3,
    recolour: bool = True,
) -> Collage:
    """Draw a batch of collages.

    Args:
        bank: ``(programs, pictures, size, size, 3)`` uint8.
        pictures: which pictures of each program may be used.
        batch: number of collages B.
        crop: side of a collage in pixels, H = W.
        generator: source of everything random, on the CPU.
        textures: in a collage; 1: each picture is of one texture.
        recolour: turn the colours of three crops in four.
    """
    layers, programs = [], []
    for _ in range(textures):
        program = torch.randint(len(bank), (batch,), generator=generator)
        crops = _crops(bank, program, pictures, crop, generator)
        layers.append(_recoloured(crops, generator) if recolour else crops)
        programs.append(program)
    choice = _regions(batch, crop, textures, generator)
    x = torch.stack(layers)  # (textures, B, 3, H, W)
    mixed = x.gather(0, choice[None, :, None].expand(1, batch, 3, crop, crop))[0]
    labels = torch.stack(programs, 1).gather(1, choice.flatten(1)).view(batch, crop, crop)
    if torch.rand((), generator=generator) < 0.5:  # upside down a texture is the same
        mixed, labels = mixed.flip(2, 3), labels.flip(1, 2)
    return Collage(mixed, labels)


def _crops(bank: Array, program: Tensor, pictures: slice, crop: int, generator: torch.Generator) -> Tensor:
    """Return one crop per program, all at one scale between 0.8 and 1.6: ``(B, 3, crop, crop)``."""
    size = bank.shape[2]
    scale = 0.8 + 0.8 * float(torch.rand((), generator=generator))
    side = min(int(crop * scale), size)
    first, last, _ = pictures.indices(bank.shape[1])
    which = torch.randint(first, last, program.shape, generator=generator).tolist()
    top, left = torch.randint(size - side + 1, (2, len(program)), generator=generator).tolist()
    out = torch.empty(len(program), side, side, 3, dtype=torch.uint8)
    for i, n in enumerate(program.tolist()):
        view = bank[n, which[i], top[i] : top[i] + side, left[i] : left[i] + side]
        out[i] = torch.from_numpy(view.copy())
    x = out.permute(0, 3, 1, 2).float() / 255
    if side == crop:
        return x
    return F.interpolate(x, (crop, crop), mode="bilinear", antialias=side > crop, align_corners=False)


def _recoloured(x: Tensor, generator: torch.Generator) -> Tensor:
    """Turn the colours of each picture about their mean by a random rotation, and move the mean."""
    n = len(x)
    turn, _ = torch.linalg.qr(torch.randn(n, 3, 3, generator=generator))
    turn = turn * torch.exp(0.25 * torch.randn(n, 1, 3, generator=generator))
    mean = x.mean((2, 3), keepdim=True)
    target = 0.2 + 0.6 * torch.rand(n, 3, 1, 1, generator=generator)
    target = 0.6 * target + 0.4 * target.mean(1, keepdim=True)
    turned = (torch.einsum("bij,bjhw->bihw", turn, x - mean) + target).clamp(0, 1)
    chosen = torch.rand(n, 1, 1, 1, generator=generator) < _RECOLOURED
    return torch.where(chosen, turned, x)


def _regions(batch: int, crop: int, textures: int, generator: torch.Generator) -> Tensor:
    """Return which texture each pixel shows ``(B, crop, crop)``: cells of a bent, weighted Voronoi diagram.

    Weights make round islands as well as straight borders.
    """
    half = crop // 2  # borders to two pixels are fine enough, and four times as fast
    c = (torch.arange(half) + 0.5) / half
    knots = 0.06 * torch.randn(batch, 2, 5, 5, generator=generator)
    bend = F.interpolate(knots, (half, half), mode="bicubic", align_corners=False)
    y, x = c.view(1, -1, 1) + bend[:, 0], c.view(1, 1, -1) + bend[:, 1]
    points = torch.rand(batch, _PATCHES, 2, generator=generator)
    weight = torch.exp(0.3 * torch.randn(batch, _PATCHES, generator=generator))
    shows = torch.randint(textures, (batch, _PATCHES), generator=generator)
    shows[torch.rand(batch, generator=generator) < _WHOLE] = 0
    dx = x[:, None] - points[..., 0, None, None]
    dy = y[:, None] - points[..., 1, None, None]
    nearest = ((dx * dx + dy * dy) * weight[..., None, None]).argmin(1)
    shown = shows.gather(1, nearest.flatten(1)).view(batch, half, half)
    return shown.repeat_interleave(2, 1).repeat_interleave(2, 2)
