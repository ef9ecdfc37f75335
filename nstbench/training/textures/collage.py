"""Training pictures: collages of recoloured crops of textures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nstbench.training.textures.fields import Array

_PATCHES = 5  # regions of a collage; neighbours may have the same texture
_RECOLOURED = (
    0.75  # fraction of crops whose colours are rotated, so that classes do not depend on the palette
)
_WHOLE = 0.25  # fraction of collages of one texture only


@dataclass(frozen=True)
class Collage:
    """A batch of training pictures.

    Attributes:
        pictures: Pictures ``(B, 3, H, W)``, sRGB float32 in [0, 1].
        labels: Texture program of every pixel, ``(B, H, W)``.
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
        bank: Pictures of all textures, ``(programs, pictures, size, size, 3)``, uint8.
        pictures: Range of the pictures of each program that may be used.
        batch: Number of collages B.
        crop: Side of a collage in pixels, H = W.
        generator: Random generator, on the CPU.
        textures: Number of textures in a collage; 1: each picture is of one texture.
        recolour: Whether to rotate the colours of three crops in four.
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
    if torch.rand((), generator=generator) < 0.5:  # a texture turned by 180° keeps its label
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
    """Rotate the colours of each picture about their mean at random, and shift the mean."""
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
    """Return the index of each pixel's texture, ``(B, crop, crop)``, by cells of a warped Voronoi diagram.

    Weights make round regions as well as straight borders.
    """
    half = crop // 2  # a resolution of two pixels is enough for borders, and four times as fast
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
