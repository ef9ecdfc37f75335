"""``hydra/launcher=batched``: a sweep in batches leaves what it leaves with one run after the other."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import with_tiny
from misbehaviour import misbehaving

from nstbench.callbacks.checkpoint import read_checkpoint
from nstbench.cli import main
from nstbench.config.schema import Config
from nstbench.encoders.build import build_encoder
from nstbench.modules.footprint import memory_of
from nstbench.modules.image_optimization import ImageOptimization, OptimizerFactory
from nstbench.modules.member import Member
from nstbench.pictures.io import read_picture
from nstbench.runs.batch import max_batch_size
from nstbench.runs.inputs import Inputs, load_inputs, start_at
from nstbench.runs.preparation import prepare
from nstbench.runs.run import Run
from nstbench.runtime.interruption import request_stop
from nstbench.tracking.record import RunRecord

ROOT = Path(__file__).resolve().parents[2]
ADAM = ["optimizer=adam", "optimizer.lr=0.005"]
TOGETHER = ["hydra/launcher=batched", "hydra.launcher.size=8"]


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches of several runs that are optimised."""
    sizes: list[int] = []

    def counting(self: ImageOptimization, members: Sequence[Member], factory: OptimizerFactory) -> None:
        if len(members) > 1:
            sizes.append(len(members))
        init(self, members, factory)

    init = ImageOptimization.__init__
    monkeypatch.setattr(ImageOptimization, "__init__", counting)
    return sizes


def sweep(study: str, pair: dict[str, str], *arguments: str, status: int = 0) -> Path:
    inputs = [f"content={pair['photo']}", f"style={pair['painting']}", f"study={study}"]
    assert main(["run", "-m", *with_tiny(*inputs, *arguments)]) == status
    return Path("outputs") / study


def totals(folder: Path) -> list[float]:
    with (folder / "curves.csv").open() as file:
        return [float(row["loss/total"]) for row in csv.DictReader(file)]


def record_of(folder: Path) -> RunRecord:
    record = RunRecord.read(folder)
    assert record is not None
    return record


def runs(study: Path) -> list[Path]:
    return sorted(file.parent for file in study.glob("*/run.json"))


def same(one: Path, other: Path, tolerance: float = 1e-3) -> None:
    """Check that two studies have the same runs, with the same curves, records and pictures."""
    assert [f.name for f in runs(one)] == [f.name for f in runs(other)]
    for a, b in zip(runs(one), runs(other), strict=True):
        assert sorted(f.name for f in a.glob("[!.]*")) == sorted(f.name for f in b.glob("[!.]*"))
        assert totals(a) == pytest.approx(totals(b), rel=tolerance)
        assert float((read_picture(a / "canvas.png") - read_picture(b / "canvas.png")).abs().mean()) < 0.01
        mine, theirs = record_of(a), record_of(b)
        for key in ("state", "fingerprint", "steps", "evaluations", "inputs", "layers"):
            assert getattr(mine, key) == getattr(theirs, key)
        ours, others = (
            [o for o in record.overrides if not o.startswith("study=")] for record in (mine, theirs)
        )
        assert ours == others
        for name, start in theirs.starts.items():
            assert mine.starts[name] == pytest.approx(start, rel=1e-3)


def test_a_batch_of_eight_is_the_eight_runs_over_a_hundred_steps(
    pair: dict[str, str], batches: list[int]
) -> None:
    settings = ["optimizer=adam", "optimizer.lr=0.002", "steps=100", "canvas.start=noise", "metrics=fast"]
    settings += ["seed=0,1", "weights.style=5,50", f"style=procedural:mosaic,{pair['painting']}"]
    settings += ["record.curves_every=1"]
    alone = sweep("alone", pair, *settings)
    together = sweep("together", pair, *settings, *TOGETHER)
    assert batches == [8]
    assert len(runs(together)) == 8
    assert min(totals(f)[-1] / totals(f)[0] for f in runs(together)) < 0.8
    same(together, alone)
    for one in runs(together):
        assert set(record_of(one).metrics) == {"ssim", "psnr", "colour_distance", "total_variation"}


