"""Texture programs: the same number is the same texture, everywhere and always, and none is blank."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nstbench.training.textures import FAMILIES, texture

PROGRAMS = 512  # of conf/train.yaml


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(0, 100_000), st.integers(32, 192), st.integers(0, 2**32 - 1))
def test_a_picture_of_any_texture_at_any_size(number: int, size: int, seed: int) -> None:
    picture = texture(number).picture(seed, size)
    assert picture.dtype == np.uint8  # all of its values are colours
    assert picture.shape == (size, size, 3)
    again = texture(number).picture(seed, size)
    assert picture.tobytes() == again.tobytes()


def test_every_picture_of_a_texture_is_another() -> None:
    for number in range(40):
        program = texture(number)
        seeds = (0, 1, (0, number, 1), (0, number, 2))
        assert len({program.picture(seed, 48).tobytes() for seed in seeds}) == 4, number


@pytest.mark.parametrize("size", [33, 64])
def test_textures_are_drawn_in_any_order(size: int) -> None:
    """Nothing is left behind by one that changes another: grids and frequencies are shared."""
    forwards = [texture(n).picture(7, size).tobytes() for n in range(30)]
    backwards = [texture(n).picture(7, size).tobytes() for n in reversed(range(30))]
    assert forwards == backwards[::-1]


def test_every_family_is_drawn_early() -> None:
    families = [texture(number).family for number in range(300)]
    assert set(families) == set(FAMILIES)
    assert min(families.count(family) for family in FAMILIES) >= 5


def test_no_texture_that_is_trained_on_is_blank() -> None:
    for number in range(PROGRAMS):
        pictures = (texture(number).picture((0, number, k), 64) for k in range(3))
        assert any(picture.std(axis=(0, 1)).max() > 5 for picture in pictures), f"texture {number}"


def test_textures_differ_in_more_than_their_noise() -> None:
    """Mean colours of two pictures of one texture are closer than those of two textures."""
    pictures = np.stack([[texture(n).picture(s, 96) for s in range(2)] for n in range(60)])
    means = pictures.mean(axis=(2, 3))
    within = np.abs(means[:, 0] - means[:, 1]).mean()
    between = np.abs(means[:-1, 0] - means[1:, 1]).mean()
    assert between > 2.5 * within


@pytest.mark.parametrize("family", FAMILIES)
def test_a_texture_fills_its_pictures_whatever_their_size(family: str) -> None:
    """Its scale is in pixels: a larger picture shows more of it, and its grain is as fine."""
    numbers = [*islice((n for n in range(1000) if texture(n).family == family), 5)]
    fine = []
    for size in (64, 192):
        pictures = [texture(n).picture(3, size).astype(float) for n in numbers]
        fine.append(np.mean([np.abs(np.diff(p, axis=1)).mean() for p in pictures]))
    assert 0.5 < fine[0] / fine[1] < 2
