"""The network that is trained, and the folding of its batch norms into convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nstbench.encoders.procedural.encoder import DEPTHS, WIDTHS


class TextureNet(nn.Module):
    """A small VGG: blocks of 3×3 convolutions, batch norm and ReLU, with average pooling between them.

    Args:
        widths: Number of channels of each block.
        depths: Number of convolutions of each block.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS, depths: Sequence[int] = DEPTHS) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        channels = 3
        for width, depth in zip(widths, depths, strict=True):
            block: list[nn.Module] = []
            for _ in range(depth):
                conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
                block += [conv, nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            self.blocks.append(nn.Sequential(*block))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the last feature map of each block for normalised pictures ``(B, 3, H, W)``."""
        return self.last_of_blocks(self.layers(x))

    def layers(self, x: Tensor) -> dict[str, Tensor]:
        """Return the maps ``relu1_1``, …, in their order, for normalised pictures ``(B, 3, H, W)``."""
        maps = {}
        for i, block in enumerate(self.blocks):
            x = F.avg_pool2d(x, 2) if i else x
            assert isinstance(block, nn.Sequential)
            for k, layer in enumerate(block):
                x = layer(x)
                if isinstance(layer, nn.ReLU):
                    maps[f"relu{i + 1}_{k // 3 + 1}"] = x
        return maps

    def last_of_blocks(self, maps: dict[str, Tensor]) -> list[Tensor]:
        """Return the last map of each block, of those that `layers` returned."""
        return list({name[4]: x for name, x in maps.items()}.values())

    @torch.no_grad()
    def folded(self) -> dict[str, Tensor]:
        """Return weights and biases of convolutions equal to those with batch norm in evaluation mode.

        γ·(w∗x - μ)/√(σ² + ε) + β is a convolution with weight γw/√(σ² + ε) and bias
        β - γμ/√(σ² + ε). Keys: ``conv1_1.weight``, ``conv1_1.bias``, …
        """
        tensors = {}
        for b, block in enumerate(self.blocks, start=1):
            assert isinstance(block, nn.Sequential)
            for k in range(len(block) // 3):
                conv, norm = block[3 * k], block[3 * k + 1]
                assert isinstance(conv, nn.Conv2d)
                assert isinstance(norm, nn.BatchNorm2d)
                assert norm.running_mean is not None
                assert norm.running_var is not None
                scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
                name = f"conv{b}_{k + 1}"
                tensors[f"{name}.weight"] = conv.weight * scale.view(-1, 1, 1, 1)
                tensors[f"{name}.bias"] = norm.bias - norm.running_mean * scale
        return {name: t.float().contiguous() for name, t in tensors.items()}
