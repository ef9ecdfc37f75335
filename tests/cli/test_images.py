"""`nstbench images`, as a user runs it."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

import nstbench
from nstbench.cli.images import add_parser
from nstbench.errors import UserError
from nstbench.pictures.io import read_picture, read_provenance, write_png


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two procedural styles that cost nothing."""
    module = ModuleType("nstbench.pictures.procedural")
    module.STYLES = {n: SimpleNamespace(name=n, description=f"Many {n}") for n in ("strokes", "tiles")}
    module.generate = lambda name, size=512, seed=0: torch.rand(1, 3, 64, 64)
    monkeypatch.setitem(sys.modules, "nstbench.pictures.procedural", module)


def images(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    args = parser.parse_args(["images", *map(str, words)])
    status = args.func(args)
    assert isinstance(status, int)
    return status


def test_the_table_tells_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert images() == 0
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if "sample:chelsea" in line)
    for word in ("451×300", "Chelsea the cat", "content", "Stefan van der Walt", "CC0"):
        assert word in line  # one line each in a pipe: something to grep
    line = next(line for line in out.splitlines() if "procedural:strokes" in line)
    for word in ("512×512", "Many strokes", "style"):
        assert word in line


def test_only_the_names_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert images("sample:coffee", "procedural:tiles@3") == 0
    out = capsys.readouterr().out
    assert "sample:coffee" in out
    assert "procedural:tiles@3" in out
    assert "chelsea" not in out


def test_a_narrow_terminal_keeps_the_names_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    assert images() == 0
    out = capsys.readouterr().out
    assert "procedural:strokes " in out
    assert "sample:astronaut " in out


def test_an_unknown_name() -> None:
    with pytest.raises(UserError, match="Did you mean sample:chelsea"):
        images("sample:chelsey")
    with pytest.raises(UserError, match="Did you mean sample:chelsea"):
        images("sample:chelsey", "--sheet", "x.png")
    assert not Path("x.png").exists()


def test_a_sheet_of_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_png(tmp_path / "mine.png", torch.rand(3, 30, 40))
    path = tmp_path / "new folder" / "sheet.png"
    assert images("sample:chelsea", "procedural:strokes@2", tmp_path / "mine.png", "--sheet", path) == 0
    sheet = read_picture(path)
    assert sheet.shape[3] > 3 * 256 > sheet.shape[2] > 256
    assert read_provenance(path)["pictures"].splitlines()[:2] == ["sample:chelsea", "procedural:strokes@2"]
    assert "3 pictures" in capsys.readouterr().out


def test_a_sheet_of_all(tmp_path: Path) -> None:
    assert images("--sheet", tmp_path / "sheet.png") == 0
    assert len(read_provenance(tmp_path / "sheet.png")["pictures"].splitlines()) >= 15


def test_a_sheet_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Write --sheet .*sheet\.png"):
        images("sample:chelsea", "--sheet", tmp_path / "sheet.jpg")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        images("sample:chelsea", "--sheet", tmp_path / "file" / "sheet.png")


def test_listing_loads_no_torch() -> None:
    code = (
        "import argparse, sys\n"
        "from nstbench.cli.images import add_parser\n"
        "parser = argparse.ArgumentParser(); add_parser(parser.add_subparsers())\n"
        "args = parser.parse_args(['images', 'sample:coffee']); args.func(args)\n"
        "print('heavy:', *[m for m in ('torch', 'skimage') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(nstbench.__file__).parents[1],
        check=False,
    )
    assert done.stdout.splitlines()[-1].strip() == "heavy:", done.stderr
