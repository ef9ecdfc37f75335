"""The shapes of an encoder's feature maps, and whether its padding is circular."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from nstbench.encoders.base import Encoder
from nstbench.pictures.shape import Shape


def map_shapes(encoder: Encoder, layers: Sequence[str], shape: Shape) -> Mapping[str, Shape]:
    """Return the height and width of each layer's map for a picture of this shape, without running it."""
    if not layers:
        return {}
    device = next(encoder.parameters()).device
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        features = encoder(torch.empty(1, 3, *shape, device=device), layers)
    return {layer: (f.shape[2], f.shape[3]) for layer, f in features.items()}


def wraps_around(encoder: Encoder) -> bool:
    """Return whether any convolution has circular padding."""
    return any(isinstance(m, nn.Conv2d) and m.padding_mode == "circular" for m in encoder.modules())
