"""The comparison of encoders: what it writes, who judges whom, and that it runs nothing twice."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks/ is not installed

from benchmarks import encoders
from nstbench.config.schema import Config
from nstbench.encoders.random import RandomVGG
from nstbench.errors import NonFiniteObjectiveError, UserError
from nstbench.metrics.base import Subject
from nstbench.metrics.style import GramDistance
from nstbench.pictures.io import read_picture
from nstbench.pictures.sheet import contact_sheet
from nstbench.runs.run import run
from nstbench.tracking.record import RunRecord

SMALL, PLAIN = "random,shape=vgg11,width=0.125", "random,shape=vgg11,width=0.125,normalize=false"
OTHER = "torchvision,weights=none"  # random as well, but no kin of the others
QUICK = ["--size", "48", "--steps", "2", "--output", "here", "--settings", "trainer.threads=1"]
QUICK += ["record.progress=false", "trainer=cpu"]


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def made(folder: str = "here") -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in Path(folder).glob("runs/*/canvas.png")}


def test_a_comparison(pair: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--encoders", SMALL, PLAIN, OTHER, "vgg19", "--contents", pair["photo"], "--texture"]
    asked += ["--styles", pair["painting"], *QUICK]
    encoders.main(asked)
    printed = capsys.readouterr().out

    # vgg19's weights are not here: it is left out, in one line that says how to get them.
    skipped = next(line for line in printed.splitlines() if line.startswith("skipped"))
    assert skipped.startswith("skipped vgg19: ")
    assert "nstbench weights fetch vgg19" in skipped
    rows = table_of(Path("here/encoders.csv"))
    assert {(row["encoder"], row["judge"]) for row in rows} == {
        (one, other) for one in (SMALL, PLAIN, OTHER) for other in (SMALL, PLAIN, OTHER)
    }
    assert len(rows) == 3 * 2 * 2 * 3  # encoders, canvases, a pair and a texture, judges
    assert len(made()) == 3 * 2 * 2
    for row in rows:
        assert (row["kin"] == "True") == ((row["encoder"] == OTHER) == (row["judge"] == OTHER))
        assert 0 < float(row["style_distance"]) < 2
        assert float(row["seconds_per_evaluation"]) > 0
        assert int(row["parameters"]) > 100_000
        assert bool(row["content_distance"]) == bool(row["ssim"]) == bool(row["content"])
    assert printed.count("style by others") == 2  # tables: of transfer and of textures

    photo, square = ("one\ntwo", torch.zeros(3, 36, 48)), ("one\ntwo", torch.zeros(3, 48, 48))
    cells = [photo, square, *[photo] * 6, *[square] * 8]  # content, style, six pictures; noise, style, six
    sheet = read_picture("here/sheet.png")
    assert sheet.shape == contact_sheet(cells, columns=2 + 3 * 2, title="gram").shape

    before, table, drawn = made(), Path("here/encoders.csv").read_bytes(), Path("here/sheet.png").read_bytes()
    Path("here/sheet.png").unlink()
    encoders.main(asked)
    assert capsys.readouterr().out.count("done before") == 12
    assert made() == before
    assert Path("here/encoders.csv").read_bytes() == table
    assert Path("here/sheet.png").read_bytes() == drawn


def test_a_run_that_diverges_is_left_out(
    pair: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(config: Config, run: Callable[[Config], Any] = run) -> Any:
        if config.encoder["seed"] == 7:
            raise NonFiniteObjectiveError("the objective is nan")
        return run(config)

    monkeypatch.setattr(encoders, "run", diverging)
    asked = ["--encoders", SMALL, f"{SMALL},seed=7", "--canvases", "pixels", "--contents", pair["photo"]]
    encoders.main([*asked, "--styles", pair["painting"], *QUICK])
    assert "failed: the objective is nan" in capsys.readouterr().out
    rows = table_of(Path("here/encoders.csv"))
    assert [(row["encoder"], row["judge"]) for row in rows] == [(SMALL, SMALL), (SMALL, f"{SMALL},seed=7")]
    assert Path("here/sheet.png").is_file()


def test_the_sheet_has_a_grid_per_loss_and_a_cell_for_what_is_missing() -> None:
    pictures = torch.rand(2, 1, 3, 32, 32)
    cases = [encoders.Case("a", "b", loss, "random", "pixels") for loss in ("gram", "mean")]
    done = {cases[0]: (pictures[0], RunRecord("", "completed", "", "", [], {}, {}))}
    sheet = encoders.sheet([], cases, done, {("a", "b"): (pictures[0], pictures[1])})
    grid = contact_sheet([("a\nb", pictures[0])] * 3, columns=3, title="gram")
    assert sheet.shape == (1, 3, 2 * grid.shape[2], grid.shape[3])
    upper, lower = sheet.chunk(2, dim=2)
    assert lower[..., 100:300, -270:-40].min() == 1  # the picture that is missing is white
    assert upper[..., 100:300, -270:-40].std() > 0.1


def test_by_others_leaves_out_the_encoder_itself_and_its_kin() -> None:
    def row(judge: str, style: float) -> encoders.Row:
        own = {"encoder": "random", "canvas": "pixels", "judge": judge, "style_distance": style}
        other = {"content_distance": 2 * style, "ssim": 0.5, "seconds_per_evaluation": 0.25}
        return {**own, **other, "kin": encoders.kin("random", judge), "parameters": 2_500_000}

    rows = [row("random", 0.1), row("random-plain", 0.2), row("vgg19", 0.6), row("alexnet", 0.8)]
    assert encoders.mean(rows, "style_distance", kin=False) == pytest.approx(0.7)
    assert encoders.mean(rows[:2], "style_distance", kin=False) is None
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(encoders.table(rows, "transfer"))
    numbers = console.export_text().split("random ")[-1].split()
    assert numbers == ["pixels", "0.7", "1.4", "0.5", "0.25", "2.50", "M", "(0.1)", "(0.2)", "0.6", "0.8"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("random", "random", True),
        ("random", "random-plain", True),
        ("procedural", "procedural,pooling=max", True),
        ("random", "procedural", False),
    ],
)
def test_kin_are_variants_of_one_option(one: str, other: str, same: bool) -> None:
    assert encoders.kin(one, other) is same
    assert encoders.kin(other, one) is same


def test_a_judge_measures_between_the_content_and_the_style_picture() -> None:
    content, style, canvas = torch.rand(3, 1, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    eyes = RandomVGG(shape="vgg11", width=0.125)
    judge = encoders.Judge(eyes, content, style)
    assert judge(content) == pytest.approx((1, 0))
    assert judge(style) == pytest.approx((0, 1))
    node = {"_target_": "nstbench.encoders.random.RandomVGG", "shape": "vgg11", "width": 0.125}
    metric, optimized = GramDistance(node), RandomVGG(shape="vgg11", width=0.125, seed=2)

    def gram_distance(picture: torch.Tensor) -> float:
        return metric(Subject(picture, content, [style], [1.0], optimized))

    assert judge(canvas)[0] == pytest.approx(gram_distance(canvas) / gram_distance(content), rel=1e-5)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--encoders", "proceduall"], "encoder=proceduall: there is no such option"),
        (["--encoders", "random,widht=2"], "widht=2: there is no such setting. Did you mean width"),
        (["--encoders", "vgg19"], "none of them can be used here"),
        (["--encoders", SMALL, "--losses", "grm"], "loss/style=grm: there is no such option"),
        (["--encoders", SMALL, "--styles", "sample:brik"], "Did you mean sample:brick"),
        (["--encoders", SMALL, "--contents"], "there is nothing to paint"),
    ],
)
def test_a_mistake_is_said_before_anything_runs(asked: list[str], message: str) -> None:
    with pytest.raises(UserError) as raised:
        encoders.main([*QUICK, *asked])
    assert message in str(raised.value)
    assert not Path("here").exists()
