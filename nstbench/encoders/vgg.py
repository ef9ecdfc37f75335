"""The VGG networks of Simonyan & Zisserman (2015): layers, and loading of weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from nstbench.encoders.base import ChainEncoder, Padding, Pooling, pool_like, set_padding
from nstbench.encoders.files import expected_preprocessing, own_or_registered
from nstbench.encoders.preprocessing import PreprocessingName
from nstbench.encoders.state_dict import check_finite, load_state_dict
from nstbench.encoders.weights import file_sha256
from nstbench.errors import UserError

Architecture = Literal["vgg11", "vgg13", "vgg16", "vgg19"]

# Convolutions per block; the channels of the five blocks are 64, 128, 256, 512, 512 (Table 1).
CONVOLUTIONS: dict[str, tuple[int, ...]] = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
CHANNELS = (64, 128, 256, 512, 512)
CLASSIFIER = 123_642_856
"""Number of parameters of the three linear layers, which most files hold too."""

# Content at relu4_2 where the network has it (Gatys et al. 2016), style at the first of each block.
DEFAULT_LAYERS = {
    "content": ["relu4_2"],
    "style": ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"],
    "patches": ["relu3_1", "relu4_1"],
}


def vgg_layers(
    shape: Architecture,
    *,
    width: float = 1.0,
    pooling: Pooling = "max",
    padding: Padding = "zeros",
) -> dict[str, nn.Module]:
    """Return the convolutional part of a VGG as named modules: ``conv1_1, relu1_1, …, pool5``.

    Args:
        shape: Architecture.
        width: Factor of the number of channels of every layer.
        pooling: ``max`` pooling as trained, or ``average`` (Gatys et al.: "slightly more appealing").
        padding: Padding of the convolutions; ``zeros`` as trained.
    """
    layers: dict[str, nn.Module] = {}
    previous = 3
    for block, (count, full) in enumerate(zip(CONVOLUTIONS[shape], CHANNELS, strict=True), start=1):
        channels = max(1, round(full * width))
        for i in range(1, count + 1):
            layers[f"conv{block}_{i}"] = nn.Conv2d(previous, channels, 3, padding=1)
            layers[f"relu{block}_{i}"] = nn.ReLU()
            previous = channels
        layers[f"pool{block}"] = pool_like(nn.MaxPool2d(2, 2), pooling)
    set_padding(nn.ModuleDict(layers), padding)
    return layers


def layer_names(shape: str) -> frozenset[str]:
    """Return the names of the layers of a VGG, which is not built; none if there is no such shape."""
    blocks = list(enumerate(CONVOLUTIONS.get(shape, ()), start=1))
    inside = {
        f"{kind}{b}_{i}" for b, count in blocks for i in range(1, count + 1) for kind in ("conv", "relu")
    }
    return frozenset(inside | {f"pool{b}" for b, _ in blocks})


class VGG(ChainEncoder):
    """A VGG with trained weights.

    Args:
        shape: Architecture.
        weights: Name in the registry (``nstbench weights list``), or path of a file. A file
            may use torchvision's keys (``features.0.weight``), the layers' names
            (``conv1_1.weight``) or bare indices (``0.weight``).
        preprocessing: Preprocessing that the weights expect; needed only for a file that is not the
            registry's.
        pooling: Kind of pooling, ``max`` or ``average``.
        padding: Padding of the convolutions.
        download: Whether to fetch registered weights that are not on this machine.

    Raises:
        UserError: If the weights are missing, damaged, or of another network.
    """

    trained_pooling: ClassVar[Pooling] = "max"

    def __init__(
        self,
        shape: Architecture = "vgg19",
        weights: str = "vgg19",
        preprocessing: PreprocessingName | None = None,
        pooling: Pooling = "max",
        padding: Padding = "zeros",
        download: bool = False,
    ) -> None:
        file = own_or_registered(weights, download)
        layers = vgg_layers(shape, pooling=pooling, padding=padding)
        parameters = CLASSIFIER + sum(p.numel() for layer in layers.values() for p in layer.parameters())
        load_convolutions(layers, load_state_dict(file, parameters=parameters), file.name)
        sha256 = file_sha256(file)  # after reading, which refuses files that are too large
        super().__init__(layers, preprocessing or expected_preprocessing(weights, sha256), DEFAULT_LAYERS)
        self.weights_sha256 = sha256


_KEY = re.compile(r"^(?:features\.)?(?P<place>\d+|conv\d_\d)\.(?P<kind>weight|bias)$")


def load_convolutions(layers: Mapping[str, nn.Module], state: Mapping[str, Tensor], file: str) -> None:
    """Copy a state dict's convolutions, in their order, into those of ``layers``.

    Raises:
        UserError: If the file holds other convolutions than these.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        match = _KEY.match(key)
        if match and not (match["kind"] == "weight" and value.ndim != 4):
            found.setdefault(match["place"], {})[match["kind"]] = value
    # Linear layers have bare indices too: only indices with a 4-D weight are convolutions.
    given = [tensors for tensors in found.values() if "weight" in tensors]
    wanted = {name: m for name, m in layers.items() if isinstance(m, nn.Conv2d)}
    hint = "Check that encoder.shape is the network the file was made for."
    if len(given) != len(wanted):
        reason = f"it holds {len(given)} convolutions and the encoder has {len(wanted)}"
        raise UserError("encoder.weights", file, reason, hint)
    for (name, conv), tensors in zip(wanted.items(), given, strict=True):
        shape = tuple(tensors["weight"].shape)
        if shape != tuple(conv.weight.shape) or "bias" not in tensors:
            reason = f"its weights for {name} have the shape {shape}, not {tuple(conv.weight.shape)}"
            raise UserError("encoder.weights", file, reason, hint)
        check_finite({f"{name}.{kind}": tensor for kind, tensor in tensors.items()}, file)
        with torch.no_grad():
            conv.weight.copy_(tensors["weight"])
            assert conv.bias is not None
            conv.bias.copy_(tensors["bias"])
