"""Pictures of a folder as the values of a sweep."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import with_tiny
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

from nstbench.cli import main
from nstbench.cli.file_patterns import expand_patterns
from nstbench.errors import UserError

NAMES = ("b.jpg", "a.jpg", "c, d.jpg", "e=f.jpg", "g h's.jpg", 'i"j".jpg', "[k](l).jpg", "ü${m}.jpg", "z.png")


def values(*typed: str) -> list[list[str]]:
    """Return what Hydra sweeps over, of each override."""
    expanded, _ = expand_patterns(typed, sweep=True)
    found = []
    for override in OverridesParser.create().parse_overrides(expanded):
        each = (
            [
                OverridesParser.create().parse_overrides([f"a={v}"])[0].value()
                for v in override.sweep_string_iterator()
            ]
            if override.is_sweep_override()
            else [override.value()]
        )
        found.append([str(getattr(v, "text", v)) for v in each])
    return found


@pytest.fixture
def paintings() -> Path:
    folder = Path("paintings")
    (folder / "old" / "older").mkdir(parents=True)
    for name in (*NAMES, "old/n.jpg", "old/older/o.JPG", "notes.txt", "Thumbs.db"):
        (folder / name).touch()
    return folder


def paths(*names: str) -> list[str]:
    return [f"paintings/{name}" for name in names]


def test_files_are_sorted_and_their_names_survive_hydra(paintings: Path) -> None:
    names = [n for n in NAMES if n.endswith(".jpg") and "$" not in n]
    found, *_ = values("style=glob(paintings/*.jpg, exclude=*$*)")
    assert found == sorted(paths(*names))


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("glob(paintings/?.jpg)", ("a.jpg", "b.jpg")),
        ("paintings/?.jpg", ("a.jpg", "b.jpg")),
        ("glob(paintings/?.*)", ("a.jpg", "b.jpg", "z.png")),
        ("glob([paintings/a*, paintings/z*])", ("a.jpg", "z.png")),
        ("glob(paintings/?.*, exclude=b.jpg)", ("a.jpg", "z.png")),
        ("glob(include=paintings/?.*,exclude=[paintings/b*,*.png])", ("a.jpg",)),
        ("glob('paintings/c, *.jpg')", ("c, d.jpg",)),
        ("glob(paintings/**/?.[jJ]*)", ("a.jpg", "b.jpg", "old/n.jpg", "old/older/o.JPG")),
        ("paintings/z.png,paintings/?.jpg", ("z.png", "a.jpg", "b.jpg")),
    ],
)
def test_patterns(paintings: Path, typed: str, found: tuple[str, ...]) -> None:
    assert values(f"pictures.content={typed}") == [paths(*found)]


def test_only_pictures_match_a_pattern_without_a_suffix(paintings: Path) -> None:
    found, *_ = values("style=glob(paintings/*,exclude=*$*)")
    assert len(found) == len(NAMES) - 1
    assert not any(name.endswith((".txt", ".db", "old")) for name in found)


def test_absolute_and_home_folders(paintings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path.cwd()
    monkeypatch.setenv("HOME", str(here))
    absolute = [[str(here / "paintings" / name) for name in ("a.jpg", "b.jpg")]]
    assert values("style=glob(~/paintings/?.jpg)") == absolute
    assert values(f"style={here}/paintings/?.jpg") == absolute


def test_built_in_pictures_match_too() -> None:
    found, *_ = values("style=glob(procedural:*,exclude=*batik)")
    assert "procedural:strokes" in found
    assert "procedural:batik" not in found


def test_a_file_with_a_star_in_its_name_is_itself() -> None:
    Path("a*b.jpg").touch()
    assert expand_patterns(["style=a*b.jpg"], sweep=True) == (["style=a*b.jpg"], [])


def test_how_many_there_are_is_noted(paintings: Path) -> None:
    typed = ["style=glob(paintings/*.jpg,exclude=[b*,*m*])", "seed=0,1", "content=paintings/z*"]
    assert expand_patterns(typed, sweep=True)[1] == [
        "style has 6 values from paintings/*.jpg without b*, *m*",
        "content has 1 value from paintings/z*",
    ]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("glob(gone/*.jpg)", "no picture matches this pattern. The folder gone does not exist."),
        (
            "glob(paintings/*.webp)",
            "no picture matches this pattern. There are 8 files that end in .jpg there: "
            "type 'style=glob(paintings/*.jpg)'.",
        ),
        ("paintings/q*.jpg", "no picture matches this pattern. There are 8 files"),
        ("glob(paintings/*,exclude=*)", "exclude removes all pictures. Remove exclude="),
        ("glob()", "it contains no pattern. Type style=glob(paintings/*.jpg)"),
        ("glob(~nobody2/*.jpg)", "there is no user nobody2 on this machine"),
        ("glob(sample:q*)", "no picture matches this pattern. `nstbench images`"),
    ],
)
def test_a_pattern_that_matches_nothing(paintings: Path, typed: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        expand_patterns([f"style={typed}"], sweep=True)
    assert said in str(caught.value)
    assert caught.value.setting == "pictures.style"


@pytest.mark.parametrize("typed", ["paintings/*.jpg", "glob(paintings/*.jpg)"])
def test_without_m_it_is_said_what_to_type(
    paintings: Path, typed: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", f"style={typed}"]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert "stands for several values. Type -m 'style=glob(paintings/*.jpg)' for a run" in err
    assert not Path("outputs").exists()


def test_a_sweep_over_a_folder(pair: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    Path("my paintings").mkdir()
    for i, name in enumerate(("a,b.png", "c=d [e].png", "f's.png")):
        Image.open(pair["painting"]).rotate(90 * i).save(f"my paintings/{name}")
    swept = [f"content={pair['photo']}", "style=glob(my paintings/*)", "seed=0,1"]
    assert main(["run", *with_tiny("-m", *swept, "hydra/launcher=batched")]) == 0
    out = capfd.readouterr().out
    assert out.startswith("6 runs: style has 3 values from my paintings/*\n")
    assert "6 runs: 6 completed, 0 failed" in out
    records = [json.loads(file.read_text()) for file in Path().glob("outputs/first/*/run.json")]
    found = {re.search(r"my paintings/.*png", str(r["overrides"]))[0] for r in records}  # type: ignore[index]
    assert len(found) == 3
