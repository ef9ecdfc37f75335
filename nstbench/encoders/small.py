"""AlexNet and SqueezeNet 1.1, with the layer names of their papers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from torch import nn

from nstbench.encoders.base import ChainEncoder, Padding, Pooling, disable_in_place, pool_like, set_padding
from nstbench.encoders.files import expected_preprocessing, load_into, own_or_registered
from nstbench.encoders.state_dict import load_state_dict
from nstbench.encoders.weights import file_sha256
from nstbench.errors import UserError

# The names of torchvision's `features`, in order; dropout and flattening are not features.
ALEXNET = (
    *("conv1", "relu1", "pool1", "conv2", "relu2", "pool2"),
    *("conv3", "relu3", "conv4", "relu4", "conv5", "relu5", "pool5"),
)
SQUEEZENET = (
    *("conv1", "relu1", "pool1", "fire2", "fire3", "pool3", "fire4", "fire5", "pool5"),
    *("fire6", "fire7", "fire8", "fire9"),
)


class _Small(ChainEncoder):
    """Base of both networks: torchvision's `features`, renamed, with weights from a file."""

    trained_pooling: ClassVar[Pooling] = "max"

    def __init__(
        self,
        model: Callable[..., nn.Module],
        names: Sequence[str],
        default_layers: Mapping[str, Sequence[str]],
        weights: str,
        pooling: Pooling,
        padding: Padding,
        download: bool,
    ) -> None:
        file = own_or_registered(weights, download)
        network = model(weights=None)
        features = network.features
        assert isinstance(features, nn.Sequential)
        state = load_state_dict(file, parameters=sum(p.numel() for p in network.parameters()))
        own = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
        load_into(features, own, file.name)
        layers = {
            name: pool_like(m, pooling) if isinstance(m, nn.MaxPool2d) else m
            for name, m in zip(names, features, strict=True)
        }
        disable_in_place(features)
        set_padding(features, padding)
        sha256 = file_sha256(file)
        super().__init__(layers, expected_preprocessing(weights, sha256), default_layers)
        self.weights_sha256 = sha256


class AlexNet(_Small):
    """AlexNet (Krizhevsky 2014, "One weird trick"), layers ``conv1, relu1, pool1, … pool5``.

    Args:
        weights: Name in the registry, or path of a file with torchvision's keys.
        pooling: Kind of pooling, ``max`` or ``average``.
        padding: Padding of the convolutions.
        download: Whether to fetch registered weights that are not on this machine.
    """

    def __init__(
        self,
        weights: str = "alexnet",
        pooling: Pooling = "max",
        padding: Padding = "zeros",
        download: bool = False,
    ) -> None:
        from torchvision.models import alexnet

        default = {"content": ["relu4"], "style": ["relu1", "relu2", "relu3", "relu4", "relu5"]}
        default["patches"] = ["relu2", "relu4"]
        super().__init__(alexnet, ALEXNET, default, weights, pooling, padding, download)


class SqueezeNet(_Small):
    """SqueezeNet 1.1 (Iandola et al. 2016), layers ``conv1, relu1, pool1, fire2, … fire9``.

    Args:
        weights: Name in the registry, or path of a file with torchvision's keys.
        pooling: Kind of pooling, ``max`` or ``average``.
        padding: Padding of the convolutions.
        download: Whether to fetch registered weights that are not on this machine.
    """

    def __init__(
        self,
        weights: str = "squeezenet",
        pooling: Pooling = "max",
        padding: Padding = "zeros",
        download: bool = False,
    ) -> None:
        from torchvision.models import squeezenet1_1

        if padding == "none":
            reason = "a Fire module concatenates a 1×1 and a 3×3 convolution, whose sizes would then differ"
            raise UserError("encoder.padding", padding, reason, "Use zeros, reflect or replicate.")
        default = {"content": ["fire5"], "style": ["relu1", "fire3", "fire5", "fire7", "fire9"]}
        default["patches"] = ["fire3", "fire5"]
        super().__init__(squeezenet1_1, SQUEEZENET, default, weights, pooling, padding, download)
