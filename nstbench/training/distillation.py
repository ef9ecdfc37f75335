"""Distillation: the feature maps of a trained network as a task, and the pictures that they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nstbench.encoders.base import Encoder
from nstbench.pictures import procedural
from nstbench.pictures.io import read_picture
from nstbench.pictures.resize import resize, shape_for
from nstbench.pictures.samples import SAMPLES

LAYERS = tuple(f"relu{name}" for name in ("1_1", "1_2", "2_1", "2_2", "3_1", "3_3", "4_1", "4_3", "5_1"))
"""Layers, of the teacher and of the network that is trained, whose maps are matched."""

_LONG_EDGE = 512
_PAINTING, _PAINTINGS = 384, 2  # side in pixels and number of each kind
_SCALES = 0.4, 1.4  # side of the crop as shown, by that of the crop as cut


class FeatureMatching(nn.Module):
    """The teacher's feature maps, from the network's by a 1×1 convolution for each layer.

    ``Σ_l ‖h_l(F_l) - T_l‖² / ‖T_l - mean(T_l)‖² / L``: the share of the teacher's variance that a linear map
    of the network's features leaves unexplained. The teacher is not trained, and not in checkpoints.

    Args:
        teacher: Encoder with the layers `LAYERS`, with the sizes of VGG's maps.
        widths: Numbers of channels of the network's five blocks.
    """

    def __init__(self, teacher: Encoder, widths: Sequence[int]) -> None:
        super().__init__()
        self._teacher = [teacher]  # in a list: not a submodule
        with torch.no_grad():
            maps = teacher(torch.zeros(1, 3, 32, 32), LAYERS)
        self.heads = nn.ModuleDict()
        for layer in LAYERS:
            width = widths[int(layer[4]) - 1]
            self.heads[layer] = nn.Conv2d(width, maps[layer].shape[1], 1)

    def forward(self, maps: Mapping[str, Tensor], pictures: Tensor) -> dict[str, Tensor]:
        """Return ``features``, the loss, and ``unexplained/<layer>``.

        Args:
            maps: Feature maps of the network by layer.
            pictures: sRGB ``(B, 3, H, W)``.
        """
        self._teacher[0] = teacher = self._teacher[0].to(pictures.device)
        with torch.no_grad():
            expected = teacher(pictures, LAYERS)
        values = {}
        for layer in LAYERS:
            T = expected[layer].float()
            left = (self.heads[layer](maps[layer]).float() - T).square().mean()
            values[f"unexplained/{layer}"] = left / T.var((0, 2, 3), correction=0).mean().clamp(min=1e-12)
        loss = torch.stack(list(values.values())).mean()
        return {"features": loss, **{name: value.detach() for name, value in values.items()}}


@cache
def photographs() -> list[Tensor]:
    """Return all sample pictures, and two procedural paintings of each kind, ``(3, H, W)`` uint8.

    The paintings have seeds of their own: those that ``procedural:<name>`` paints are not among them.
    """
    pictures = []
    for sample in SAMPLES.values():
        picture = read_picture(sample.path)
        shape = shape_for(picture.shape[2], picture.shape[3], _LONG_EDGE, "long_edge")
        pictures.append(resize(picture, shape))
    for name in procedural.STYLES:
        seeds = range(1000, 1000 + _PAINTINGS)
        pictures += [procedural.generate(name, size=_PAINTING, seed=seed) for seed in seeds]
    return [(picture[0] * 255).round().to(torch.uint8) for picture in pictures]


def photograph_crops(count: int, crop: int, generator: torch.Generator) -> Tensor:
    """Return random crops of `photographs`, scaled and mirrored at random, ``(count, 3, crop, crop)``."""
    sources, crops = photographs(), []
    for _ in range(count):
        source = sources[int(torch.randint(len(sources), (), generator=generator))]
        low, high = _SCALES
        scale = low + (high - low) * float(torch.rand((), generator=generator))
        side = min(int(crop / scale), *source.shape[1:])
        top, left = (int(torch.randint(n - side + 1, (), generator=generator)) for n in source.shape[1:])
        x = source[None, :, top : top + side, left : left + side].float() / 255
        x = F.interpolate(x, (crop, crop), mode="bilinear", antialias=side > crop, align_corners=False)
        crops.append(x.flip(3) if torch.rand((), generator=generator) < 0.5 else x)
    return torch.cat(crops)
