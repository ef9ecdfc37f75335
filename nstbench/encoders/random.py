"""A VGG-shaped encoder with random weights: a baseline that needs no download."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from nstbench.encoders.base import ChainEncoder, Padding, Pooling
from nstbench.encoders.calibration import calibration_photographs
from nstbench.encoders.vgg import DEFAULT_LAYERS, Architecture, vgg_layers


class RandomVGG(ChainEncoder):
    """A VGG with random weights, every channel normalised on photographs.

    He, Wang & Hopcroft (2016, "A Powerful Generative Model Using Random Weights for the Deep Image
    Representation") show that random weights suffice for texture and style synthesis, given a
    sensible scale per layer. Here the weights are drawn from N(0, 2/fan_in) with no bias; with
    ``normalize``, each convolution is then scaled so that every channel has a standard deviation of
    1 before its ReLU over a fixed set of photographs: no channel dominates a Gram matrix.
    Channels are not centred: centred, all respond to details, and pictures become speckled.

    Args:
        shape: Architecture: the VGG whose layers are used.
        width: Factor of the number of channels of every layer.
        seed: Seed of the weights; the run's own ``seed`` does not change the encoder.
        normalize: Whether to scale the channels as above.
        pooling: Kind of pooling, ``max`` or ``average``.
        padding: Padding of the convolutions.
    """

    def __init__(
        self,
        shape: Architecture = "vgg19",
        width: float = 0.5,
        seed: int = 0,
        normalize: bool = True,
        pooling: Pooling = "average",
        padding: Padding = "reflect",
    ) -> None:
        layers = vgg_layers(shape, width=width, pooling=pooling, padding=padding)
        generator = torch.Generator().manual_seed(seed)
        for conv in (m for m in layers.values() if isinstance(m, nn.Conv2d)):
            fan_in = conv.weight[0].numel()
            weight = torch.randn(conv.weight.shape, generator=generator) * (2 / fan_in) ** 0.5
            conv.weight.data = weight
            assert conv.bias is not None
            conv.bias.data.zero_()
        super().__init__(layers, "torch", DEFAULT_LAYERS)
        if normalize:
            self._normalize_channels(self.preprocessing(calibration_photographs(size=96)))
        # A hash of the recipe, not of the tensors: their last bits differ between processors, and a sweep
        # continued on another node must find the same fingerprints.
        recipe = f"RandomVGG 1: {shape} width={width} seed={seed} normalize={normalize}"
        self.weights_sha256 = hashlib.sha256(recipe.encode()).hexdigest()

    @torch.no_grad()
    def _normalize_channels(self, x: Tensor) -> None:
        for module in self.chain.values():
            if isinstance(module, nn.Conv2d):
                spread = module(x).std(dim=(0, 2, 3)).clamp_min(1e-6)
                module.weight.div_(spread.view(-1, 1, 1, 1))
            x = module(x)
