"""`nstbench compare`: known winners win, what cannot be paired is said, mistakes leave nothing behind."""

from __future__ import annotations

import argparse
import json
import re
import resource
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic_study import write_run

from nstbench.analysis.statistics import INDISTINGUISHABLE, TOO_FEW
from nstbench.cli import compare
from nstbench.config.schema import Config
from nstbench.errors import UserError

Compare = Callable[..., str]
FILES = {"comparison.csv", "tests.csv", "runs.csv", "runs.parquet", "comparison.md", "comparison.tex"}


@pytest.fixture
def run_compare(capsys: pytest.CaptureFixture[str]) -> Compare:
    """Return a function from what is typed to what is printed."""

    def run(*typed: object) -> str:
        parser = argparse.ArgumentParser()
        compare.add_parser(parser.add_subparsers())
        args = parser.parse_args(["compare", *map(str, typed)])
        assert args.func(args) == 0
        return capsys.readouterr().out

    return run


def make_study(
    folder: Path,
    advantage: dict[str, float],
    *,
    contents: int = 4,
    styles: int = 4,
    seeds: int = 2,
    noise: float = 0.05,
    metric: str = "ssim",
    setting: str | None = None,
    **more: Any,
) -> Path:
    """Write a study in which pictures differ much, and things by their advantage."""
    rng = np.random.default_rng(0)
    for c in range(contents):
        for s in range(styles):
            hard = rng.normal()
            for seed in range(seeds):
                for name, gain in advantage.items():
                    value = {metric: hard + gain + noise * rng.normal()}
                    of = {"content": f"sample:c{c}", "style": f"sample:s{s}", "seed": seed, **more}
                    if setting is None:
                        write_run(folder, value, loss=name, **of)
                    else:
                        write_run(folder, value, settings={setting: float(name)}, **of)
    return folder


def rows(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "comparison" / "comparison.csv", dtype={"name": str}).set_index("name")


def test_the_known_winner_wins_though_pictures_differ_more_than_formulations(
    tmp_path: Path, run_compare: Compare
) -> None:
    study = make_study(tmp_path / "study", {"gram": 0.0, "mrf": 0.3, "twin": 0.0})
    said = run_compare(study)
    found = rows(study)
    assert next(iter(found.index)) == "mrf"
    assert found.loc["gram", "verdict"] == "worse"
    assert found.loc["gram", "win_rate"] == 0
    assert found.loc["mrf", "mean_rank"] == 1
    assert found.loc["gram", "difference_low"] < -0.3 < found.loc["gram", "difference_high"]
    assert found.loc["gram", "high"] - found.loc["gram", "low"] > 0.5  # of the mean itself: pictures differ
    assert found.loc["gram", "pairs"] == 16  # pairs of pictures, not 32 runs
    assert "mrf is better than twin, gram (p<0.001)." in said
    tests = pd.read_csv(study / "comparison" / "tests.csv").set_index(["first", "second"])
    assert len(tests) == 3
    twins = tests.loc[("gram", "twin") if ("gram", "twin") in tests.index else ("twin", "gram")]
    assert twins["verdict"] == INDISTINGUISHABLE
    assert f"{INDISTINGUISHABLE.capitalize()}: " in said


def test_where_lower_is_better_the_lowest_wins(tmp_path: Path, run_compare: Compare) -> None:
    study = make_study(tmp_path / "study", {"gram": 0.0, "mrf": 0.3}, metric="cross/others")
    said = run_compare(study)
    assert "cross/others (lower is better)" in said
    assert "gram is better than mrf (p<0.001)." in said


def test_values_are_means_over_seeds_and_intervals_are_over_pairs(
    tmp_path: Path, run_compare: Compare
) -> None:
    for name, numbers in {"gram": [1.0, 3.0, 5.0, 7.0], "mrf": [2.0, 2.0, 8.0, 10.0]}.items():
        for place, number in enumerate(numbers):
            write_run(tmp_path / "s", {"ssim": number}, loss=name, content=f"c{place // 2}", seed=place % 2)
    run_compare(tmp_path / "s")
    found = rows(tmp_path / "s")
    assert found["mean"].to_dict() == {"mrf": 5.5, "gram": 4.0}
    assert found.loc["gram", "difference"] == -1.5
    assert found.loc["gram", "pairs"] == 2
    assert found.loc["gram", "win_rate"] == 0.25  # (2, 6) against (2, 9): a tie and a loss


