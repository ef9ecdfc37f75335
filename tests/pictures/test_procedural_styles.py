"""The procedural styles: pictures that look made, not like noise, and the same in every process."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import nstbench
from nstbench.errors import UserError
from nstbench.pictures.procedural import STYLES, Style, generate
from nstbench.pictures.procedural.field import from_oklab, noise, ramp, reduce, to_oklab

NAMES = list(STYLES)
REQUIRED = {"strokes", "glass", "mosaic", "hatching", "pointillism", "woodcut"}


@cache
def painted(name: str, size: int = 128, seed: int = 0) -> torch.Tensor:
    return generate(name, size=size, seed=seed)


def pixels(name: str, size: int = 128, seed: int = 0) -> np.ndarray:
    return painted(name, size, seed)[0].permute(1, 2, 0).double().numpy()


def digest(picture: torch.Tensor) -> str:
    return hashlib.sha256(picture.numpy().tobytes()).hexdigest()


def python(code: str) -> str:
    root = Path(nstbench.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_enough_styles_and_each_says_what_it_is() -> None:
    assert set(STYLES) >= REQUIRED
    assert len(STYLES) >= 8
    assert all(isinstance(s, Style) and s.name == n for n, s in STYLES.items())
    assert all(20 < len(s.description) < 80 for s in STYLES.values())
    assert len({s.description for s in STYLES.values()}) == len(STYLES)


def test_listing_the_styles_loads_nothing_heavy() -> None:
    loaded = python(
        "import sys; from nstbench.pictures.procedural import STYLES; print(len(STYLES));"
        "heavy = {'torch', 'scipy', 'skimage', 'PIL', 'numpy'};"
        "print(*sorted({m.split('.')[0] for m in sys.modules} & heavy))"
    ).split()
    assert loaded == [str(len(STYLES)), "numpy"]


@pytest.mark.parametrize("name", NAMES)
def test_picture_is_a_picture_on_8_bit_levels(name: str, tmp_path: Path) -> None:
    picture = painted(name)
    assert picture.shape == (1, 3, 128, 128)
    assert picture.dtype == torch.float32
    assert picture.is_contiguous()
    assert 0 <= picture.min() < 0.35
    assert 0.65 < picture.max() <= 1
    levels = (picture[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    Image.fromarray(levels).save(tmp_path / "style.png")
    read = torch.from_numpy(np.array(Image.open(tmp_path / "style.png"))).permute(2, 0, 1)[None].float() / 255
    assert torch.equal(read, picture)


def test_the_same_bytes_in_another_process() -> None:
    code = (
        "import hashlib, json, torch; from nstbench.pictures.procedural import STYLES, generate;"
        "torch.set_num_threads(1);"
        "print(json.dumps({n: hashlib.sha256(generate(n, size=128, seed=0).numpy().tobytes()).hexdigest()"
        " for n in STYLES}))"
    )
    assert json.loads(python(code)) == {name: digest(painted(name)) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_is_visibly_another_picture(name: str) -> None:
    difference = np.abs(pixels(name, seed=0) - pixels(name, seed=1)).mean()
    assert difference > 0.06


@pytest.mark.parametrize("name", NAMES)
def test_the_size_does_not_change_the_composition(name: str) -> None:
    coarse, fine = reduce(pixels(name, 256), 8), reduce(pixels(name, 352), 11)
    assert np.corrcoef(coarse.ravel(), fine.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("name", NAMES)
def test_there_is_large_form_and_fine_structure_and_it_is_not_noise(name: str) -> None:
    picture = pixels(name, 256)
    shuffled = np.random.default_rng(0).permutation(picture.reshape(-1, 3)).reshape(picture.shape)

    def likeness(p: np.ndarray, lag: int) -> float:
        """Correlation of the lightness with itself, some pixels to the right and below."""
        light = p.mean(axis=2)
        pairs = (light[:, lag:], light[:, :-lag]), (light[lag:], light[:-lag])
        return float(np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs]))

    assert likeness(picture, 4) > 0.15 > 5 * abs(likeness(shuffled, 4))
    # Large form: an eighth of the picture differs from the next far more than averages of noise do.
    assert reduce(picture, 32).std(axis=(0, 1)).max() > 0.04 > 3 * reduce(shuffled, 32).std(axis=(0, 1)).max()
    # Fine structure: much of the contrast is lost when details of 8 pixels are averaged.
    detail = picture - np.kron(reduce(picture, 8), np.ones((8, 8, 1)))
    assert detail.std() > 0.05


@pytest.mark.parametrize("name", NAMES)
def test_the_palette_is_rich(name: str) -> None:
    lab = to_oklab(pixels(name, 256)).reshape(-1, 3)
    assert lab[:, 0].std() > 0.11
    if name != "hatching":  # one ink
        chroma = np.hypot(lab[:, 1], lab[:, 2])
        assert chroma.mean() > 0.048
        assert np.linalg.det(np.cov(lab.T)) ** (1 / 6) > 0.035  # spread in all three directions


def test_no_two_styles_share_a_palette() -> None:
    histograms = []
    for name in NAMES:
        bins = (pixels(name) * 3.999).astype(int) @ (16, 4, 1)
        histograms.append(np.bincount(bins.ravel(), minlength=64) / bins.size)
    for i, a in enumerate(histograms):
        for b in histograms[:i]:
            assert np.minimum(a, b).sum() < 0.75


@pytest.mark.parametrize("size", [1, 17, 64, 100, 257])
def test_any_size_will_do(size: int) -> None:
    for name in ("glass", "hatching", "woodcut", "watercolour"):
        picture = generate(name, size=size, seed=3)
        assert picture.shape == (1, 3, size, size)
        assert torch.isfinite(picture).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_painting_is_quick(name: str) -> None:
    generate(name, size=64)  # imports
    start = time.process_time()
    generate(name, size=512, seed=5)
    # About 0.2 to 1 s on one core; the bound leaves room for a slower one.
    assert time.process_time() - start < 6


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_large_pictures_keep_the_look(name: str) -> None:
    coarse, large = (
        reduce(pixels(name, 256), 8),
        reduce(generate(name, size=2048)[0].permute(1, 2, 0).numpy(), 64),
    )
    assert np.corrcoef(coarse.ravel(), large.ravel())[0, 1] > 0.97


def test_an_unknown_style_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError) as error:
        generate("stroke")
    assert str(error.value) == (
        "picture=procedural:stroke: there is no such procedural style. Did you mean strokes?"
    )
    with pytest.raises(UserError, match="Procedural styles to choose from: strokes, glass"):
        generate("xyzzy")


@pytest.mark.parametrize(("setting", "value"), [("size", 0), ("size", -3), ("seed", -1)])
def test_impossible_settings_are_refused(setting: str, value: int) -> None:
    with pytest.raises(UserError, match=f"{setting}={value}"):
        generate("glass", **{setting: value})


@given(st.tuples(*[st.floats(0, 1)] * 3))
def test_oklab_and_back(rgb: tuple[float, float, float]) -> None:
    colour = np.array(rgb)
    assert np.allclose(from_oklab(to_oklab(colour)), colour, atol=1e-6)


def test_oklab_of_known_colours() -> None:
    # Ottosson (2020): white has L = 1 and no chroma; sRGB red is (0.628, 0.225, 0.126).
    assert np.allclose(to_oklab(np.ones(3)), [1, 0, 0], atol=1e-4)
    assert np.allclose(to_oklab(np.array([1.0, 0, 0])), [0.628, 0.225, 0.126], atol=1e-3)


def test_a_ramp_begins_and_ends_with_its_colours() -> None:
    colours = np.array([[0.1, 0.2, 0.3], [0.9, 0.5, 0.1], [0.2, 0.8, 0.4]])
    assert np.allclose(
        ramp(np.array([-1.0, 0.0, 0.5, 1.0, 2.0]), colours), colours[[0, 0, 1, 2, 2]], atol=1e-6
    )


def test_noise_is_one_field_at_every_size() -> None:
    coarse, fine = (noise(n, np.random.default_rng(4), (6, 9), octaves=2) for n in (64, 192))
    assert np.abs(reduce(fine, 3) - coarse).max() < 0.12
    many = np.array([noise(64, np.random.default_rng(k), 8) for k in range(20)])
    assert abs(many.mean()) < 0.1
    assert 0.85 < many.std() < 1.15
