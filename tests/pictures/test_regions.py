"""Masks that need no file."""

from __future__ import annotations

import pytest
import torch

from nstbench.errors import UserError
from nstbench.pictures.regions import REGIONS
from nstbench.pictures.source import load

ALL = [f"{picture}/{region}" for picture, regions in REGIONS.items() for region in regions]


@pytest.mark.parametrize("source", ALL)
def test_a_mask_is_black_and_white_and_has_the_shape_of_its_picture(source: str) -> None:
    mask = load(source, setting="mask")
    assert mask.pixels.shape == load(source.partition("/")[0], setting="picture").pixels.shape
    assert set(mask.pixels.unique().tolist()) == {0.0, 1.0}
    assert 0.1 < mask.pixels.mean() < 0.9
    assert mask.source == source
    assert "/" not in mask.name


def test_the_cup_is_where_it_is_in_the_photograph() -> None:
    cup, table = (load(f"sample:coffee/{name}", setting="mask").pixels for name in ("cup", "table"))
    torch.testing.assert_close(cup + table, torch.ones_like(cup))
    for x, y in ((290, 160), (290, 25), (215, 280), (360, 290), (420, 70), (100, 150), (470, 230)):
        assert cup[0, 0, y, x] == 1, (x, y)  # coffee, rim, handle, spoon and its end, saucer
    for x, y in ((20, 20), (550, 50), (30, 350), (580, 390), (300, 5), (60, 120)):
        assert cup[0, 0, y, x] == 0, (x, y)


def test_the_sky_is_blue_and_the_hills_are_not() -> None:
    painting = load("procedural:strokes", setting="picture").pixels
    sky, hills = (load(f"procedural:strokes/{name}", setting="mask").pixels for name in ("sky", "hills"))
    blueness = painting[:, 2:] - painting[:, :1]
    assert (blueness * sky[:, :1]).sum() / sky[:, :1].sum() > 0.15
    assert (blueness * hills[:, :1]).sum() / hills[:, :1].sum() < -0.05


def test_masks_of_one_picture_have_hashes_of_their_own() -> None:
    assert len({load(source, setting="mask").sha256 for source in ALL}) == len(ALL)


@pytest.mark.parametrize("source", ["sample:coffee/cups", "sample:chelsea/cat", "procedural:strokes@7/sky"])
def test_what_is_no_region_is_refused(source: str) -> None:
    with pytest.raises(UserError) as caught:
        load(source, setting="pictures.guides.a.content")
    assert caught.value.setting == "pictures.guides.a.content"
    assert "/" in caught.value.hint