def test_a_baseline_has_fewer_tests_and_is_named(tmp_path: Path, run_compare: Compare) -> None:
    study = make_study(tmp_path / "study", {"gram": 0.0, "mrf": 0.3, "worse": -0.3})
    said = run_compare(study, "--baseline", "gram")
    found = rows(study)
    assert found["tests"].unique() == [2]
    assert found["verdict"].fillna("").to_dict() == {"mrf": "better", "gram": "", "worse": "worse"}
    assert found.loc["mrf", "difference"] == pytest.approx(0.3, abs=0.05)
    assert "gram is better than worse (p<0.001)." in said
    assert "better than gram (p<0.001)" in said


def test_too_few_pairs_say_nothing_and_how_many_are_needed_is_said(
    tmp_path: Path, run_compare: Compare
) -> None:
    study = make_study(tmp_path / "study", {"gram": 0.0, "mrf": 9.0}, contents=1, styles=5, seeds=20)
    said = run_compare(study)
    assert rows(study).loc["gram", "verdict"] == TOO_FEW  # 100 runs of each, but 5 pairs of pictures
    assert (
        "with 5 style pictures, the smallest possible p is 0.062; at least 6 style pictures are needed, "
        "or 3 content and 3 style pictures in all combinations."
    ) in said


def test_any_setting_is_compared_with_all_others_equal(tmp_path: Path, run_compare: Compare) -> None:
    study = tmp_path / "study"
    for loss in ("gram", "mrf"):  # a crossed setting: weight 10 is better under both, by 0.2
        make_study(study, {"1": 0.0, "10": 0.2}, setting="weights.style", contents=3, styles=3, loss=loss)
    said = run_compare(study, "--by", "weights.style")
    assert "10 is better than 1" in said
    assert rows(study).loc["1", "pairs"] == 9
    assert (
        "9 pairs of pictures (from 3 content pictures, 3 style pictures), 2 values of weights.style." in said
    )
    assert "Each is the mean of 4 runs." in said
    assert len(pd.read_csv(study / "comparison" / "runs.csv")) == 72


def test_style_pictures_are_compared_over_content_pictures(tmp_path: Path, run_compare: Compare) -> None:
    for place, content in enumerate("abcdef"):
        write_run(tmp_path / "s", {"ssim": place + 0.1}, content=content, style="y")
        write_run(tmp_path / "s", {"ssim": place + 0.2}, content=content, style="z")
    said = run_compare(tmp_path / "s", "--by", "pictures.style")
    assert "6 content pictures, 2 values of style." in said
    assert "z is better than y (p=0.031)." in said


@pytest.mark.parametrize("by", ["size", "steps"])
def test_shorthands_of_the_schedule_are_settings_like_others(
    tmp_path: Path, by: str, run_compare: Compare
) -> None:
    for value in (100, 200):
        for seed, steps in enumerate((50, 70)):
            other = {"size": "steps", "steps": "size"}[by]
            write_run(tmp_path / "s", {"ssim": value}, settings={by: value, other: steps}, seed=seed)
            write_run(tmp_path / "s", {"ssim": value}, settings={by: value, other: steps}, seed=seed + 2)
    run_compare(tmp_path / "s", "--by", by)
    assert rows(tmp_path / "s")["mean"].to_dict() == {"200": 200, "100": 100}


