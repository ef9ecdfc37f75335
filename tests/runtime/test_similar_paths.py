from __future__ import annotations

from pathlib import Path

import pytest

from nstbench.cli import main
from nstbench.runtime.similar_paths import did_you_mean_path, similar_paths


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> Path:
    for name in ("networks/weights.style", "networks/other.txt", "networks/deep/vgg.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("networks/weights.styel", "networks/weights.style"),
        ("netwroks/weights.style", "networks/weights.style"),
        ("netwroks/weigths.style", "networks/weights.style"),
        ("networks/weights", "networks/weights.style"),
        ("networks/deep/vgg", "networks/deep/vgg.safetensors"),
        ("./networks/../networks/other.tx", "networks/../networks/other.txt"),
    ],
)
def test_the_whole_path_is_suggested(typed: str, meant: str, files: Path) -> None:
    assert similar_paths(typed) == [Path(meant)]
    assert similar_paths(files / typed) == [files / meant]
    assert did_you_mean_path(typed) == f"Did you mean {meant}?"


@pytest.mark.parametrize("typed", ["qqq", "qqq/weights.style", "networks/deepp", "a\0b", "x" * 5000, ""])
def test_nothing_is_suggested_where_nothing_is_similar(typed: str) -> None:
    assert did_you_mean_path(typed) == ""


def test_folders_where_a_folder_is_meant() -> None:
    assert similar_paths("networks/depe", folder=True) == [Path("networks/deep")]
    assert similar_paths("networks/weights.styel", folder=True) == []


def test_a_home_folder(monkeypatch: pytest.MonkeyPatch, files: Path) -> None:
    monkeypatch.setenv("HOME", str(files))
    assert similar_paths("~/networks/weights.styel") == [files / "networks/weights.style"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("encoder=vgg16 encoder.weights=networks/weights.styel", "networks/weights.style"),
        ("encoder.weights=netwroks/weights.style", "networks/weights.style"),
        ("encoder=torchvision encoder.weights=networks/weights", "networks/weights.style"),
        ("encoder=vgg16 encoder.weights=vgg61", "vgg16"),
        ("content=netwroks/other.txt", "networks/other.txt"),
        ("--config-dir=netwroks", "networks"),
    ],
)
def test_mistakes_in_settings_suggest_it(typed: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "size=48", *typed.split()]) == 2
    hint = capsys.readouterr().err.partition("Did you mean ")[2]
    assert meant in hint.partition("?")[0].split(" or ")


def test_mistakes_in_files_to_add_suggest_it(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["weights", "add", "vgg19"], ["images", "add", "neckarfront"]):
        main([*words, "networks/weights.styel"])
        assert "Did you mean networks/weights.style?" in capsys.readouterr().err
