"""Preprocessing: from sRGB in [0, 1] to the input range of a network."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

PreprocessingName = Literal["torch", "caffe255", "caffe256", "hed255", "rgb255_meanonly", "signed128", "none"]


class _Preset(NamedTuple):
    bgr: bool
    scale: float
    mean: tuple[float, float, float]  # in the order and range of the network's input
    std: tuple[float, float, float]


_IMAGENET_RGB = (0.485, 0.456, 0.406)
_CAFFE_BGR = (103.939, 116.779, 123.68)

PRESETS: dict[str, _Preset] = {
    # torchvision: RGB, (x - mean) / std
    "torch": _Preset(False, 1.0, _IMAGENET_RGB, (0.229, 0.224, 0.225)),
    # Caffe's VGG: BGR in [0, 255] less the mean colour. Gatys et al., Johnson's PyTorch ports.
    "caffe255": _Preset(True, 255.0, _CAFFE_BGR, (1.0, 1.0, 1.0)),
    # The Lua neural-style and CNNMRF multiply by 256; kept apart because it changes the features.
    "caffe256": _Preset(True, 256.0, _CAFFE_BGR, (1.0, 1.0, 1.0)),
    # HED (Xie & Tu 2015), whose mean colour has other decimals.
    "hed255": _Preset(True, 255.0, (104.00699, 116.66877, 122.67892), (1.0, 1.0, 1.0)),
    # TensorFlow's EfficientNet-Lite: RGB, about -1 to 1.
    "signed128": _Preset(False, 255.0, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
    # torchvision weights fed with RGB·255 - mean and no division by the standard deviation.
    "rgb255_meanonly": _Preset(False, 255.0, (123.675, 116.28, 103.53), (1.0, 1.0, 1.0)),
    "none": _Preset(False, 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
assert set(PRESETS) == set(get_args(PreprocessingName))


class Preprocessing(nn.Module):
    """Map sRGB pictures in [0, 1] to a network's input: ``(order(x)·scale - mean) / std``.

    Args:
        name: Name of one of `PRESETS`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: PreprocessingName = "torch") -> None:
        super().__init__()
        preset = PRESETS[name]
        self.name, self.bgr, self.scale = name, preset.bgr, preset.scale
        self.register_buffer("mean", torch.tensor(preset.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preset.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the network's input for pictures ``(B, 3, H, W)``."""
        ordered = pictures.flip(1) if self.bgr else pictures
        return (ordered * self.scale - self.mean) / self.std
