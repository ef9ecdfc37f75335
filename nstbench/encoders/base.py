"""The Encoder contract, and the encoder that is a chain of modules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from nstbench.config.messages import NO_SUCH_LAYER
from nstbench.encoders.normalization import PRIOR, ChannelCounts, activation_scale, count_channels
from nstbench.encoders.preprocessing import Preprocessing, PreprocessingName
from nstbench.errors import UserError, did_you_mean

Features = dict[str, Tensor]
Pooling = Literal["max", "average"]
Padding = Literal["zeros", "reflect", "replicate", "circular", "none"]


@dataclass(frozen=True)
class LayerInfo:
    """The geometry of a layer, known without running it.

    Attributes:
        channels: Number of feature channels C.
        stride: Pixels of the picture per position of the feature map.
        receptive_field: Side of the receptive field of a position, in pixels; None: the whole picture.
        first: Centre of the first position's receptive field, in pixels from the first pixel's centre,
            along either side; None: not known.
    """

    channels: int
    stride: int
    receptive_field: int | None
    first: float | None = None


class Encoder(nn.Module):
    """A frozen network: pictures in, named feature maps out.

    A subclass sets `layers` (in the order of computation) and `default_layers`, and defines `_features`.

    Attributes:
        layers: Geometry of each layer by its name.
        default_layers: Layers of ``layers=default``, under "content" and "style", and of
            ``layers=patches``, under "patches", for losses that compare each position with every other.
        weights_sha256: Hash of the weights in use, for the run record.
        channel_counts: Channels that hardly fire, by layer, where activations are normalised.
    """

    layers: Mapping[str, LayerInfo]
    default_layers: Mapping[str, Sequence[str]]
    weights_sha256: str = ""

    def __init__(self, preprocessing: PreprocessingName) -> None:
        super().__init__()
        self.preprocessing = Preprocessing(preprocessing)
        self._scales: dict[str, Tensor] = {}
        self.channel_counts: dict[str, ChannelCounts] = {}

    def _features(self, x: Tensor, layers: Sequence[str]) -> Features:
        """Return the feature maps of preprocessed pictures, computing nothing beyond the deepest layer."""
        raise NotImplementedError

    def forward(self, pictures: Tensor, layers: Sequence[str]) -> Features:
        """Return the feature maps ``(B, C, h, w)`` of ``layers`` for pictures ``(B, 3, H, W)``.

        Raises:
            UserError: If the encoder has no such layer.
        """
        self.check(layers)
        features = self._features(self.preprocessing(pictures), layers) if layers else {}
        if not self._scales:
            return features
        return {layer: f * self._scale(layer, f) for layer, f in features.items()}

    def _scale(self, layer: str, f: Tensor) -> Tensor:
        if self._scales[layer].device != f.device:  # moved once, not at every evaluation
            self._scales[layer] = self._scales[layer].to(f.device)
        return self._scales[layer].to(f.dtype)

    def check(self, layers: Iterable[str], setting: str = "layers") -> None:
        """Raise `UserError` for the first layer that this encoder lacks, with the most similar names."""
        for layer in layers:
            if layer not in self.layers:
                hint = did_you_mean(layer, self.layers, what="layers")
                raise UserError(setting, layer, NO_SUCH_LAYER, hint)

    def smallest_picture(self, layers: Iterable[str]) -> int:
        """Return the shortest edge, in pixels, that leaves at least one position at every layer."""
        return max((self.layers[layer].stride for layer in layers), default=1)

    def freeze(self) -> None:
        """Switch to evaluation mode and disable gradients for the weights."""
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Encoder:
        """Stay in evaluation mode, as an encoder is frozen inside any module."""
        return super().train(False)

    @torch.no_grad()
    def normalize_activations(self, pictures: Tensor, prior: float = PRIOR) -> None:
        """Scale the channels of every layer to a mean activation of about 1 over ``pictures``.

        Gatys et al. rescale the weights of VGG-19 so that each filter's mean activation over
        images and positions is 1, which leaves the function of a ReLU network unchanged but for
        the scale of its feature maps (CVPR 2016, §2). Scaling the maps that `forward` returns is
        equivalent, and does not depend on how the layers are connected. Convolutions and pools have the
        scale of the ReLU they belong to. `activation_scale` has the formula, which differs from the paper's
        in not trusting channels that hardly fire in these few pictures.

        The mean is that of the network as trained, whatever ``pooling`` is now. So we read the paper, which
        normalises the network "without changing its output" and replaces its pooling afterwards. With average
        pooling the means are then below 1, the more so in deeper layers (``vgg16_hed`` at relu4_1: 0.4).

        Args:
            pictures: Pictures ``(B, 3, H, W)`` in [0, 1]; the published weights used ImageNet photographs.
            prior: Number of pictures that the prior counts for; 0 is the paper's formula.
        """
        self.scale_activations(self.mean_activations(pictures), len(pictures), prior)

    @torch.no_grad()
    def mean_activations(self, pictures: Tensor) -> dict[str, Tensor]:
        """Return the mean activation of each channel over ``pictures``, ``(C,)`` by layer, not scaled."""
        self._scales = {}
        maps = self._maps_as_trained(pictures)
        return {layer: f.float().relu().mean(dim=(0, 2, 3)) for layer, f in maps.items()}

    @torch.no_grad()
    def scale_activations(self, means: Mapping[str, Tensor], pictures: int, prior: float = PRIOR) -> None:
        """Scale the channels of every layer as `normalize_activations` does, by known means.

        Args:
            means: Mean activation of each channel over calibration pictures, by layer.
            pictures: Number of calibration pictures.
            prior: Number of pictures that the prior counts for.
        """
        for layer, owner in self._scale_owners().items():
            self._scales[layer] = activation_scale(means[owner], pictures, prior).view(1, -1, 1, 1)
            self.channel_counts[layer] = count_channels(means[owner])

    def _maps_as_trained(self, pictures: Tensor) -> Features:
        """Return all feature maps of the network with the pooling that it was trained with."""
        maps: Features = self(pictures, list(self.layers))
        return maps

    def _scale_owners(self) -> dict[str, str]:
        """Return, for each layer, the layer whose mean activation scales it."""
        return {layer: layer for layer in self.layers}


class ChainEncoder(Encoder):
    """An encoder whose layers are modules applied one after the other.

    Attributes:
        trained_pooling: Pooling that the weights were trained with; None: whichever the encoder has.

    Args:
        modules: Layers by name, in order. None may work in place.
        preprocessing: Preprocessing that the first module expects.
        default_layers: Layers of ``layers=default`` and ``layers=patches``, as for `Encoder`.
    """

    trained_pooling: ClassVar[Pooling | None] = None

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        preprocessing: PreprocessingName,
        default_layers: Mapping[str, Sequence[str]],
    ) -> None:
        super().__init__(preprocessing)
        self.chain = nn.ModuleDict(modules)
        self.default_layers = default_layers
        self.layers = chain_geometry(modules)
        disable_in_place(self.chain)
        self.freeze()

    def _features(self, x: Tensor, layers: Sequence[str]) -> Features:
        found: Features = {}
        wanted = set(layers)
        for name, module in self.chain.items():
            x = module(x)
            if name in wanted:
                found[name] = x
                if len(found) == len(wanted):
                    break
        return {layer: found[layer] for layer in layers}

    def _maps_as_trained(self, pictures: Tensor) -> Features:
        pools = {n: m for n, m in self.chain.items() if isinstance(m, nn.AvgPool2d)}
        if self.trained_pooling == "max":
            for name, pool in pools.items():
                self.chain[name] = nn.MaxPool2d(pool.kernel_size, pool.stride, pool.padding)
        try:
            return super()._maps_as_trained(pictures)
        finally:
            self.chain.update(pools)

    def smallest_picture(self, layers: Iterable[str]) -> int:
        """Return the shortest edge, in pixels, that fits every window up to the deepest layer."""
        names = list(self.chain)
        deepest = max((names.index(layer) for layer in layers), default=-1)
        modules = [self.chain[name] for name in names[: deepest + 1]]
        return next(size for size in count(1) if _fits(size, modules))

    def _scale_owners(self) -> dict[str, str]:
        # conv -> the ReLU that follows it; pool -> the ReLU before it.
        owners: dict[str, str] = {}
        pending: list[str] = []
        last = ""
        for name, module in self.chain.items():
            if isinstance(module, nn.Conv2d):
                pending.append(name)
            elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
                owners[name] = last or name
            else:
                owners.update(dict.fromkeys([*pending, name], name))
                pending, last = [], name
        owners.update({name: name for name in pending})
        return {name: owners[name] for name in self.chain}


def disable_in_place(module: nn.Module) -> None:
    """Disable in-place operation in every module inside ``module``.

    An in-place ReLU would overwrite the feature map of the convolution before it: the surveyed
    implementations that offer ``conv`` layers silently return ``relu`` ones.
    """
    for part in module.modules():
        if getattr(part, "inplace", False):
            part.inplace = False  # type: ignore[assignment]


def chain_geometry(modules: Mapping[str, nn.Module]) -> dict[str, LayerInfo]:
    """Return the geometry of each module of a chain."""
    infos: dict[str, LayerInfo] = {}
    channels, stride, field, first = 3, 1, 1, 0.0
    for name, module in modules.items():
        kernel, step, channels = _window(module, channels)
        field += (kernel - 1) * stride
        first += ((kernel - 1) / 2 - _pads(module, kernel)) * stride
        stride *= step
        infos[name] = LayerInfo(channels, stride, field, first)
    return infos


def _pads(module: nn.Module, kernel: int) -> float:
    """Return the number of positions by which the first window of a module lies outside its input."""
    if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        # "same" puts the odd position to the right.
        return (kernel - 1) // 2 if isinstance(module.padding, str) else side(module.padding)
    return (kernel - 1) / 2  # Fire pads its 3×3 by 1


def _window(module: nn.Module, channels: int) -> tuple[int, int, int]:
    """Return (kernel side, stride, output channels) of one module."""
    if isinstance(module, nn.Conv2d):
        kernel = (module.kernel_size[0] - 1) * module.dilation[0] + 1
        return kernel, module.stride[0], module.out_channels
    if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        return side(module.kernel_size), side(module.stride), channels
    if hasattr(module, "expand3x3"):  # SqueezeNet's Fire: 1×1 squeeze, then 1×1 beside 3×3
        return 3, 1, module.expand1x1.out_channels + module.expand3x3.out_channels  # type: ignore[union-attr,operator,return-value]
    return 1, 1, channels


def _fits(size: int, modules: Iterable[nn.Module]) -> bool:
    """Return whether a picture of this edge leaves a position after each of the modules."""
    for module in modules:
        if not isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            continue
        padding = 0 if isinstance(module.padding, str) else side(module.padding)
        if isinstance(module, nn.Conv2d) and module.padding_mode == "reflect" and size <= padding:
            return False  # reflection needs more positions than it pads
        kernel = side(module.kernel_size)
        size = (size + 2 * padding - kernel) // side(module.stride) + 1
        if size < 1:
            return False
    return True


def side(size: int | tuple[int, ...]) -> int:
    """Return the first side of a window, which PyTorch stores as one number or as a tuple."""
    return size if isinstance(size, int) else size[0]


def set_padding(module: nn.Module, padding: Padding) -> None:
    """Set the padding of every padded convolution inside ``module``.

    ``none`` computes valid positions only, so feature maps shrink by the kernel at each layer.
    """
    for conv in (m for m in module.modules() if isinstance(m, nn.Conv2d)):
        if padding == "none":
            conv.padding = (0, 0)
        elif not isinstance(conv.padding, str) and any(conv.padding):
            conv.padding_mode = padding
            # Conv2d computes F.pad's arguments in its constructor: both sides of each axis, the last first.
            conv._reversed_padding_repeated_twice = [p for p in reversed(conv.padding) for _ in (0, 1)]


def pool_like(pool: nn.MaxPool2d, pooling: Pooling) -> nn.Module:
    """Return ``pool``, or the average pooling over the same windows."""
    if pooling == "max":
        return pool
    return nn.AvgPool2d(pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode, count_include_pad=False)
