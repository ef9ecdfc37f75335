"""The network, its folding into convolutions, and the scaling of what is exported."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nstbench.encoders.preprocessing import Preprocessing
from nstbench.encoders.procedural.encoder import DEPTHS
from nstbench.training.export import exported
from nstbench.training.network import TextureNet
from nstbench.training.textures import texture
from nstbench.training.textures.fields import Array

WIDTHS = (4, 6, 8, 8, 8)


@pytest.fixture
def bank() -> Array:
    return np.stack([[texture(n).picture((0, n, k), 64) for k in range(2)] for n in range(8)])


@pytest.fixture
def net(bank: Array) -> TextureNet:
    """A small network after a few steps, so that its batch norms have seen something."""
    torch.manual_seed(0)
    net = TextureNet(WIDTHS)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    x = pictures(bank)
    for _ in range(5):
        optimizer.zero_grad()
        sum((m - 0.3).square().mean() for m in net(x)).backward()
        optimizer.step()
    return net.eval()


def pictures(bank: Array) -> Tensor:
    x = torch.from_numpy(bank[:, 0]).permute(0, 3, 1, 2).float() / 255
    return Preprocessing("torch")(x)


def chain(tensors: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """Run exported or folded tensors as a plain chain; return the last map of each block."""
    maps = []
    for block, depth in enumerate(DEPTHS, start=1):
        x = F.avg_pool2d(x, 2) if block > 1 else x
        for k in range(1, depth + 1):
            name = f"conv{block}_{k}"
            x = F.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], padding=1).relu()
        maps.append(x)
    return maps


def test_maps_are_those_of_a_vgg() -> None:
    maps = TextureNet(WIDTHS)(torch.rand(2, 3, 48, 32))
    assert [tuple(m.shape) for m in maps] == [(2, w, 48 >> i, 32 >> i) for i, w in enumerate(WIDTHS)]
    assert all(m.min().item() >= 0 for m in maps)


@torch.no_grad()
def test_folded_is_the_same_function(net: TextureNet, bank: Array) -> None:
    x = pictures(bank)
    folded = net.folded()
    assert len(folded) == 2 * sum(DEPTHS)
    for own, other in zip(net(x), chain(folded, x), strict=True):
        torch.testing.assert_close(own, other, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_exported_channels_have_one_size_and_are_the_same_function(net: TextureNet, bank: Array) -> None:
    x = pictures(bank)
    for own, scaled in zip(net(x), chain(exported(net, bank), x), strict=True):
        # Per channel one factor, the same at every position of every picture.
        factor = scaled.sum((0, 2, 3)) / own.sum((0, 2, 3)).clamp_min(1e-12)
        torch.testing.assert_close(scaled, own * factor.view(1, -1, 1, 1), atol=1e-4, rtol=1e-3)
        rms = scaled.square().mean((0, 2, 3)).sqrt()
        alive = own.square().mean((0, 2, 3)).sqrt()
        alive = alive > 0.3 * alive.median()
        assert alive.sum() >= len(alive) // 2
        # Measured on other crops of the same textures: about 1.
        assert float(rms[alive].min()) > 0.6
        assert float(rms[alive].max()) < 1.6


@torch.no_grad()
def test_the_size_is_exactly_1_on_the_pictures_it_is_measured_on(net: TextureNet) -> None:
    """A bank of one picture that looks alike everywhere: whichever crops are drawn, they are these."""
    tile = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    bank = np.tile(tile, (8, 8, 1))[None, None]  # 256 px: crops of 128 px are all the same
    x = pictures(bank)
    for scaled in chain(exported(net, bank, pictures=1), x):
        rms = scaled.square().mean((0, 2, 3)).sqrt()
        # All but those that hardly fire, which stay smaller.
        assert float(rms.max()) < 1 + 1e-3
        assert int(((rms - 1).abs() < 1e-3).sum()) > len(rms) // 2


@torch.no_grad()
def test_dead_channels_are_not_blown_up(net: TextureNet, bank: Array) -> None:
    block = net.blocks[1]
    assert isinstance(block, torch.nn.Sequential)
    norm = block[1]
    assert isinstance(norm, torch.nn.BatchNorm2d)
    for dead in (1, WIDTHS[1]):  # one channel, and all of a layer
        norm.weight[:dead], norm.bias[:dead] = 0.0, -1.0
        tensors = exported(net, bank)
        assert all(bool(torch.isfinite(t).all()) for t in tensors.values())
        assert float(tensors["conv2_1.weight"][:dead].abs().max()) == 0
