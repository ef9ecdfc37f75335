"""EfficientNet-Lite0, a small network trained on ImageNet that comes in a wheel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn.functional import pad

from nstbench.encoders.base import Encoder, Features, LayerInfo, Padding
from nstbench.encoders.files import load_into, own_or_registered
from nstbench.encoders.state_dict import load_state_dict
from nstbench.encoders.weights import file_sha256
from nstbench.errors import UserError

# EfficientNet-B0 (Tan & Le 2019, Table 1): repeats, kernel, stride, expansion, channels of each stage.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM = 32
_PADDINGS: Mapping[str, str] = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate"}

# The last block at each stride, as other users of EfficientNet's features choose.
DEFAULT_LAYERS = {
    "content": ["block4"],
    "style": ["block0", "block2", "block4", "block10", "block15"],
    "patches": ["block2", "block4"],
}


class EfficientNetLite0(Encoder):
    """EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation, with ReLU6 for Swish.

    Layers are ``stem`` and ``block0 … block15``, numbered as in the file of weights. A block's output is
    that of its last, linear convolution, so it may be negative.

    Args:
        weights: Name in the registry, or path of a file with the same tensors.
        padding: Padding of the convolutions: ``zeros`` as trained, ``reflect`` or ``replicate``.
        download: Whether to fetch registered weights that are not on this machine.

    Raises:
        UserError: If the weights are missing or damaged, or the padding is another.
    """

    def __init__(
        self, weights: str = "efficientnet_lite0", padding: Padding = "zeros", download: bool = False
    ) -> None:
        if padding not in _PADDINGS:
            reason = "its blocks add their input, so no block may shrink the map"
            raise UserError("encoder.padding", padding, reason, "Use zeros, reflect or replicate.")
        file = own_or_registered(weights, download)
        super().__init__("signed128")
        network = Network(_PADDINGS[padding])
        state = load_state_dict(file, parameters=sum(p.numel() for p in network.parameters()) + 2_000_000)
        head = ("_conv_head.", "_bn1.", "_fc.")  # the classifier
        load_into(network, {k: v for k, v in state.items() if not k.startswith(head)}, file.name)
        self.network = network
        self.layers = _geometry()
        self.default_layers = DEFAULT_LAYERS
        self.weights_sha256 = file_sha256(file)
        self.freeze()

    def _features(self, x: Tensor, layers: Sequence[str]) -> Features:
        found: Features = self.network(x, layers)
        return found


class _SamePadded(nn.Conv2d):
    """A convolution with TensorFlow's padding "same": ⌈n/s⌉ positions, the odd pixel to the right."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, groups: int, mode: str) -> None:
        super().__init__(channels, out, kernel, stride, groups=groups, bias=False)
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        (top, bottom), (left, right) = (_same(n, kernel, stride) for n in x.shape[-2:])
        return super().forward(pad(x, (left, right, top, bottom), self.mode))


def _same(n: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
    return total // 2, total - total // 2


class _Block(nn.Module):
    """An inverted residual: expand, convolve each channel, project; plus the input if shapes agree."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int, mode: str) -> None:
        super().__init__()
        wide = channels * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(channels, wide, 1, bias=False)
            self._bn0 = _norm(wide)
        self._depthwise_conv = _SamePadded(wide, wide, kernel, stride, wide, mode)
        self._bn1 = _norm(wide)
        self._project_conv = nn.Conv2d(wide, out, 1, bias=False)
        self._bn2 = _norm(out)
        self.expands, self.adds = expansion > 1, stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._bn0(self._expand_conv(x)).clamp(0, 6) if self.expands else x
        y = self._bn1(self._depthwise_conv(y)).clamp(0, 6)
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class Network(nn.Module):
    """The network up to its head, with the names of the file's tensors."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self._conv_stem = _SamePadded(3, _STEM, 3, 2, 1, mode)
        self._bn0 = _norm(_STEM)
        self._blocks = nn.ModuleList(_Block(*arguments, mode) for arguments in _blocks())

    def forward(self, x: Tensor, layers: Sequence[str]) -> Features:
        """Return the maps of ``layers`` for preprocessed pictures."""
        x = self._bn0(self._conv_stem(x)).clamp(0, 6)
        found: Features = {"stem": x}
        wanted = set(layers)
        for i, block in enumerate(self._blocks):
            if wanted <= set(found):
                break
            x = found[f"block{i}"] = block(x)
        return {layer: found[layer] for layer in layers}


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)  # TensorFlow's ε


def _blocks() -> list[tuple[int, int, int, int, int]]:
    """Return (channels, output channels, kernel, stride, expansion) of each block."""
    blocks, channels = [], _STEM
    for repeats, kernel, stride, expansion, out in _STAGES:
        for i in range(repeats):
            blocks.append((channels, out, kernel, stride if i == 0 else 1, expansion))
            channels = out
    return blocks


def _geometry() -> dict[str, LayerInfo]:
    # Where "same" puts the first window depends on the picture's size: `first` is not known.
    field, stride = 3, 2
    infos = {"stem": LayerInfo(_STEM, stride, field)}
    for i, (_, out, kernel, step, _) in enumerate(_blocks()):
        field += (kernel - 1) * stride
        stride *= step
        infos[f"block{i}"] = LayerInfo(out, stride, field)
    return infos
