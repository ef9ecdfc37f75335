"""The samples are in the wheel, and finding them costs nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nstbench
from nstbench.pictures.io import read_picture
from nstbench.pictures.samples import SAMPLES


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_is_a_picture_with_its_papers(name: str) -> None:
    sample = SAMPLES[name]
    assert sample.name == name
    picture = read_picture(sample.path)
    assert min(picture.shape[-2:]) >= 300
    assert float(picture.std()) > 0.03
    assert sample.title
    assert sample.author
    assert sample.source
    assert sample.licence in ("CC0", "public domain", "no known copyright restrictions")


def test_there_are_content_and_style_pictures_and_some_in_colour() -> None:
    suits = [sample.suits for sample in SAMPLES.values()]
    assert suits.count("content") >= 5
    assert suits.count("style") >= 5
    for suited in ("content", "style"):
        chosen = [s for s in SAMPLES.values() if s.suits == suited]
        colour = [s for s in chosen if Image.open(s.path).mode == "RGB"]
        assert len(colour) >= 3


def test_the_rocket_is_adobe_rgb_and_comes_out_more_colourful() -> None:
    path = SAMPLES["rocket"].path
    raw = np.asarray(Image.open(path)).mean(axis=(0, 1)) / 255
    mean = read_picture(path).mean(dim=(0, 2, 3))
    assert float(mean[2] - mean[0]) > float(raw[2] - raw[0]) + 0.01  # the evening sky is bluer in sRGB


def test_listing_loads_neither_torch_nor_scikit_image() -> None:
    code = (
        "import sys; from nstbench.pictures.samples import SAMPLES\n"
        "assert all(s.path.is_file() for s in SAMPLES.values())\n"
        "print([m for m in ('torch', 'skimage', 'numpy', 'pooch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(nstbench.__file__).parents[1],
        check=False,
    )
    assert done.stdout.strip() == "[]", done.stderr
