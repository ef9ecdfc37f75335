"""Collages: every pixel is of the texture that its label says, and of a picture that may be used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nstbench.training.textures.collage import Collage, collage
from nstbench.training.textures.fields import Array

ALL = slice(0, 2)


def flat(programs: int = 12, pictures: int = 2, size: int = 48) -> Array:
    """A bank where texture n is one flat colour, of which n can be told."""
    bank = np.zeros((programs, pictures, size, size, 3), np.uint8)
    bank[:] = np.arange(programs)[:, None, None, None, None] * [20, 7, 1]
    return bank


def drawn(bank: Array, seed: int = 0, **more: object) -> Collage:
    settings = {"pictures": ALL, "batch": 4, "crop": 32, **more}
    return collage(bank, generator=torch.Generator().manual_seed(seed), **settings)  # type: ignore[arg-type]


def colours_of(labels: Tensor) -> Tensor:
    return (labels[:, None] * torch.tensor([20, 7, 1]).view(1, 3, 1, 1)) / 255


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    st.integers(0, 10**9),
    st.sampled_from([32, 48, 64, 80]),
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from([32, 47, 48, 96]),
)
def test_every_pixel_has_the_colour_of_its_label(
    seed: int, crop: int, batch: int, textures: int, size: int
) -> None:
    made = drawn(flat(size=size), seed, crop=crop, batch=batch, textures=textures, recolour=False)
    assert made.pictures.shape == (batch, 3, crop, crop)
    assert made.pictures.dtype == torch.float32
    assert made.labels.shape == (batch, crop, crop)
    torch.testing.assert_close(made.pictures, colours_of(made.labels), atol=1e-5, rtol=0)


def test_collages_mix_as_many_textures_as_they_may() -> None:
    counts = {n: set[int]() for n in (1, 2, 3)}
    for textures, found in counts.items():
        for seed in range(12):
            labels = drawn(flat(), seed, textures=textures).labels
            found |= {len(each.unique()) for each in labels}
    assert counts[1] == {1}
    assert max(counts[2]) == 2
    assert max(counts[3]) == 3
    assert 1 in counts[3]  # some are of one texture only


def test_all_textures_and_all_usable_pictures_are_drawn() -> None:
    bank = np.zeros((3, 8, 48, 48, 3), np.uint8)
    bank[:] = (np.arange(8) * 30)[:, None, None, None]
    shown, programs = set[int](), set[int]()
    for seed in range(40):
        made = drawn(bank, seed, pictures=slice(0, 6), recolour=False)
        shown |= {round(float(v)) for v in (made.pictures * 255 / 30).unique()}
        programs |= set(made.labels.unique().tolist())
    assert shown == set(range(6))
    assert programs == {0, 1, 2}


@pytest.mark.parametrize(("pictures", "value"), [(slice(0, 3), 0.0), (slice(3, 5), 1.0)])
def test_held_out_pictures_are_kept_apart(pictures: slice, value: float) -> None:
    bank = np.zeros((6, 5, 48, 48, 3), np.uint8)
    bank[:, 3:] = 255
    for seed in range(30):
        made = drawn(bank, seed, pictures=pictures, recolour=False)
        torch.testing.assert_close(made.pictures, torch.full_like(made.pictures, value))


def test_the_generator_decides_everything() -> None:
    bank = np.random.default_rng(0).integers(0, 256, (6, 2, 48, 48, 3), dtype=np.uint8)
    torch.manual_seed(1)
    first = drawn(bank, 5)
    torch.manual_seed(2)
    again, other = drawn(bank, 5), drawn(bank, 6)
    assert torch.equal(first.pictures, again.pictures)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.pictures, other.pictures)


def test_recolouring_turns_colours_and_keeps_the_rest() -> None:
    bank = np.random.default_rng(0).integers(0, 256, (6, 2, 48, 48, 3), dtype=np.uint8)
    plain, turned = drawn(bank, 3, batch=64, recolour=False, textures=1), drawn(bank, 3, batch=64, textures=1)
    assert 0 <= float(turned.pictures.min()) <= float(turned.pictures.max()) <= 1
    assert len(plain.labels.unique()) == len(turned.labels.unique()) == 6
    flat_once = drawn(flat(), 3, batch=64, textures=1)
    # The crops come first from the generator, so those left as they are can be told from the rest.
    kept = (flat_once.pictures - colours_of(flat_once.labels)).abs().amax((1, 2, 3)) < 1e-5
    assert 0.1 < float(kept.float().mean()) < 0.45  # a quarter
    # A flat colour stays flat whatever it is turned to.
    assert float(flat_once.pictures.std((2, 3)).max()) < 1e-5
