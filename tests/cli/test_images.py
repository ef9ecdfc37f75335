"""`nstbench images`, as a user runs it."""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from loopback import Server, serving, status, whole
from PIL import Image

import nstbench
from nstbench.cli.images import add_parser
from nstbench.downloads import fetch
from nstbench.errors import UserError
from nstbench.pictures.io import read_picture, read_provenance, write_png
from nstbench.pictures.papers.picture import PaperPicture
from nstbench.pictures.papers.registry import PAPERS


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
        "args = parser.parse_args(['images', 'sample:coffee', 'gatys2016', 'neckarfront']); args.func(args)\n"
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


# The pictures of papers


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


BODIES = {"sea": jpeg(1), "sky": jpeg(2), "tree": jpeg(3), "face": jpeg(4)}
OFFERED = {"sea": {"died": 1900}, "sky": {"licence": "CC BY 3.0"}, "tree": {"licence": "CC BY-SA 2.0"}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A registry of four pictures: free, by attribution, with a condition, and protected."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetch, "WAIT_S", 0.0)
    with serving() as server:
        mine = {}
        for key, body in BODIES.items():
            mine[key] = PaperPicture(
                key,
                title=f"The {key}",
                author="A. Nonym",
                figures={"gatys2016": "fig. 3"},
                urls=(server.offer(f"/{key}.jpg", whole(body, "image/jpeg")),),
                page=f"http://127.0.0.1/{key}",
                md5=hashlib.md5(body).hexdigest(),
                **OFFERED.get(key, {"died": date.today().year}),  # type: ignore[arg-type]
            )
        # Put back in its own order, which the page of docs/pictures.md has.
        registry = dict(PAPERS)
        PAPERS.clear()
        PAPERS.update(mine)
        yield server
        PAPERS.clear()
        PAPERS.update(registry)


def here() -> set[str]:
    folder = Path(os.environ["NSTBENCH_PICTURES"])
    return {path.stem for path in folder.glob("*.jpg")} if folder.exists() else set()


def test_the_table_tells_of_each_picture_where_it_is(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert images("fetch", "sea") == 0
    capsys.readouterr()
    assert images() == 0
    out = capsys.readouterr().out
    lines = {key: next(line for line in out.splitlines() if f"paper:{key}" in line) for key in BODIES}
    for key, state in {"sea": "here", "sky": "to fetch", "tree": "to fetch", "face": "to supply"}.items():
        for word in (f" {state} ", f"The {key}", "A. Nonym", "gatys2016, fig. 3", PAPERS[key].terms):
            assert word in lines[key]
    assert os.environ["NSTBENCH_PICTURES"] in out
    assert "sample:chelsea" in out


def test_one_picture_is_told_in_full(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("face", "paper:face"):
        assert images(name) == 0
        out = capsys.readouterr().out
        assert f"A. Nonym died in {date.today().year}: protected until {date.today().year + 70}" in out
        assert f"md5: {hashlib.md5(BODIES['face']).hexdigest()}" in out
        assert "sample:" not in out
    assert images("gatys2016") == 0
    out = capsys.readouterr().out
    assert all(f"paper:{key}" in out for key in BODIES)


def test_a_collection_is_fetched_as_far_as_it_may_be(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert images("fetch", "gatys2016") == 0
    assert here() == {"sea", "sky"}
    out = capsys.readouterr().out
    assert "“The sky” by A. Nonym, CC BY 3.0 (https://creativecommons.org/licenses/by/3.0/)" in out
    assert "paper:tree: not fetched. Type `nstbench images fetch tree --accept-licence cc-by-sa-2.0`" in out
    assert "paper:face: not fetched. It is not fetched by nstbench: A. Nonym died in" in out
    assert images("fetch", "gatys2016", "--accept-licence", "CC-BY-SA-2.0") == 0
    assert here() == {"sea", "sky", "tree"}
    assert sorted(path for path, _ in server.requests) == ["/sea.jpg", "/sky.jpg", "/tree.jpg"]


def test_one_that_fails_does_not_keep_the_others(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.offer("/sea.jpg", status(404))
    assert images("fetch", "sea", "sky") == 1
    assert here() == {"sky"}
    err = capsys.readouterr().err
    assert "paper:sea: could not fetch sea.jpg: http://127.0.0.1" in err
    assert "HTTP 404 Not Found." in err
    assert "1 of 2 pictures could not be fetched" in err
    with pytest.raises(UserError, match="HTTP 404 Not Found"):
        images("fetch", "sea")


def test_another_address(server: Server) -> None:
    moved = server.offer("/moved", whole(BODIES["sea"]))
    server.offer("/sea.jpg", status(410))
    assert images("fetch", "sea", "--url", moved) == 0
    assert here() == {"sea"}
    for words, reason in (
        (("sea", "sky", "--url", moved), "it is one URL for 2 pictures"),
        (("sky", "--url", "ftp://x/y"), "it is not a URL"),
        (("face", "--url", moved), "the user must supply this picture"),
    ):
        with pytest.raises(UserError, match=reason):
            images("fetch", *words)


def test_add_and_verify(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.jpg"
    mine.write_bytes(BODIES["face"])
    assert images("add", "face", mine) == 0
    assert "Another copy" not in capsys.readouterr().out
    mine.write_bytes(jpeg(9))
    assert images("add", "paper:face", mine) == 0
    assert "Another copy than others have used (md5 " in capsys.readouterr().out
    with pytest.raises(UserError, match="its md5 is"):
        images("add", "sea", mine)
    assert images("verify") == 0
    out = capsys.readouterr().out
    sha256 = hashlib.sha256(jpeg(9)).hexdigest()
    assert f"paper:face: ok, {os.environ['NSTBENCH_PICTURES']}/face.jpg (40×30, sha256 {sha256})" in out
    assert "paper:sea: missing" in out
    assert images("verify", "sea") == 1  # it was asked for, and is not verified
    (Path(os.environ["NSTBENCH_PICTURES"]) / "face.jpg").write_bytes(jpeg(9)[:-200])
    assert images("verify", "face") == 1
    assert "paper:face: damaged, images=paper:face: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fetch"], "a picture or a collection is needed"),
        (["fetch", "seaa"], "Did you mean sea"),
        (["fetch", "sea", "--accept-licence", "cc-by-sa-3.0"], "Did you mean cc-by-sa-2.0"),
        (["add", "face"], "a KEY and a FILE are needed"),
        (["add", "fase", "x.jpg"], "Did you mean face"),
        (["add", "face", "nowhere.jpg"], "there is no such file"),
        (["verify", "fase"], "Did you mean face"),
        (["paper:fase"], "Did you mean paper:face"),
        (["sea", "--url", "http://x"], "only fetch has this option"),
        (["fetch", "sea", "--sheet", "x.png"], "fetch draws no sheet"),
        (["face", "--sheet", "x.png"], "Did you mean paper:face"),
        (["paper:face", "--sheet", "x.png"], "this picture is not on this machine"),
    ],
)
def test_mistakes(server: Server, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        images(*words)
    assert server.requests == []
    assert here() == set()


def test_a_sheet_of_papers(server: Server, tmp_path: Path) -> None:
    assert images("fetch", "sea", "sky") == 0
    assert images("paper:sea", "paper:sky", "--sheet", tmp_path / "sheet.png") == 0
    assert read_provenance(tmp_path / "sheet.png")["pictures"] == "paper:sea\npaper:sky"
