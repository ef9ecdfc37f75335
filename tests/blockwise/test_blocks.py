"""Blocks of a picture, put together, have the feature maps of the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import random_features
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nstbench.blockwise.blocks import at, check_blocks, cut
from nstbench.encoders.base import Encoder
from nstbench.encoders.procedural.encoder import ProceduralVGG
from nstbench.encoders.random import RandomVGG
from nstbench.encoders.small import AlexNet, SqueezeNet
from nstbench.encoders.torchvision_model import TorchvisionModel
from nstbench.errors import UserError

PADDINGS = ["zeros", "reflect", "replicate", "none"]


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, height, width, generator=generator, dtype=torch.float64)


def random_weights(name: str, folder: Path) -> str:
    torch.save(random_features(name), folder / name)
    return str(folder / name)


def vgg(padding: str = "zeros", pooling: str = "max") -> Encoder:
    return RandomVGG("vgg11", width=0.05, normalize=False, pooling=pooling, padding=padding)  # type: ignore[arg-type]


def assemble(encoder: Encoder, x: Tensor, layers: list[str], tile: int) -> tuple[dict[str, Tensor], int]:
    """Return the maps of blocks put together, each position once, and the largest crop's pixels."""
    whole = encoder(x, layers)
    maps = {layer: torch.full_like(f, torch.nan) for layer, f in whole.items()}
    largest = 0
    for block in cut(encoder, layers, (x.shape[2], x.shape[3]), tile):
        crop = at(x, block.crop)
        largest = max(largest, crop.shape[2] * crop.shape[3])
        for layer, f in encoder(crop, block.layers).items():
            mine = at(f, block.inside[layer])
            there = at(maps[layer], block.whole[layer])
            assert there.shape == mine.shape
            assert bool(there.isnan().all()), "a position belongs to two blocks"
            there.copy_(mine)
    for layer in layers:
        torch.testing.assert_close(maps[layer], whole[layer], rtol=1e-11, atol=1e-13)
    return maps, largest


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("padding", PADDINGS)
@settings(max_examples=8, deadline=None)
@given(height=st.integers(60, 110), width=st.integers(60, 110), tile=st.integers(1, 60))
def test_blocks_of_any_size_are_the_whole(
    padding: str, pooling: str, height: int, width: int, tile: int
) -> None:
    if tile < 8:
        height, width = 61, 67  # a block for every few pixels
    layers = ["conv1_1", "relu2_1", "pool2", "relu3_2"]
    assemble(vgg(padding, pooling).double(), picture(height, width), layers, tile)


ENCODERS: dict[str, tuple[Callable[[Path], Encoder], list[str], int]] = {
    "procedural": (lambda _: ProceduralVGG(padding="reflect"), ["relu1_2", "relu4_1", "relu5_1"], 190),
    "deep vgg": (lambda _: vgg("replicate"), ["relu1_1", "relu5_2"], 230),
    "alexnet": (lambda f: AlexNet(random_weights("alexnet", f)), ["relu1", "pool1", "relu3", "pool5"], 301),
    "squeezenet": (
        lambda f: SqueezeNet(random_weights("squeezenet1_1", f), padding="reflect"),
        ["relu1", "pool1", "fire3", "fire5"],
        203,
    ),
    "resnet": (lambda _: TorchvisionModel("resnet18", "none"), ["relu", "maxpool", "layer2.0.add"], 231),
}


@pytest.mark.parametrize(("make", "layers", "size"), ENCODERS.values(), ids=ENCODERS.keys())
def test_other_encoders_strides_and_windows(
    make: Callable[[Path], Encoder], layers: list[str], size: int, tmp_path: Path
) -> None:
    encoder = make(tmp_path)
    check_blocks(encoder, layers, "blockwise.tile", 50)
    x = picture(size, size + 14)
    _, largest = assemble(encoder.double(), x, layers, 50)
    assert largest < size * (size + 14), "every crop is the whole picture: nothing was tested"


def test_normalized_activations() -> None:
    encoder = vgg()
    encoder.normalize_activations(torch.rand(1, 3, 64, 64))
    assemble(encoder.double(), picture(70, 75), ["relu1_1", "pool2", "relu3_1"], 20)


def test_crops_do_not_grow_with_the_picture() -> None:
    encoder = vgg()
    for size in (300, 900):
        crops = [block.crop for block in cut(encoder, ["relu3_1"], (size, size), 100)]
        assert max(rows.stop - rows.start for rows, _ in crops) <= 100 + 2 * 24
        assert len(crops) == (size // 100) ** 2


def test_encoders_that_see_everywhere_are_refused() -> None:
    with pytest.raises(UserError, match=r"blockwise\.tile=64: with circular padding"):
        check_blocks(vgg("circular"), ["relu1_1"], "blockwise.tile", 64)
    squeezing = TorchvisionModel("efficientnet_b0", "none")
    layer = next(name for name, info in squeezing.layers.items() if info.receptive_field is None)
    with pytest.raises(UserError, match="depends on the whole picture"):
        check_blocks(squeezing, [layer], "blockwise.tile", 64)


def test_a_receptive_field_that_is_not_what_it_says_is_found_out() -> None:
    encoder = TorchvisionModel("resnet18", "none")
    check_blocks(encoder, ["layer1.1.add"], "blockwise.tile", 64)
    info = encoder.layers["layer1.1.add"]
    encoder.layers = {**encoder.layers, "layer1.1.add": type(info)(info.channels, info.stride, 9)}
    with pytest.raises(UserError, match=r"layer1\.1\.add"):
        check_blocks(encoder, ["layer1.1.add"], "blockwise.tile", 64)