@pytest.fixture
def in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have runs compute in float64."""

    def doubled(config: Config) -> Inputs:
        inputs = load_inputs(config)
        styles = [replace(style, pixels=style.pixels.double()) for style in inputs.styles]
        assert inputs.content is not None
        return replace(
            inputs, content=replace(inputs.content, pixels=inputs.content.pixels.double()), styles=styles
        )

    monkeypatch.setattr("nstbench.runs.preparation.load_inputs", doubled)
    monkeypatch.setattr(
        "nstbench.runs.preparation.build_encoder", lambda node: deepcopy(build_encoder(node)).double()
    )
    monkeypatch.setattr("nstbench.runs.run.start_at", lambda *given: start_at(*given).double())


def test_so_it_is_with_lbfgs(pair: dict[str, str], batches: list[int], in_double: None) -> None:
    """In float64: the rounding of float32, of which convolutions of a batch have another than those of one
    canvas, grows in 100 steps of L-BFGS to a per cent and more, and so it does between two single runs."""
    # Even float64 grows from 1e-15 to 1e-3 in 100 steps of one of these runs, with two threads of oneDNN's.
    settings = ["steps=80", "seed=0,1", "weights.style=4,64", "weights.regularizer=0.015625"]
    settings += ["record.curves_every=1", "canvas.start=noise"]
    alone = sweep("alone", pair, *settings)
    together = sweep("together", pair, *settings, *TOGETHER)
    assert batches == [4]
    same(together, alone)


@pytest.mark.parametrize(
    "settings",
    [
        ["loss/style=[gram],[moments],[covariance],[mmd_gaussian],[sliced_wasserstein]"],
        ["weights.unit=gradient", "weights.style=1,3", "canvas=spectral"],
        ["schedule=two_sizes", "size=96", "steps=6", "seed=0,1", "canvas=spectral"],
        ["colour=luminance", "seed=0,1", "loss/content=laplacian"],
        ["schedule.precision=bf16", "seed=0,1"],
    ],
    ids=["formulations", "gradients", "stages", "luminance", "bf16"],
)
def test_whatever_runs_are_made_of_a_batch_is_the_runs(
    pair: dict[str, str], batches: list[int], settings: list[str]
) -> None:
    settings = ["canvas.start=noise", *ADAM, "record.curves_every=1", *settings]
    alone = sweep("alone", pair, *settings)
    together = sweep("together", pair, *settings, *TOGETHER)
    assert set(batches) == {len(runs(together))}
    assert len(batches) == (2 if "schedule=two_sizes" in settings else 1)
    same(together, alone, 2e-2 if "bf16" in settings[-2] else 1e-3)


def test_runs_that_share_too_little_run_alone(pair: dict[str, str], batches: list[int]) -> None:
    settings = ["steps=2", "size=48,64", "optimizer=lbfgs,adam", "optimizer.lr=0.1"]
    sweep("few", pair, *settings, *TOGETHER)
    assert batches == []
    seeds = ["steps=2", "size=48,64", "seed=0,1,2", "canvas.start=noise"]
    sweep("more", pair, *seeds, *TOGETHER, "hydra.launcher.size=2")
    assert batches == [2, 2]
    searching = ["steps=2", "optimizer=lbfgs_torch", "optimizer.line_search_fn=strong_wolfe"]
    searching += ["weights.style=1,2"]
    sweep("searching", pair, *searching, *TOGETHER)
    assert batches == [2, 2]
    assert [len(runs(Path("outputs") / s)) for s in ("few", "more", "searching")] == [4, 6, 2]


def test_the_size_is_taken_from_free_memory(
    pair: dict[str, str], batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    auto = ["seed=range(6)", "canvas.start=noise", "hydra/launcher=batched"]
    sweep("much", pair, *auto)
    assert batches == [6]
    needs: list[int] = []

    def need(member: Member, optimizer: torch.optim.Optimizer) -> int:
        needs.append(memory_of(member, optimizer))
        return needs[-1]

    monkeypatch.setattr("nstbench.runs.batch.memory_of", need)
    monkeypatch.setattr("nstbench.runs.batch.free_memory", lambda device: 5_000_000)
    sweep("little", pair, *auto)
    assert all(b == 5_000_000 // (2 * needs[0]) for b in batches[1:-1])
    assert sum(batches[1:]) == 6
    # The maps of VGG-11 at a 16th of its width, and the history of ten pairs of canvases of 48².
    assert 21 * 3 * 48 * 48 * 4 < needs[0] < 5e6


def test_what_is_finished_is_skipped_and_the_same_command_does_nothing_twice(
    pair: dict[str, str], batches: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    settings = ["canvas.start=noise", *TOGETHER]
    study = sweep("again", pair, "seed=0,1,2", *settings)
    before = {f: (f / "run.json").read_bytes() for f in runs(study)}
    capfd.readouterr()
    sweep("again", pair, "seed=range(5)", *settings)
    assert batches == [3, 2]
    assert all((f / "run.json").read_bytes() == text for f, text in before.items())
    assert "5 runs: 2 completed, 3 done before, 0 failed" in capfd.readouterr().out
    sweep("again", pair, "seed=range(5)", *settings)
    assert batches == [3, 2]


class TestFailures:
    """A run that fails, fails alone."""

    def test_a_run_that_turns_non_finite_leaves_the_batch_and_the_others_are_as_without_it(
        self, pair: dict[str, str], batches: list[int], capfd: pytest.CaptureFixture[str]
    ) -> None:
        settings = ["steps=30", "optimizer=sgd", "optimizer.momentum=0.9", "record.curves_every=1", *TOGETHER]
        settings += ["canvas.start=noise", "weights.unit=paper", "loss/regularizer=tv"]
        bad = sweep("bad", pair, *settings, "weights.regularizer=1e-3,1e30,2e-3,3e-3", status=1)
        printed = capfd.readouterr().out
        good = sweep("good", pair, *settings, "weights.regularizer=1e-3,2e-3,3e-3")
        assert batches == [4, 3]
        assert "4 runs: 3 completed, 1 failed" in printed
        (failed,) = [f for f in runs(bad) if record_of(f).state == "failed"]
        record = record_of(failed)
        assert record.error is not None
        assert record.error.startswith("NonFiniteObjectiveError: the objective became ")
        assert (failed / "canvas.png").is_file()
        assert "NonFiniteObjectiveError" in (failed / "run.log").read_text()
        for survivor in runs(good):
            twin = bad / survivor.name
            assert totals(twin) == pytest.approx(totals(survivor), rel=1e-5)
            assert record_of(twin).state == "completed"
            assert (twin / "run.log").read_text() == ""

    def test_a_batch_of_which_nothing_is_left_ends(
        self, pair: dict[str, str], batches: list[int], capfd: pytest.CaptureFixture[str]
    ) -> None:
        settings = ["steps=1000", "optimizer=sgd", "weights.unit=paper", "weights.regularizer=1e30,2e30"]
        study = sweep("none", pair, *settings, *TOGETHER, status=1)
        assert batches == [2]
        assert "2 runs: 0 completed, 2 failed" in capfd.readouterr().out
        for folder in runs(study):
            assert str(record_of(folder).error).startswith("NonFiniteObjectiveError")

    def test_a_loss_that_raises_in_one_run_fails_it_alone(
        self, pair: dict[str, str], tmp_path: Path, batches: list[int]
    ) -> None:
        settings = [*misbehaving(tmp_path / "own"), "steps=20", "record.curves_every=1", "optimizer.lr=0.1"]
        study = sweep(
            "raise", pair, *settings, "loss.regularizer.misbehave.how=well,raise,fine", *TOGETHER, status=1
        )
        assert batches == [3]
        states = {how(f): record_of(f) for f in runs(study)}
        assert {k: v.state for k, v in states.items()} == {
            "well": "completed",
            "raise": "failed",
            "fine": "completed",
        }
        assert states["raise"].error == "RuntimeError: the loss is out of order"
        alone = sweep("alone", pair, *settings, "loss.regularizer.misbehave.how=well,fine")
        for one in runs(alone):
            assert totals(study / one.name) == pytest.approx(totals(one), rel=1e-3)

    def test_a_mistake_in_one_run_does_not_keep_the_others(
        self, pair: dict[str, str], batches: list[int], capfd: pytest.CaptureFixture[str]
    ) -> None:
        sweep("wrong", pair, f"style={pair['painting']},missing.png", "seed=0,1", *TOGETHER, status=1)
        printed = capfd.readouterr()
        assert "4 runs: 2 completed, 2 failed" in printed.out
        assert "missing.png" in printed.out + printed.err
        assert batches == [2]

    @pytest.mark.parametrize("size", ["0", "many", "2.5", "null"])
    def test_a_size_that_cannot_be_used_is_refused(
        self, size: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        assert (
            main(
                ["run", "-m", *with_tiny("seed=0,1", "hydra/launcher=batched", f"hydra.launcher.size={size}")]
            )
            == 2
        )
        (line,) = capfd.readouterr().err.strip().splitlines()
        assert line.startswith(f"nstbench: hydra.launcher.size={size}: it must be auto, or a whole number")
        assert not (tmp_path / "outputs").exists()


def how(folder: Path) -> str:
    return str(record_of(folder).config["loss"]["regularizer"]["misbehave"]["how"])


def test_memory_that_does_not_suffice_halves_the_batch(
    pair: dict[str, str], batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = ImageOptimization.training_step

    def greedy(self: ImageOptimization, batch: int, batch_idx: int) -> None:
        if len(self.members) > 2:
            raise torch.OutOfMemoryError("out of memory")
        step(self, batch, batch_idx)

    monkeypatch.setattr(ImageOptimization, "training_step", greedy)
    study = sweep("halved", pair, "seed=range(5)", "canvas.start=noise", *TOGETHER)
    assert batches == [5, 2, 3, 2]
    assert {record_of(f).state for f in runs(study)} == {"completed"}


def stop_at(evaluation: int, patch: pytest.MonkeyPatch) -> None:
    """Stop a sweep as Ctrl-C does."""
    record_evaluation = Member.record_evaluation

    def stopping(self: Member, *given: Any) -> None:
        record_evaluation(self, *given)
        if self.progress.evaluations == evaluation:
            request_stop()

    patch.setattr(Member, "record_evaluation", stopping)


def bytes_of(folder: Path) -> bytes:
    return (folder / "canvas.png").read_bytes()


class TestInterruptions:
    """What was interrupted goes on, in a batch or not, whatever began it."""

    SETTINGS = ("steps=30", "optimizer=adam", "optimizer.lr=0.005", "canvas.start=noise", "seed=0,1,2")
    MORE = ("record.checkpoint_every=4", "record.curves_every=1", "loss/style=[gram,sliced_wasserstein]")

    @pytest.mark.parametrize("optimizer", ["adam", pytest.param("lbfgs", marks=pytest.mark.slow)])
    @pytest.mark.parametrize(
        "launchers", [("batched", "basic"), ("basic", "batched"), ("batched", "batched")]
    )
    def test_stopped_by_ctrl_c_it_is_continued_by_either(
        self,
        pair: dict[str, str],
        launchers: tuple[str, str],
        optimizer: str,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        settings = [*self.SETTINGS, *self.MORE]
        if optimizer == "lbfgs":
            settings += ["optimizer=lbfgs", "optimizer.lr=0.02", "steps=14"]
        whole = sweep("whole", pair, *settings)
        with monkeypatch.context() as patch:
            stop_at(9, patch)
            broken = sweep("broken", pair, *settings, f"hydra/launcher={launchers[0]}", status=130)
        begun = runs(broken)
        assert len(begun) == (3 if launchers[0] == "batched" else 1)
        for folder in begun:
            assert record_of(folder).state == "running"
            progress = read_checkpoint(folder / "checkpoint.ckpt")
            assert progress is not None
            assert progress.step == progress.evaluations == 9
            assert len(totals(folder)) == 9
        sweep("broken", pair, *settings, f"hydra/launcher={launchers[1]}")
        same(broken, whole, 1e-3 if optimizer == "adam" else 2e-2)  # see test_so_it_is_with_lbfgs
        assert not [*broken.glob("*/checkpoint.*")]

    @pytest.mark.parametrize("left", ["old", "damaged"])
    def test_all_go_back_to_the_step_from_which_all_can_continue(
        self, pair: dict[str, str], batches: list[int], monkeypatch: pytest.MonkeyPatch, left: str
    ) -> None:
        settings = ["steps=12", "seed=0,1,2", "canvas.start=noise", "record.checkpoint_every=4", *TOGETHER]
        whole = sweep("whole", pair, *settings)
        with monkeypatch.context() as patch:
            stop_at(9, patch)
            broken = sweep("broken", pair, *settings, status=130)
        last = runs(broken)[-1]
        if left == "old":  # it has not come to write its checkpoint of step 9
            os.replace(last / "checkpoint.previous.ckpt", last / "checkpoint.ckpt")
        else:
            (last / "checkpoint.ckpt").write_bytes((last / "checkpoint.ckpt").read_bytes()[:-1])
        sweep("broken", pair, *settings)
        assert batches == [3, 3, 3]
        for folder in runs(whole):
            assert bytes_of(broken / folder.name) == bytes_of(folder)
            assert totals(broken / folder.name) == totals(folder)

    @pytest.mark.parametrize("schedule", ["steps=4", "schedule=two_sizes"])
    def test_a_batch_whose_last_step_is_made_is_only_written(
        self, pair: dict[str, str], schedule: str
    ) -> None:
        """A folder in the place of a picture stands for a kill, or a full disk, after the last step."""
        settings = [schedule, "size=96", "steps=4", "seed=0,1", "record.checkpoint_every=2", *TOGETHER]
        whole = sweep("whole", pair, *settings)
        for folder in runs(whole):
            (Path("outputs/broken") / folder.name / "canvas.png").mkdir(parents=True)
        broken = sweep("broken", pair, *settings, status=1)
        for folder in runs(broken):
            assert record_of(folder).state == "running"  # not the run's fault: it is continued without asking
            (folder / "canvas.png").rmdir()
        sweep("broken", pair, *settings)
        for folder in runs(whole):
            assert bytes_of(broken / folder.name) == bytes_of(folder)
            assert record_of(broken / folder.name).final_losses == record_of(folder).final_losses

    def test_what_is_finished_keeps_its_place_in_the_batches(
        self, pair: dict[str, str], batches: list[int]
    ) -> None:
        sweep("places", pair, "seed=0,1", "hydra/launcher=batched", "hydra.launcher.size=2")
        sweep("places", pair, "seed=range(7)", "hydra/launcher=batched", "hydra.launcher.size=4")
        assert batches == [2, 2, 3]
        of = {f: record_of(f) for f in runs(Path("outputs/places"))}
        assert {r.config["seed"]: r.stages[0]["batch"] for r in of.values()} == {
            **dict.fromkeys((0, 1, 2, 3), 2),
            **dict.fromkeys((4, 5, 6), 3),
        }

    @pytest.mark.slow
    def test_killed_for_good_the_same_command_finishes_it(self, pair: dict[str, str], tmp_path: Path) -> None:
        settings = [*self.SETTINGS, *self.MORE, "steps=300", f"content={pair['photo']}", *TOGETHER]
        settings += [f"style={pair['painting']}", f"output={tmp_path}", "study=killed"]
        command = [sys.executable, "-m", "nstbench", "run", "-m", *with_tiny(*settings)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        study, deadline = tmp_path / "killed", time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if [*study.glob("*/curves.csv")] and len(totals(next(study.glob("*/curves.csv")).parent)) > 40:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
        assert {record_of(f).state for f in runs(study)} == {"running"}
        before = [len(totals(f)) for f in runs(study)]
        assert main(["run", "-m", *with_tiny(*settings)]) == 0
        assert len(runs(study)) == 3
        for folder, rows in zip(runs(study), before, strict=True):
            record = json.loads((folder / "run.json").read_text())
            assert (record["state"], record["steps"], record["evaluations"]) == ("completed", 300, 300)
            assert len(totals(folder)) == 301 > rows
            assert totals(folder)[-1] < 0.5 * totals(folder)[0]


@pytest.mark.parametrize(("px", "room"), [(64, 32), (128, 8), (256, 1)])
def test_on_a_cpu_canvases_that_gain_nothing_by_it_stay_alone(
    compose_config: Callable[..., Config], px: int, room: int
) -> None:
    config = compose_config(f"size={px}", "pictures.size_is=area")
    with Run.open(config, prepare(config)) as run:
        run.begin_stage()
        assert run.stages_left[0].pixels == pytest.approx(px**2, rel=0.02)
        assert max_batch_size(run) == pytest.approx(room, abs=1 if room > 1 else 0)
