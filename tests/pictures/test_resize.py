"""Sizes, and what resizing does to a picture."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nstbench.errors import UserError
from nstbench.pictures.resize import resize, shape_for

sides = st.integers(1, 4000)
sizes = st.integers(16, 2048)


@pytest.mark.parametrize(
    ("size_is", "shape"),
    [("long_edge", (384, 512)), ("short_edge", (512, 683)), ("area", (443, 591))],
)
def test_the_tuebingen_photograph_at_512(size_is: str, shape: tuple[int, int]) -> None:
    assert shape_for(768, 1024, 512, size_is) == shape


@given(sides, sides, sizes)
def test_the_named_edge_is_exact(height: int, width: int, size: int) -> None:
    assert max(shape_for(height, width, size, "long_edge")) == size
    assert min(shape_for(height, width, size, "short_edge")) == size


@given(sides, sides, sizes, st.sampled_from(["long_edge", "short_edge", "area"]))
def test_the_aspect_ratio_is_kept_within_half_a_pixel_a_side(h: int, w: int, size: int, size_is: str) -> None:
    new_h, new_w = shape_for(h, w, size, size_is)
    scale = {"long_edge": size / max(h, w), "short_edge": size / min(h, w), "area": size / math.sqrt(h * w)}
    assert new_h == 1 or abs(new_h - h * scale[size_is]) <= 0.5 + 1e-6
    assert new_w == 1 or abs(new_w - w * scale[size_is]) <= 0.5 + 1e-6


@given(st.integers(50, 4000), st.integers(50, 4000), st.integers(128, 2048))
def test_area_is_kept_within_a_few_per_cent(height: int, width: int, size: int) -> None:
    new_height, new_width = shape_for(height, width, size, "area")
    if min(new_height, new_width) >= 30:
        assert new_height * new_width == pytest.approx(size**2, rel=0.04)


@given(sides, sides)
def test_turning_a_picture_turns_its_shape(height: int, width: int) -> None:
    for size_is in ("long_edge", "short_edge", "area"):
        assert shape_for(height, width, 333, size_is) == shape_for(width, height, 333, size_is)[::-1]


def test_a_line_keeps_a_pixel_and_halves_round_up() -> None:
    assert shape_for(2, 4000, 100, "long_edge") == (1, 100)
    assert shape_for(5, 10, 1, "long_edge") == (1, 1)
    assert shape_for(3, 6, 5, "long_edge") == (3, 5)  # 2.5


def test_mistakes() -> None:
    with pytest.raises(UserError, match="size=0"):
        shape_for(10, 10, 0, "area")
    with pytest.raises(UserError, match="Did you mean long_edge"):
        shape_for(10, 10, 5, "longedge")


@settings(deadline=None, max_examples=30)
@given(
    st.floats(0, 1, width=32), st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.integers(1, 60)
)
def test_a_flat_picture_stays_flat(value: float, h: int, w: int, new_h: int, new_w: int) -> None:
    resized = resize(torch.full((2, 3, h, w), value), (new_h, new_w))
    assert resized.shape == (2, 3, new_h, new_w)
    assert float((resized - value).abs().max()) < 1e-5


def test_the_same_shape_changes_nothing() -> None:
    picture = torch.rand(1, 3, 17, 23)
    assert torch.equal(resize(picture, (17, 23)), picture)


def test_shrinking_averages_instead_of_picking_pixels() -> None:
    checks = (torch.arange(64)[:, None] + torch.arange(64)) % 2
    small = resize(checks.float().expand(1, 3, 64, 64), (16, 16))
    assert float((small - 0.5).abs().max()) < 0.02


def test_edges_do_not_overshoot_and_bicubic_is_sharp() -> None:
    step = torch.zeros(1, 3, 8, 8)
    step[..., 4:] = 1
    large = resize(step, (64, 64))
    assert (float(large.min()), float(large.max())) == (0, 1)
    row = large[0, 0, 32]
    assert int(((row > 0.05) & (row < 0.95)).sum()) <= 8  # bilinear would take all of a pixel: 8, and more
    assert float(row[:24].max()) == 0


def test_the_mean_and_the_place_of_things_are_kept() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 1, 60), torch.linspace(0, 1, 90), indexing="ij")
    picture = torch.stack([x, y, (x + y) / 2])[None]
    small = resize(picture, (20, 30))
    assert small.mean(dim=(2, 3))[0].tolist() == pytest.approx([0.5, 0.5, 0.5], abs=1e-3)
    assert float((small - picture[..., 1::3, 1::3]).abs().max()) < 0.01
    assert not resize(picture.requires_grad_(), (5, 5)).requires_grad


@pytest.mark.parametrize("shape", [(24, 31), (50, 67), (90, 101)])
def test_pillow_is_pillows_bilinear_filter_in_8_bits(shape: tuple[int, int]) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    picture = torch.from_numpy(levels.transpose(2, 0, 1).astype(np.float32) / 255)[None]
    theirs = Image.fromarray(levels).resize(shape[::-1], Image.Resampling.BILINEAR)
    ours = resize(picture, shape, "pillow")[0].permute(1, 2, 0).numpy() * 255
    np.testing.assert_allclose(ours, ours.round(), atol=1e-4)
    np.testing.assert_allclose(ours, np.asarray(theirs), atol=1.01)  # it rounds between rows and columns too
    assert (resize(picture, shape) * 255 - torch.from_numpy(ours).permute(2, 0, 1)).abs().max() > 5