def test_settings_of_an_optimizer_belong_to_it_and_its_variants_are_apart(
    tmp_path: Path, run_compare: Compare
) -> None:
    adam = {"optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.05}}
    for content in "abcdef":
        write_run(tmp_path / "s", {"ssim": 0.1}, content=content, settings=adam)
        write_run(tmp_path / "s", {"ssim": 0.2}, content=content)
    said = run_compare(tmp_path / "s", "--by", "optimizer._target_")
    assert "2 values of optimizer." in said
    assert "optimizer.lr" in said
    assert "and are compared with it" in said
    assert rows(tmp_path / "s")["verdict"].fillna("").to_dict() == {
        "LBFGS": "",
        "Adam": "worse",
    }
    for content in "abcdef":
        write_run(tmp_path / "s", {"ssim": 0.3}, content=content, settings={"optimizer.history_size": 50})
    run_compare(tmp_path / "s", "--by", "optimizer._target_")
    assert list(rows(tmp_path / "s").index) == [
        "LBFGS, history_size=50",
        "LBFGS, history_size=10",
        "Adam",
    ]


@pytest.fixture
def write_composed(compose_config: Callable[..., Config]) -> Callable[..., Path]:
    """Return a function that writes a run as the command line would have configured it."""

    def write(study: Path, metrics: dict[str, float], *overrides: str, **of: Any) -> Path:
        config = compose_config("metrics=fast", *overrides, tiny=False).plain
        pictures = {name: of.pop(name, f"sample:{name}") for name in ("content", "style")}
        config["pictures"].update(pictures)
        name = f"run-{len(list(study.glob('*')))}"
        inputs = {"weights": json.dumps(config["encoder"])}
        folder = write_run(
            study, metrics, seed=config["seed"], config=config, inputs=inputs, fingerprint=name, **of
        )
        return folder.rename(study / name)

    return write


def test_the_optimizers_of_the_readme_are_compared(
    tmp_path: Path, run_compare: Compare, write_composed: Callable[..., Path]
) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    swept = next(line for line in readme.splitlines() if "optimizer=lbfgs,adam" in line)
    styles = re.search(r"style=(\S+)", swept)
    assert styles is not None
    for style, optimizer in product(styles[1].split(","), ("lbfgs", "adam")):
        value = {"ssim": 0.5 if optimizer == "adam" else 0.4}
        write_composed(tmp_path / "s", value, f"optimizer={optimizer}", style=style)
    said = run_compare(tmp_path / "s", "--by", "optimizer")
    assert "2 pairs of pictures (from 1 content picture, 2 style pictures), 2 values of optimizer." in said
    found = rows(tmp_path / "s")
    assert found["mean"].to_dict() == {"Adam": 0.5, "LBFGS": 0.4}
    assert found["by"].unique() == ["optimizer"]
    with pytest.raises(UserError, match=r"optimizer differs too.*compare by it: --by optimizer\."):
        run_compare(tmp_path / "s", "--by", "optimizer.lr")
    with pytest.raises(UserError, match=r"Did you mean optimizer"):
        run_compare(tmp_path / "s", "--by", "optimiser")


@pytest.mark.parametrize(
    ("group", "options", "names"),
    [
        ("encoder", ["procedural", "random"], ["ProceduralVGG", "RandomVGG"]),
        ("encoder", ["vgg16", "vgg19", "vgg19_caffe"], ["vgg16", "vgg19", "vgg19_caffe"]),
        ("canvas", ["pixels", "spectral"], ["Pixels", "Spectral"]),
        ("canvas", ["noise", "spectral"], ["Pixels", "Spectral"]),
        ("canvas", ["spectral", "spectral_noise"], ["content", "noise"]),
        ("loss/style", ["gram", "mrf"], ["gram", "mrf"]),
    ],
)
def test_a_group_is_compared_by_what_decides_it(
    group: str,
    options: list[str],
    names: list[str],
    tmp_path: Path,
    run_compare: Compare,
    write_composed: Callable[..., Path],
) -> None:
    for (place, option), style in product(enumerate(options), "xyzuvw"):
        write_composed(tmp_path / "s", {"ssim": -place}, f"{group}={option}", style=style)
    run_compare(tmp_path / "s", "--by", group)
    found = rows(tmp_path / "s")
    assert found["mean"].to_dict() == {name: -place for place, name in enumerate(names)}
    assert found["pairs"].unique() == [6]


def test_a_group_of_which_nothing_decides_all_is_refused_with_its_settings(
    tmp_path: Path, run_compare: Compare
) -> None:
    for number, noise in product((0.1, 0.2), ("uniform", "grey")):
        settings = {"canvas.noise_share": number, "canvas.noise": noise}
        write_run(tmp_path / "s", {"ssim": number}, settings=settings)
    several = r"--by=canvas: several settings of it differ: canvas\.noise, canvas\.noise_share\. Type one"
    with pytest.raises(UserError, match=several):
        run_compare(tmp_path / "s", "--by", "canvas")


def test_textures_have_no_content_pictures_to_tell_of(tmp_path: Path, run_compare: Compare) -> None:
    for style, loss in product("yz", ("gram", "mrf")):
        settings = {"pictures.content": None}
        write_run(tmp_path / "s", {"ssim": len(loss)}, style=style, loss=loss, settings=settings)
    said = run_compare(tmp_path / "s")
    assert "2 style pictures, 2 values of loss.style." in said
    assert "at least 6 style pictures are needed." in said
    assert "content" not in said.split("ssim (")[1].split(str(tmp_path))[0]
    said = run_compare(tmp_path / "s", "--by", "style")
    assert "No pictures other than those compared, 2 values of style. Each is the mean of 2 runs." in said
    assert "Too few pictures to say which is better: other seeds are not other pictures." in said


def test_reconstructions_have_no_style_pictures_to_tell_of(tmp_path: Path, run_compare: Compare) -> None:
    for content, loss in product("abcdef", ("features", "laplacian")):
        settings = {"pictures.style": None, "loss.style": {}, "loss.content": {loss: {"weight": 1.0}}}
        metrics = {"ssim": ord(content) + len(loss), "gram_distance": 0.1}
        write_run(tmp_path / "s", metrics, content=content, settings=settings)
    said = run_compare(tmp_path / "s", "--by", "loss.content")
    assert "6 content pictures, 2 values of loss.content." in said
    assert "laplacian is better than features (p=0.031)." in said
    assert "style picture" not in said


def test_with_two_content_pictures_the_verdict_is_of_other_style_pictures(
    tmp_path: Path, run_compare: Compare
) -> None:
    said = run_compare(make_study(tmp_path / "study", {"gram": 0.0, "mrf": 0.3}, contents=2, styles=6))
    assert "mrf is better than gram (p=0.031)." in said  # 2 / 2^6
    assert (
        "With only 2 content pictures, the verdicts are about other style pictures, not about other content "
        "pictures."
    ) in said
    assert rows(tmp_path / "study")["unit"].unique() == ["style"]


def test_a_difference_that_hangs_on_one_style_picture_is_not_claimed(
    tmp_path: Path, run_compare: Compare
) -> None:
    rng = np.random.default_rng(0)
    for c in range(5):
        for s, gain in enumerate((0.5, 0.6, 0.0, 0.0, 0.1)):
            for name, more in (("gram", 0.0), ("mrf", gain)):
                value = {"ssim": more + 0.01 * rng.normal()}
                write_run(tmp_path / "s", value, loss=name, content=f"c{c}", style=f"s{s}")
    said = run_compare(tmp_path / "s")
    found = rows(tmp_path / "s")
    assert found.loc["gram", "verdict"] == INDISTINGUISHABLE  # 25 pairs, but 5 styles; signed rank: p < 0.001
    assert found.loc["gram", "difference_high"] > 0
    assert "A difference must be 2.4 times its standard error with so few pictures" in said


def test_metrics_that_are_no_numbers_are_told(tmp_path: Path, run_compare: Compare) -> None:
    study = make_study(tmp_path / "study", {"gram": 0.0, "mrf": 0.3})
    write_run(study, {"ssim": float("nan")}, content="sample:new")
    write_run(study, {"ssim": float("inf")}, content="sample:new", loss="mrf")
    said = run_compare(study)
    assert "Left out, as ssim is no finite number: gram-new-z-s0, mrf-new-z-s0." in said
    assert rows(study)["pairs"].unique() == [16]


def test_unfinished_failed_damaged_and_unpaired_runs_are_told(tmp_path: Path, run_compare: Compare) -> None:
    study = make_study(tmp_path / "study", {"gram": 0.0, "mrf": 0.3}, contents=2, styles=4)
    (study / "mrf-c0-s0-s0" / "canvas.png").unlink()
    write_run(study, loss="gram", seed=8, state="running")
    write_run(study, loss="gram", seed=9, state="failed")
    write_run(study, {"ssim": 5.0}, loss="histogram", content="sample:c0", style="sample:s0")
    said = run_compare(study)
    assert "34 runs: 32 completed, 1 running, 1 failed." in said
    assert "Unfinished, not compared: gram-a-z-s8." in said
    assert "Failed, not compared: gram-a-z-s9 (UserError: too big)." in said
    assert "mrf-c0-s0-s0: canvas.png is missing" in said
    assert "less than half of the combinations: histogram (1 of 16)." in said
    assert "1 run was left out, as runs to pair them with are missing (mrf 1)." in said
    assert list(rows(study).index) == ["mrf", "gram"]


def test_values_of_another_judge_are_no_partners(tmp_path: Path, run_compare: Compare) -> None:
    study = make_study(tmp_path / "study", {"gram": 0.0, "mrf": 0.3}, contents=2, metric="cross/others")
    other = {"metrics.cross": {"_target_": "nstbench.metrics.cross.CrossEvaluation", "seed": 1}}
    write_run(study, {"cross/others": 0.1}, content="new", settings=other)
    write_run(study, {"cross/others": 0.2}, content="new", loss="mrf")
    run_compare(study)
    assert rows(study)["pairs"].unique() == [8]


def test_the_files_hold_the_same_numbers_and_a_second_time_nothing_is_damaged(
    tmp_path: Path, run_compare: Compare
) -> None:
    study = make_study(tmp_path / "study", {"a_b": 0.0, "c": 0.3}, contents=2, styles=6)
    first = run_compare(study)
    before = {p.name: p.read_bytes() for p in (study / "comparison").iterdir()}
    assert set(before) == FILES
    assert run_compare(study) == first
    assert {p.name: p.read_bytes() for p in (study / "comparison").iterdir()} == before
    table = pd.read_parquet(study / "comparison" / "runs.parquet")
    pd.testing.assert_frame_equal(
        table.drop(columns="error"), pd.read_csv(study / "comparison" / "runs.csv").drop(columns="error")
    )
    markdown, tex = before["comparison.md"].decode(), before["comparison.tex"].decode()
    assert "| c |" in markdown
    assert "c is better than a_b (p=0.031)." in markdown
    assert r"a\_b & " in tex
    assert tex.count("{") == tex.count("}")
    assert f"{rows(study).loc['c', 'mean']:.2f}" in tex
    elsewhere = tmp_path / "deep" / "down"
    run_compare(study, "--output", elsewhere)
    assert {p.name for p in elsewhere.iterdir()} == FILES


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--by", "los.style"], r"--by=los.style: no run differs in it. Did you mean loss.style"),
        (["--by", "size"], r"it is 128 in all runs. These differ: loss.style, content, style, seed"),
        (["--criterion", "sim"], r"--criterion=sim: no completed run has this metric. Did you mean ssim"),
        (["--criterion", "lpips_alex"], r"\(its weights are not here\)"),
        (["--baseline", "grum"], r"--baseline=grum: .*Did you mean gram"),
        (["--output", "file.txt/in"], r"--output=file.txt/in: results cannot be written there"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_written(
    tmp_path: Path, typed: list[str], said: str, run_compare: Compare
) -> None:
    study = make_study(tmp_path / "study", {"gram": 0.0, "mrf": 0.3}, contents=2)
    (tmp_path / "file.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=said):
        run_compare(study, *typed)
    assert sorted(tmp_path.rglob("*")) == before


def test_with_nothing_completed_what_there_is_is_told(tmp_path: Path, run_compare: Compare) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no run in it is completed\. It holds no runs"):
        run_compare(tmp_path / "empty")
    write_run(tmp_path / "early", state="failed")
    with pytest.raises(UserError, match=r"1 run: 1 failed\. Failed, not compared: gram-a-z-s0"):
        run_compare(tmp_path / "early")
    write_run(tmp_path / "unjudged")
    write_run(tmp_path / "unjudged", loss="mrf")
    with pytest.raises(UserError, match="no completed run in it has a metric"):
        run_compare(tmp_path / "unjudged")


def test_what_cannot_be_paired_is_refused_with_the_setting_to_blame(
    tmp_path: Path, run_compare: Compare
) -> None:
    for content in "abc":
        write_run(tmp_path / "s", {"ssim": 0.1}, content=content, settings={"size": 64})
        write_run(tmp_path / "s", {"ssim": 0.2}, content=content, loss="mrf")
    with pytest.raises(
        UserError, match="no two of its runs are equal in all other settings: size differs too"
    ):
        run_compare(tmp_path / "s")


@pytest.mark.slow
def test_ten_thousand_runs_in_ten_seconds_and_a_gigabyte(tmp_path: Path, run_compare: Compare) -> None:
    cross = {f"cross/judge{n}": 0.1 for n in range(17)}
    starts = {f"term{n}": {"weight": 1.0, "value": 1 / 3, "gradient_norm": 2.0} for n in range(20)}
    rng = np.random.default_rng(0)
    for number in range(10_000):
        loss, content, style, seed = np.unravel_index(number, (20, 10, 10, 5))
        write_run(
            tmp_path / "study",
            {"cross/others": 0.2 * loss + rng.normal(), "ssim": rng.normal(), **cross},
            loss=f"loss{loss:02}", content=f"c{content}", style=f"s{style}", seed=int(seed), starts=starts,
        )  # fmt: skip
    start = time.perf_counter()
    said = run_compare(tmp_path / "study")
    seconds = time.perf_counter() - start
    assert "10000 runs: 10000 completed." in said
    assert rows(tmp_path / "study").index[0] == "loss00"
    assert seconds < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1024**2  # KiB on Linux
