"""Exporting the tensors of a trained network."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nstbench.encoders.preprocessing import Preprocessing
from nstbench.training.network import TextureNet
from nstbench.training.textures.fields import Array

_SIDE = 256  # of the pictures on which channels are scaled, with four textures each


@torch.no_grad()
def exported(net: TextureNet, bank: Array, seed: int = 0, pictures: int = 24) -> dict[str, Tensor]:
    """Return folded convolutions whose every channel has a root mean square of 1 after its ReLU.

    A ReLU network is the same function, but for the scale of its maps, if a channel is divided by
    s and the weights that read it are multiplied by s. The scale is measured on pictures of four
    textures each. Channels that are nearly always 0 are scaled by a tenth of the layer's median, so
    that noise is not amplified.

    Args:
        net: Trained network.
        bank: Bank of textures for the pictures.
        seed: Seed of the choice of textures.
        pictures: Number of pictures on which the scale is measured.
    """
    tensors = {name: t.cpu() for name, t in net.folded().items()}
    x = Preprocessing("torch")(_pictures(bank, seed, pictures))
    before: Tensor | None = None
    block = "1"
    for name in [key.removesuffix(".weight") for key in tensors if key.endswith(".weight")]:
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        if name[4] != block:
            x, block = F.avg_pool2d(x, 2), name[4]
        if before is not None:
            weight = weight * before.view(1, -1, 1, 1)
        x = F.conv2d(x, weight, bias, padding=1).relu()
        scale = x.square().mean((0, 2, 3)).sqrt()
        scale = scale.maximum(0.1 * scale.median())
        scale = torch.where(scale > 0, scale, 1.0)  # the median is 0 if most channels are always 0
        tensors[f"{name}.weight"] = weight / scale.view(-1, 1, 1, 1)
        tensors[f"{name}.bias"] = bias / scale
        x = x / scale.view(1, -1, 1, 1)
        before = scale
    return tensors


def _pictures(bank: Array, seed: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    half = _SIDE // 2
    programs = torch.randint(len(bank), (count, 4), generator=generator).tolist()
    which = torch.randint(bank.shape[1], (count, 4), generator=generator).tolist()
    rows = []
    for n, k in zip(programs, which, strict=True):
        a, b, c, d = (torch.from_numpy(bank[i, j, :half, :half].copy()) for i, j in zip(n, k, strict=True))
        rows.append(torch.cat([torch.cat([a, b], 1), torch.cat([c, d], 1)], 0))
    return torch.stack(rows).permute(0, 3, 1, 2).float() / 255
