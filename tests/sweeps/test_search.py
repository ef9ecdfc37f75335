"""``hydra/sweeper=optuna``: what it proposes, what it makes of failures, and going on after a kill."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from commands import CommandServer
from conftest import TINY, last_of_each
from hydra import compose, initialize_config_dir

from nstbench.cli import main
from nstbench.config.criterion import check_criterion
from nstbench.config.files import conf_dir
from nstbench.config.resolvers import register_resolvers
from nstbench.config.schema import Config
from nstbench.errors import UserError
from nstbench.sweeps.plugins import register_launchers
from nstbench.sweeps.search_results import SearchedRun, best, show_search
from nstbench.tracking.ledger import Entry
from nstbench.tracking.record import RunRecord

pytest.importorskip("optuna")

JUDGED = [each for each in TINY if not each.startswith("metrics")] + ["metrics=fast"]
WEIGHTS = "weights.style=tag(log, interval(1, 100))"


def search(*typed: str, trials: int = 4) -> int:
    settings = last_of_each(*JUDGED, f"hydra.sweeper.n_trials={trials}", *typed)
    return main(["run", "-m", "hydra/sweeper=optuna", *settings])


def records(study: str = "first") -> dict[str, RunRecord]:
    found = {p.parent.name: RunRecord.read(p.parent) for p in Path("outputs", study).glob("*/run.json")}
    return {name: record for name, record in found.items() if record}


def results(study: str = "first") -> dict[str, object]:
    read: dict[str, object] = yaml.safe_load(
        Path("outputs", study, ".sweep", "optimization_results.yaml").read_text()
    )
    return read


# ------------------------------------------------------------------------------ searching


def test_the_best_of_one_criterion_in_the_direction_of_its_metric() -> None:
    assert search("criterion=ssim", WEIGHTS) == 0
    runs = records()
    assert len(runs) == 4
    # ssim is better when higher, though Optuna minimises unless it is told otherwise.
    winner = max(runs.values(), key=lambda run: run.metrics["ssim"])
    assert results()["best_value"] == winner.metrics["ssim"]
    assert results()["best_params"] == {"weights.style": winner.config["weights"]["style"]}


def test_the_front_of_two_criteria() -> None:
    assert search("criterion=[colour_distance,ssim]", WEIGHTS, "optimizer=adam,lbfgs") == 0
    points = {(r.metrics["colour_distance"], r.metrics["ssim"]) for r in records().values()}
    front = {(c, s) for c, s in points if not any(a <= c and b >= s and (a, b) != (c, s) for a, b in points)}
    solutions = results()["solutions"]
    assert isinstance(solutions, list)
    assert {tuple(each["values"]) for each in solutions} == front


def test_runs_that_fail_tell_the_search_nothing_and_it_goes_on(capfd: pytest.CaptureFixture[str]) -> None:
    for criterion in ("ssim", "[ssim,psnr]"):
        study = f"of_{len(criterion)}"
        lr = "optimizer.lr=1,1e30"  # the latter diverges
        code = search(f"criterion={criterion}", WEIGHTS, lr, f"study={study}", trials=6)
        assert code == 1
        states = sorted(run.state for run in records(study).values())
        assert set(states) == {"completed", "failed"}
        assert len(states) == 6
        assert "1e+30" not in json.dumps(results(study))
        assert f"{states.count('failed')} failed" in capfd.readouterr().out


def test_a_search_in_which_all_fail_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    assert search("criterion=ssim", "optimizer.lr=1e29,1e30", trials=2) == 1
    out, err = capfd.readouterr()
    assert "0 completed" in out
    assert "Traceback" not in err


def test_what_is_proposed_twice_in_a_batch_is_run_once(capfd: pytest.CaptureFixture[str]) -> None:
    assert search("criterion=ssim", "seed=0,1", "hydra.sweeper.n_jobs=4") == 0
    assert "2 runs: 2 completed, 0 failed" in capfd.readouterr().out


@pytest.mark.slow  # workers load torch
def test_batches_in_a_pool() -> None:
    pool = ["hydra/launcher=pool", "hydra.launcher.workers=2", "hydra.launcher.threads=1"]
    assert search("criterion=ssim", WEIGHTS, "hydra.sweeper.n_jobs=2", *pool) == 0
    assert [run.state for run in records().values()] == ["completed"] * 4


def test_the_example(capfd: pytest.CaptureFixture[str]) -> None:
    fewer = [each for each in TINY if not each.startswith("metrics")]
    assert main(["run", "-m", "experiment=search", *fewer, "hydra.sweeper.n_trials=3"]) == 0
    assert len(records("search")) == 3
    assert {next(iter(run.config["loss"]["style"])) for run in records("search").values()} <= {
        "gram",
        "moments",
        "sliced_wasserstein",
    }


# ---------------------------------------------------------------------------- continuing


def test_a_search_that_is_killed_goes_on_with_the_same_command(commands: CommandServer) -> None:
    # After two runs the proposals depend on the results of those before.
    learns_early = "hydra.sweeper.sampler={_target_:optuna.samplers.TPESampler,seed:0,n_startup_trials:2}"
    typed = ["criterion=ssim", WEIGHTS, "steps=40", "record.checkpoint_every=5", learns_early]
    killed = commands.start("run", "-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=6", *JUDGED, *typed)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and sum(r.state == "completed" for r in records().values()) < 3:
        time.sleep(0.005)
    killed.kill()
    before = {name: run for name, run in records().items() if run.state == "completed"}
    assert 3 <= len(before) < 6
    written = {name: Path("outputs/first", name, "canvas.png").stat().st_mtime_ns for name in before}

    assert search(*typed, trials=6) == 0
    after = records()
    assert [run.state for run in after.values()] == ["completed"] * 6
    for name, run in before.items():
        assert after[name] == run
        assert Path("outputs/first", name, "canvas.png").stat().st_mtime_ns == written[name]

    # A search that nothing disturbed makes the same runs.
    assert search(*typed, "output=others", trials=6) == 0
    undisturbed = {p.parent.name: p.read_bytes() for p in Path("others/first").glob("*/canvas.png")}
    assert undisturbed == {name: Path("outputs/first", name, "canvas.png").read_bytes() for name in after}

    # And a longer one takes in the shorter.
    assert search(*typed, trials=7) == 0
    assert len(records()) == 7
    assert set(after) < set(records())


# ------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["criterion=ssin", WEIGHTS], "criterion=ssin: it is not among the metrics .* Did you mean ssim"),
        ([WEIGHTS], r"criterion=loss/total: the search varies weights\.style, .* Choose metrics"),
        (["loss/style=gram,mrf"], "the search varies loss/style, which changes what this loss measures"),
        (["criterion=ssim", "seed=3"], "no setting has several values to choose from. Give one"),
        (["criterion=ssim", WEIGHTS, "hydra.sweeper.sampler=tpee"], "there is no such sampler. .*mean tpe"),
        (["criterion=ssim", WEIGHTS, "hydra.sweeper.n_trials=0"], "n_trials=0: it must be greater than"),
        (["criterion=ssim", WEIGHTS, "hydra.sweeper.direction=up"], "Type minimize or maximize"),
        (["criterion=ssim", WEIGHTS, "hydra.sweeper.direction=[minimize,maximize]"], "2 for 1 criteria"),
        (["criterion=ssim", WEIGHTS, "+hydra.sweeper.trials=3"], "there is no such setting. .*mean n_trials"),
        (["criterion=[ssim,psnr]", WEIGHTS, "hydra.sweeper.sampler=cmaes"], "it takes one criterion"),
        (
            ["criterion=[ssim,ssim]", WEIGHTS],
            r"criterion=\[ssim,ssim\]: one is named twice. Type criterion=ssim",
        ),
        (
            ["criterion=ssim", "weights.style=interval(100,1)"],
            r"weights\.style=interval\(100,1\): the low value must be smaller than or equal to the high",
        ),
        (
            ["criterion=ssim", "seed=0,1", "weights.style=tag(log, interval(0, 10))"],
            r"weights\.style=tag\(log, interval\(0, 10\)\): the low value must be larger than 0 for a log",
        ),
        (["criterion=ssim", "weights.style=tag(log, interval(-1, 10))"], r"weights\.style=.* larger than 0"),
        (["criterion=ssim", "weights.style=interval(1, inf)"], "both ends must be finite numbers. Such as"),
        (["criterion=ssim", "weights.style=range(0.1,0.5,-1)"], r"weights\.style=range\(0\.1,0\.5,-1\): "),
        (
            ["criterion=ssim", "loss/style=glob(gr*)"],
            r"loss/style=glob\(gr\*\): a search cannot choose from a glob. List the options: loss/style=gram",
        ),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    typed: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert search(*typed) == 2
    err = capfd.readouterr().err
    assert len(err.splitlines()) == 1

    assert re.search(said, err)
    assert records() == {}


def test_a_criterion_that_no_run_will_have_stops_the_search(capfd: pytest.CaptureFixture[str]) -> None:
    """LPIPS needs weights, which are not there."""
    assert search("metrics=default", "criterion=lpips_alex", WEIGHTS) == 2
    assert "has no value of it" in capfd.readouterr().err
    assert len(records()) == 1
    assert search("metrics=cross", "criterion=cross", "study=b", WEIGHTS) == 2
    assert "it has parts. Choose from cross/others, cross/" in capfd.readouterr().err


def test_without_optuna_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "hydra_plugins.hydra_optuna_sweeper._impl", None)
    assert search("criterion=ssim", WEIGHTS) == 2
    assert capfd.readouterr().err == (
        "nstbench: hydra/sweeper=optuna: hydra-optuna-sweeper is not installed. "
        'Install it with pip install "nstbench[search]".\n'
    )


@pytest.mark.parametrize(
    ("criterion", "said"),
    [
        ("ssin", "Did you mean ssim"),
        ("[ssim,lpips]", r"criterion=lpips: .* Criteria to choose from: ssim, psnr"),
        (
            "loss/style/grm",
            "criterion=loss/style/grm: the run has no such loss. Did you mean loss/style/gram",
        ),
    ],
)
def test_a_criterion_that_a_run_cannot_have(
    criterion: str, said: str, compose_config: Callable[..., Config]
) -> None:
    with pytest.raises(UserError, match=said):
        check_criterion(compose_config("metrics=fast", f"criterion={criterion}"))


def test_criteria_that_a_run_has(compose_config: Callable[..., Config]) -> None:
    names = "loss/total,loss/content/features,ssim,cross/others,cross/gram"
    check_criterion(compose_config("metrics=cross", f"criterion=[{names}]"))


# ------------------------------------------------------------------------------ the result


def test_the_front_is_what_no_run_beats() -> None:
    def run(name: str, *values: float) -> SearchedRun:
        return SearchedRun({}, values, name)

    runs = [run("a", 1, 1), run("b", 2, 3), run("c", 3, 2), run("d", 3, 3), run("e", 1, 0.5), run("f", 2, 3)]
    assert [r.folder for r in best(runs, [False, True])] == ["a", "b", "f"]
    assert [r.folder for r in best(runs, [True, False])] == ["c", "e"]
    assert [r.folder for r in best([run("a", 1), run("b", 3), run("c", 2)], [True])] == ["b"]


def test_the_result_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert search("criterion=[colour_distance,ssim]", WEIGHTS) == 0
    runs = [
        Entry(i, r.overrides, "completed", folder=f"outputs/first/{n}")
        for i, (n, r) in enumerate(records().items())
    ]
    runs.append(Entry(4, ["weights.style=1"], "failed"))
    register_resolvers()
    register_launchers()
    typed = ["hydra/sweeper=optuna", "metrics=fast", "criterion=ssim"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", overrides=typed, return_hydra_config=True)
        config.hydra.overrides.task.append(WEIGHTS)
        plain = compose("config", overrides=[], return_hydra_config=True)
    capfd.readouterr()
    show_search(config, runs)
    out = capfd.readouterr().out
    winner = max(records().items(), key=lambda item: item[1].metrics["ssim"])
    assert "best of 4 runs" in out
    assert "ssim (higher)" in out
    assert f"{winner[1].config['weights']['style']:.5g}" in out
    assert out.splitlines()[-1] == f"outputs/first/{winner[0]}"
    show_search(plain, runs)
    show_search(None, runs)
    assert capfd.readouterr().out == ""
