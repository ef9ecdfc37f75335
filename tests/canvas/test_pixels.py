"""The canvas of pixels, in units of one's own."""

from __future__ import annotations

import pytest
import torch

from nstbench.canvas.noise import NOISES
from nstbench.canvas.pixels import Pixels
from nstbench.config import schema


def test_a_picture_painted_in_numbers_up_to_255_is_the_picture() -> None:
    picture = torch.rand(1, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    canvas = Pixels(range=255.0)
    canvas.paint(picture)
    torch.testing.assert_close(canvas(), picture, rtol=1e-6, atol=1e-7)
    assert float(canvas.pixels.detach().max()) > 200


def test_a_step_of_a_learning_rate_is_a_255th_of_the_way() -> None:
    """Of sign descent, as Adam's first step: lr in levels."""
    moved = {}
    for scale in (1.0, 255.0):
        canvas = Pixels(range=scale)
        canvas.paint(torch.full((1, 3, 2, 2), 0.5))
        optimizer = torch.optim.Adam(canvas.parameters(), lr=1.0)
        canvas().sum().backward()
        optimizer.step()
        moved[scale] = float((canvas() - 0.5).abs().mean().detach())
    assert moved[1.0] == pytest.approx(255 * moved[255.0], rel=1e-4)


def test_pixels_in_units_of_one_are_left_as_they_are() -> None:
    canvas = Pixels()
    canvas.paint(torch.rand(1, 3, 2, 2))
    assert canvas() is canvas.pixels


def test_black_to_white_is_a_distance() -> None:
    with pytest.raises(ValueError, match="range must be above 0"):
        Pixels(range=0)


def test_a_picture_painted_outside_the_bounds_is_moved_within() -> None:
    canvas = Pixels(range=255.0, bounded=True)
    canvas.paint(torch.tensor([-0.5, 0.5, 1.5]).view(1, 3, 1, 1))
    assert canvas.pixels.flatten().tolist() == [0.0, 127.5, 255.0]
    with torch.no_grad():
        canvas.pixels.add_(10)
    canvas.confine()
    assert canvas.pixels.flatten().tolist() == [10.0, 137.5, 255.0]


def test_the_schema_names_all_noises() -> None:
    assert tuple(NOISES) == schema.NOISES
