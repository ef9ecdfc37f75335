"""Fronts and hypervolumes are what their definitions say; formulations are compared over all weights."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image
from synthetic_study import write_run

from nstbench.analysis.crossed_factors import Sample
from nstbench.analysis.grouping import group
from nstbench.analysis.records import read_study
from nstbench.analysis.tradeoff import Tradeoff, hypervolume, pareto_front, tradeoff
from nstbench.analysis.tradeoff_figure import draw, spread
from nstbench.cli import compare
from nstbench.errors import UserError

coordinates = some.integers(0, 8)  # few values: ties and equal points are frequent
clouds = some.lists(some.tuples(coordinates, coordinates), min_size=1, max_size=12)


def dominates(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] <= b[0] and a[1] <= b[1] and a != b


@given(clouds)
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    assert pareto_front(points).tolist() == [not any(dominates(q, p) for q in points) for p in points]


@given(clouds, some.tuples(coordinates, coordinates))
def test_the_hypervolume_is_the_number_of_unit_squares_dominated(
    points: list[tuple[int, int]], corner: tuple[int, int]
) -> None:
    squares = [any(x <= i and y <= j for x, y in points) for i in range(corner[0]) for j in range(corner[1])]
    assert hypervolume(points, corner) == sum(squares)


@given(clouds, some.tuples(coordinates, coordinates))
def test_one_more_point_never_takes_area_away(points: list[tuple[int, int]], more: tuple[int, int]) -> None:
    assert hypervolume([*points, more], (8, 8)) >= hypervolume(points, (8, 8))


def test_by_hand() -> None:
    points = [(1.0, 3.0), (2.0, 1.0), (2.5, 2.0), (3.0, 0.5), (5.0, 0.0)]
    assert pareto_front(points).tolist() == [True, True, False, True, True]
    assert hypervolume(points, (4.0, 4.0)) == 1 * 1 + 1 * 3 + 1 * 3.5  # the last lies beyond the corner
    assert hypervolume([], (1.0, 1.0)) == 0


WEIGHTS = (0.2, 2.0, 20.0)
STYLE = {"gram": (0.9, 0.5, 0.3), "mrf": (0.8, 0.4, 0.45)}  # lower is better
CONTENT = {"gram": (0.8, 0.6, 0.4), "mrf": (0.7, 0.6, 0.3)}  # higher is better


def sweep(folder: Path, *, noise: float = 0.0, contents: int = 3, styles: int = 3, seeds: int = 2) -> Path:
    rng = np.random.default_rng(0)
    for c in range(contents):
        for s in range(styles):
            for seed in range(seeds):
                for name in STYLE:
                    for style, content, weight in zip(STYLE[name], CONTENT[name], WEIGHTS, strict=True):
                        a, b = noise * rng.normal(size=2)
                        metrics = {"gram_distance": style + a, "ssim": content + b}
                        write_run(
                            folder, metrics, loss=name, content=f"c{c}", style=f"s{s}", seed=seed,
                            settings={"weights.style": weight},
                        )  # fmt: skip
    return folder


def read(folder: Path, style: str = "gram_distance", content: str = "ssim") -> Tradeoff:
    study = read_study(folder)
    return tradeoff(study, group(study, "loss.style"), style, content)


@pytest.fixture
def run_compare(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*typed: object) -> str:
        parser = argparse.ArgumentParser()
        compare.add_parser(parser.add_subparsers())
        args = parser.parse_args(["compare", *map(str, typed)])
        assert args.func(args) == 0
        return capsys.readouterr().out

    return run


def test_a_sweep_of_weights_becomes_points_fronts_and_areas(tmp_path: Path) -> None:
    found = read(sweep(tmp_path / "s"))
    points = found.points.set_index(["of", "at"])
    assert list(points.index[:3]) == [("gram", f"weights.style={w}") for w in ("0.2", "2", "20")]
    assert points.loc[("gram", "weights.style=20"), ["style", "content"]].tolist() == pytest.approx(
        [0.3, 0.4]
    )
    assert points["runs"].unique() == [18]
    assert points["on_front"].tolist() == [True, True, True, True, True, False]
    assert points["on_common_front"].tolist() == [True, False, True, True, True, False]
    assert (found.style_higher, found.content_higher, found.along) == (False, True, ("weights.style",))
    assert found.reference == pytest.approx((0.9, 0.3))
    assert found.best == pytest.approx((0.3, 0.8))
    # From the corner (0.9, 0.3): gram 0.1 x (0.9 - 0.3) + 0.2 x (0.9 - 0.5), its first on the edge;
    # mrf 0.3 x (0.9 - 0.4) + 0.1 x (0.9 - 0.8).
    areas = found.fronts.set_index("of")["hypervolume"]
    assert areas.to_dict() == pytest.approx({"mrf": 0.16, "gram": 0.14})
    assert list(areas.index) == ["mrf", "gram"]
    assert found.fronts["share"].tolist() == pytest.approx([0.16 / 0.3, 0.14 / 0.3])
    assert found.tests["difference"].tolist() == pytest.approx([0.02])
    assert found.notes == ()


def test_directions_may_be_any(tmp_path: Path) -> None:
    as_usual, exchanged = read(sweep(tmp_path / "s")), read(tmp_path / "s", "ssim", "gram_distance")
    assert exchanged.fronts["hypervolume"].tolist() == pytest.approx(as_usual.fronts["hypervolume"].tolist())
    assert exchanged.reference == as_usual.reference[::-1]


def test_intervals_hold_the_true_area_and_the_better_front_is_found(tmp_path: Path) -> None:
    found = read(sweep(tmp_path / "s", noise=0.01, contents=5, styles=5, seeds=1))
    truth = {"mrf": 0.16, "gram": 0.14}
    for row in found.fronts.to_dict("records"):
        assert row["low"] < truth[row["of"]] + 0.01
        assert row["high"] > truth[row["of"]] - 0.01
        assert 0 < row["high"] - row["low"] < 0.03
    (test,) = found.tests.to_dict("records")
    assert (test["first"], test["second"], test["verdict"]) == ("mrf", "gram", "better")


def test_the_interval_of_an_area_covers_it(tmp_path: Path) -> None:
    study = read_study(sweep(tmp_path / "s", contents=4, styles=4, seeds=1))
    rng, covered, tries = np.random.default_rng(0), 0, 60
    truth = read(tmp_path / "s").fronts.set_index("of")["hypervolume"]
    sizes = {"metric/gram_distance": 0.02, "metric/ssim": 0.02}
    exact = study.runs.copy()
    for _ in range(tries):
        for name, size in sizes.items():
            of_picture = {
                picture: size * rng.normal()
                for picture in [*exact["content"].unique(), *exact["style"].unique()]
            }
            common = exact["content"].map(of_picture) + exact["style"].map(of_picture)
            study.runs[name] = exact[name] + common + size * rng.normal(size=len(exact))
        found = tradeoff(study, group(study, "loss.style"), "gram_distance", "ssim")
        shift = np.array(found.reference) - (0.9, 0.3)  # the corner is the sample's own: taken as given
        row = found.fronts.set_index("of").loc["mrf"]
        known = hypervolume(
            [(s, -c) for s, c in zip(STYLE["mrf"], CONTENT["mrf"], strict=True)],
            (0.9 + shift[0], -0.3 - shift[1]),
        )
        covered += row["low"] <= known <= row["high"]
    assert truth["mrf"] == pytest.approx(0.16)
    assert covered / tries >= 0.9


def test_points_are_means_over_the_pairs_that_all_have(tmp_path: Path) -> None:
    study = sweep(tmp_path / "s", seeds=1)
    write_run(
        study,
        {"gram_distance": 99.0, "ssim": -9.0},
        content="c9",
        style="s0",
        settings={"weights.style": 2.0},
    )
    write_run(
        study, {"gram_distance": 0.0, "ssim": 1.0}, content="c0", style="s0", settings={"weights.style": 7.0}
    )
    found = read(study)
    assert found.reference == pytest.approx((0.9, 0.3))
    assert found.points["runs"].unique() == [9]
    assert "gram at weights.style=7 (1 of 10)" in found.notes[0]
    assert found.notes[1].startswith("1 run was left out")


def test_one_weight_is_a_front_of_one_point_and_what_to_type_is_said(tmp_path: Path) -> None:
    for name, style, content in (("gram", 0.5, 0.6), ("mrf+gram", 0.3, 0.4), ("twin", 0.4, 0.5)):
        for c in "abc":
            write_run(tmp_path / "s", {"gram_distance": style, "ssim": content}, loss=name, content=c)
    found = read(tmp_path / "s")
    assert found.points["on_front"].all()
    assert found.along == ()
    assert found.fronts["hypervolume"].tolist() == pytest.approx([0.01, 0, 0])
    assert found.tests.empty
    assert "nstbench run -m 'loss/style=[mrf,gram],gram,twin' weights.style=0.2,2,20,200" in found.notes[0]


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (
            ("gram_distanze", "ssim"),
            "no completed run has the metric gram_distanze. Did you mean gram_distance",
        ),
        (("ssim", "ssim"), "no trade-off with itself"),
    ],
)
def test_a_mistake_in_the_metrics_is_told(tmp_path: Path, metrics: tuple[str, str], said: str) -> None:
    sweep(tmp_path / "s", contents=1, seeds=1)
    with pytest.raises(UserError, match=said):
        read(tmp_path / "s", *metrics)


def test_the_command_writes_the_figure_the_points_and_the_areas(
    tmp_path: Path, run_compare: Callable[..., str]
) -> None:
    study = sweep(tmp_path / "s", noise=0.01, contents=4, styles=4, seeds=1)
    said = run_compare(study)
    folder = study / "comparison"
    assert "Trade-off of gram_distance and ssim over weights.style" in said
    assert "worse than mrf (p" in said.partition("Trade-off")[2]
    with Image.open(folder / "tradeoff.png") as picture:
        assert picture.width > 1500
        assert len(picture.convert("RGB").getcolors(1_000_000) or []) > 20
    assert (folder / "tradeoff.pdf").read_bytes().startswith(b"%PDF")
    points = pd.read_csv(folder / "tradeoff.csv")
    assert points.groupby("of")["share"].nunique().tolist() == [1, 1]
    assert len(points) == 6
    tests = pd.read_csv(folder / "tests.csv").set_index("criterion")
    assert tests.loc["hypervolume(gram_distance, ssim)", "first"] == "mrf"
    markdown = (folder / "comparison.md").read_text()
    assert "![Trade-off](tradeoff.png)" in markdown
    assert "delta method" in markdown
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert run_compare(study) == said
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_trade_off_that_cannot_be_had_costs_nothing_else_unless_asked_for(
    tmp_path: Path, run_compare: Callable[..., str]
) -> None:
    for weight, content in ((1.0, "a"), (2.0, "b")):  # no picture has both weights
        for name in STYLE:
            write_run(
                tmp_path / "s", {"gram_distance": 0.5, "ssim": 0.6}, loss=name, content=content,
                settings={"weights.style": weight},
            )  # fmt: skip
    said = run_compare(tmp_path / "s")
    assert "No trade-off of gram_distance and ssim: no combination of pictures and seed has" in said
    assert not (tmp_path / "s" / "comparison" / "tradeoff.csv").exists()
    with pytest.raises(UserError, match="--tradeoff=gram_distance ssim: no combination"):
        run_compare(tmp_path / "s", "--tradeoff", "gram_distance", "ssim")


@pytest.mark.parametrize("number", [2, 17, 40])
def test_names_in_the_figure_do_not_overlap(tmp_path: Path, number: int) -> None:
    rng = np.random.default_rng(0)
    for k in range(number):
        for weight in WEIGHTS:
            for c in "abc":
                metrics = {"gram_distance": 0.5 + 0.01 * rng.normal(), "ssim": 0.5 + 0.01 * rng.normal()}
                write_run(tmp_path / "s", metrics, loss=f"formulation_of_style_{k}", content=c,
                          settings={"weights.style": weight})  # fmt: skip
    figure = draw(read(tmp_path / "s"))
    figure.canvas.draw()
    (axes,) = figure.axes
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts if text.get_text()}
    names = [box for name, box in boxes.items() if name.startswith("formulation")]
    assert len(names) == number
    everything = [text.get_window_extent() for text in axes.texts if text.get_text()]
    for place, box in enumerate(everything):
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in everything[place + 1 :])


@given(some.lists(some.floats(0, 1), min_size=1, max_size=9))
def test_names_stay_in_order_apart_and_near(wanted: list[float]) -> None:
    places = spread(sorted(wanted), 0.1, 1.0)
    assert (np.diff(places) >= 0.1 - 1e-9).all()
    assert places[0] >= 0
    assert places[-1] <= 1 + 1e-9
    alone = spread([0.5], 0.1, 1.0)
    assert alone == [0.5]


def test_the_unit_of_the_trade_off_is_that_of_the_comparison(tmp_path: Path) -> None:
    found = read(sweep(tmp_path / "s", noise=0.05, seeds=1))
    study = read_study(tmp_path / "s")
    one = study.runs[(study.runs["loss.style"] == "mrf") & (study.runs["weights.style"] == 2)]
    values = one.set_index(["content", "style"])["metric/ssim"]
    low, high = Sample.of(values.index).interval(values.to_numpy()[:, None])
    row = found.points.set_index(["of", "at"]).loc[("mrf", "weights.style=2")]
    assert [row["content_low"], row["content_high"]] == pytest.approx([low[0], high[0]])
