"""The encoder that ships with nstbench, as a chain of named layers."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from nstbench.encoders.base import ChainEncoder, Padding, Pooling, pool_like, set_padding
from nstbench.encoders.procedural.weights import IN_PACKAGE, read_weights
from nstbench.encoders.vgg import DEFAULT_LAYERS, load_convolutions


class ProceduralVGG(ChainEncoder):
    """A small VGG, trained on procedural textures alone or distilled from a VGG-16.

    Every channel has a root mean square of 1 over procedural pictures; batch norm is folded into
    the convolutions. Layers are named as in VGG-16, up to ``relu5_1``.

    Args:
        weights: ``shipped`` (``docs/procedural_encoder.md``), ``distilled`` (``docs/distilled_encoder.md``),
            or path of a file that ``nstbench train`` made.
        pooling: Kind of pooling, ``average`` as trained, or ``max``.
        padding: Padding of the convolutions; ``zeros`` as trained.

    Raises:
        UserError: If the file is missing, damaged or edited.
    """

    def __init__(
        self, weights: str = "shipped", pooling: Pooling = "average", padding: Padding = "zeros"
    ) -> None:
        path = IN_PACKAGE.get(weights) or Path(os.path.expanduser(weights))
        tensors, sha256 = read_weights(path)
        layers: dict[str, nn.Module] = {}
        channels = 3
        for block, depth in enumerate(DEPTHS, start=1):
            for k in range(1, depth + 1):
                width = len(tensors.get(f"conv{block}_{k}.bias", torch.empty(1)))
                layers[f"conv{block}_{k}"] = nn.Conv2d(channels, width, 3, padding=1)
                layers[f"relu{block}_{k}"] = nn.ReLU()
                channels = width
            if block < len(DEPTHS):
                layers[f"pool{block}"] = pool_like(nn.MaxPool2d(2, 2), pooling)
        set_padding(nn.ModuleDict(layers), padding)
        load_convolutions(layers, tensors, path.name)
        super().__init__(layers, "torch", DEFAULT_LAYERS)
        self.weights_sha256 = sha256


WIDTHS = (32, 64, 128, 256, 256)


DEPTHS = (2, 2, 3, 3, 1)
