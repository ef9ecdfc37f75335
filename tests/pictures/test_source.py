"""From what a user types to a picture."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import nstbench
from nstbench.errors import UserError
from nstbench.pictures.io import write_png
from nstbench.pictures.source import load, names


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """A stand-in for the procedural pictures: two styles, and a record of what was generated."""
    made: list[tuple[str, int, int]] = []

    def generate(name: str, *, size: int = 512, seed: int = 0) -> Tensor:
        made.append((name, size, seed))
        return torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))

    module = ModuleType("nstbench.pictures.procedural")
    module.STYLES = {n: SimpleNamespace(name=n, description=f"Many {n}") for n in ("strokes", "tiles")}
    module.generate = generate
    monkeypatch.setitem(sys.modules, "nstbench.pictures.procedural", module)
    return made


def refusal(source: str) -> UserError:
    with pytest.raises(UserError) as caught:
        load(source, setting="pictures.style")
    assert caught.value.setting == "pictures.style"
    return caught.value


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "My cat (2)=final.v1.png"
    write_png(path, torch.full((3, 5, 7), 0.6))
    picture = load(str(path), setting="pictures.content")
    assert picture.name == "My-cat-2-final.v1"
    assert picture.pixels.shape == (1, 3, 5, 7)
    assert picture.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert picture.source == str(path)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("Tübingen", "Tübingen"),
        ("..hidden", "hidden"),
        ("???", "picture"),
        ("x" * 90, "x" * 40),
        ("a/b:c", "b-c"),
    ],
)
def test_names_are_safe_in_file_names(tmp_path: Path, stem: str, name: str) -> None:
    path = tmp_path / f"{stem}.png"
    path.parent.mkdir(exist_ok=True)
    write_png(path, torch.rand(3, 4, 4))
    assert load(f"{tmp_path}/{stem}.png", setting="picture").name == name


def test_a_sample() -> None:
    picture = load("sample:chelsea", setting="pictures.content")
    assert (picture.name, picture.source) == ("chelsea", "sample:chelsea")
    assert picture.pixels.shape == (1, 3, 300, 451)
    # The file's own hash, as scikit-image's registry states it.
    assert picture.sha256 == "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"


def test_a_procedural_picture_and_its_seed(calls: list[tuple[str, int, int]]) -> None:
    plain, zero, seven = (load(f"procedural:{s}", setting="x") for s in ("strokes", "strokes@0", "strokes@7"))
    assert calls == [("strokes", 512, 0), ("strokes", 512, 0), ("strokes", 512, 7)]
    assert [p.name for p in (plain, zero, seven)] == ["strokes", "strokes", "strokes-7"]
    assert plain.sha256 == zero.sha256 != seven.sha256
    assert torch.equal(plain.pixels, zero.pixels)
    assert seven.source == "procedural:strokes@7"


def test_the_hash_of_a_procedural_picture_is_that_of_its_8_bit_pixels(
    calls: list[tuple[str, int, int]], tmp_path: Path
) -> None:
    picture = load("procedural:tiles", setting="x")
    levels = np.round(picture.pixels[0].numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
    assert picture.sha256 == hashlib.sha256(levels.tobytes()).hexdigest()
    write_png(tmp_path / "tiles.png", picture.pixels)
    assert torch.equal(load(str(tmp_path / "tiles.png"), setting="x").pixels, picture.pixels)


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("sample:chelsae", "Did you mean sample:chelsea?"),
        ("sample:", "Names to choose from: sample:astronaut"),
        ("procedural:stroke", "Did you mean procedural:strokes?"),
        ("procedural:zzz@3", "Names to choose from: procedural:strokes, procedural:tiles."),
        ("procedural:strokes@x", "Write procedural:strokes@7, for example."),
        ("procedural:strokes@-1", "Write procedural:strokes@7, for example."),
        ("procedural:strokes@", "Write procedural:strokes@7, for example."),
        ("procedural:strokes@99999999999999", "Write procedural:strokes@7, for example."),
        ("procedural:strokes@٣", "Write procedural:strokes@7, for example."),
        ("chelsea", "Did you mean sample:chelsea?"),
        ("chelsea.jpg", "Did you mean sample:chelsea?"),
        ("samples:coffee", "Did you mean sample:coffee?"),
        ("strokes@7", "Did you mean procedural:strokes?"),
    ],
)
def test_misspellings(
    source: str,
    hint: str,
    calls: list[tuple[str, int, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    error = refusal(source)
    assert error.value == source or str(error.value) == source
    assert error.hint.startswith(hint)
    assert not calls


def test_a_neighbouring_file_is_likelier_than_a_sample(tmp_path: Path) -> None:
    write_png(tmp_path / "chelsea1.png", torch.rand(3, 4, 4))
    assert "chelsea1.png" in refusal(str(tmp_path / "chelsea.png")).hint


def test_a_broken_file_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not a picture")
    assert "not a picture" in refusal(str(tmp_path / "a.png")).reason


def test_names_can_all_be_loaded(calls: list[tuple[str, int, int]]) -> None:
    listed = names()
    assert {"sample:coffee", "procedural:strokes", "procedural:tiles"} <= set(listed)
    assert not calls  # nothing was generated to list them
    assert len(set(listed)) == len(listed)
    for source in ("sample:horse", "procedural:tiles"):
        assert load(source, setting="x").source == source


def test_importing_it_does_not_load_torch() -> None:
    code = "import sys, nstbench.pictures.source; print('torch' in sys.modules, 'skimage' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(nstbench.__file__).parents[1],
        check=True,
    )
    assert done.stdout.split() == ["False", "False"]


def test_the_background_and_the_limit_reach_the_file(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "a.png")
    green = (0.0, 1.0, 0.0)
    assert load(f"{tmp_path}/a.png", setting="x", background=green).pixels[0, :, 0, 0].tolist() == [0, 1, 0]
    corner = load("sample:horse", setting="x", background=green).pixels[0, :, 0, 0].tolist()
    assert corner == pytest.approx([110 / 255, 1, 110 / 255])  # white, of alpha 110
    with pytest.raises(UserError, match="limit of 15"):
        load(f"{tmp_path}/a.png", setting="x", max_pixels=15)


def test_a_real_procedural_picture() -> None:
    assert "procedural:glass" in names()
    picture = load("procedural:glass@3", setting="pictures.style")
    assert picture.name == "glass-3"
    assert picture.pixels.shape == (1, 3, 512, 512)
    assert 0 <= float(picture.pixels.min()) < 0.2 < 0.8 < float(picture.pixels.max()) <= 1
    assert picture.sha256 != load("procedural:glass", setting="pictures.style").sha256
