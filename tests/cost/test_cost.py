"""What a run is predicted to cost, and what is said where it does not fit."""

from __future__ import annotations

import json
import logging
import math
import mmap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import with_tiny

from nstbench.cli import main
from nstbench.config.instantiate import build
from nstbench.config.schema import Config, StageSettings
from nstbench.cost import memory as memory_module
from nstbench.cost import prediction as cost_module
from nstbench.cost.memory import check_memory, raise_if_too_large, settings_that_fit
from nstbench.cost.prediction import Cost, predict
from nstbench.cost.trials import Trial, count_largest_block_pixels
from nstbench.errors import UserError
from nstbench.modules.footprint import memory_of
from nstbench.runs.plan import canvas_shape
from nstbench.runs.preparation import Prepared, prepare
from nstbench.runs.run import Run, run
from nstbench.runtime import device as device_module
from nstbench.runtime.device import free_memory, held_memory, peak_memory, reset_peak_memory
from nstbench.runtime.files import write_atomically
from nstbench.runtime.tensor_file import read_tensors, write_tensors

Compose = Callable[..., Config]
CPU = torch.device("cpu")
LARGER = ("encoder.width=0.5", "size=256", "steps=20", "canvas.start=noise")


def prepared(config: Config) -> tuple[Config, Prepared]:
    return config, prepare(config)


# ------------------------------------------------------------------------------ predicted and seen


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(("schedule=two_sizes",), id="two sizes"),
        pytest.param(("loss/style=mrf", "optimizer=adam"), id="patches", marks=pytest.mark.slow),
        pytest.param(("optimizer.history_size=100",), id="long history", marks=pytest.mark.slow),
    ],
)
def test_a_run_takes_about_what_was_predicted(settings: tuple[str, ...], compose_config: Compose) -> None:
    config, parts = prepared(compose_config(*LARGER, *settings))
    cost = predict(config, parts)
    record = run(config, prepared=parts).record
    assert all(stage.was_measured for stage in cost.stages)
    # Tests share the machine: seconds are compared closely by `python -m benchmarks.cost`.
    seen = record.timings["optimize_s"]
    assert seen / 4 < sum(stage.seconds for stage in cost.stages) < 4 * seen
    assert cost.memory == pytest.approx(record.peak_memory_bytes, rel=0.15)


def test_nothing_is_left_of_a_prediction(compose_config: Compose, tmp_path: Path) -> None:
    predict(*prepared(compose_config("logger=csv", "record.snapshot_every=1", "record.animation=gif")))
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"photo.png", "painting.png"}


def test_auto_has_two_precisions_and_a_plateau_no_part_in_it(
    compose_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def trials(
        config: Config, parts: Prepared, stage: StageSettings, seconds: float, *, metrics: bool
    ) -> list[Trial]:
        tried.append(stage.precision)
        return [trial(48, step_seconds=1.0 if tried[-1] == "bf16" else 2.0)]

    monkeypatch.setattr(cost_module, "make_trials", trials)
    monkeypatch.setattr(cost_module, "fast_bf16", lambda device: True)
    config, parts = prepared(compose_config("optimizer=adam", "schedule.precision=auto", "steps=10"))
    assert predict(config, parts).stages[0].step_seconds == pytest.approx(0.8 * 1.0 + 0.2 * 2.0)
    assert tried == ["bf16", "fp32"]
    monkeypatch.setattr(cost_module, "fast_bf16", lambda device: False)
    assert predict(config, parts).stages[0].step_seconds == 2.0


# ------------------------------------------------------------------------------ extrapolated


def trial(size: int, **told: float) -> Trial:
    pixels = size * size
    usual = Trial(
        size=size,
        pixels=pixels,
        flops=1000.0 * pixels,
        step_seconds=1e-6 * pixels,
        setup_seconds=1.0,
        metrics_seconds=0.5,
        memory=500_000_000 + 1000 * pixels,
        kept=0,
        parameters=3 * pixels,
        history=0,
    )
    return replace(usual, **told)


def extrapolated(
    trials: list[Trial], settings: tuple[str, ...], compose_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> Cost:
    monkeypatch.setattr(cost_module, "make_trials", lambda *_, **__: trials)
    config, parts = prepared(compose_config("optimizer=adam", "steps=10", *settings))
    size = config.size
    assert math.prod(parts.inputs.content.pixels.shape[-2:]) > 0  # type: ignore[union-attr]
    square = (size, size)
    monkeypatch.setattr(cost_module, "canvas_shape", lambda *_: square)
    return predict(config, parts, since=7.0)


def test_what_grows_with_pixels_is_extrapolated_along_them(
    compose_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = extrapolated([trial(100), trial(200)], ("size=400",), compose_config, monkeypatch)
    (stage,) = cost.stages
    assert stage.step_seconds == pytest.approx(0.16)
    assert stage.memory == pytest.approx(500_000_000 + 1000 * 400**2)
    assert (stage.was_measured, stage.sizes, stage.bytes_per_pixel) == (False, [100, 200], 1000)
    assert cost.seconds == pytest.approx(7.0 + 1.0 + 10 * 0.16 + 0.5)


def test_losses_that_compare_pairs_grow_with_the_square(
    compose_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [trial(n, flops=1000.0 * n**2 + n**4) for n in (100, 200)]
    cost = extrapolated(trials, ("size=400",), compose_config, monkeypatch)
    grown = (1000.0 * 400**2 + 400**4) / (1000.0 * 200**2 + 200**4)
    assert cost.stages[0].step_seconds == pytest.approx(0.04 * grown)


def test_gaps_in_the_heap_are_not_extrapolated(
    compose_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = trial(200, kept=600.0)
    cost = extrapolated([trial(100), last], ("size=400",), compose_config, monkeypatch)
    assert cost.memory == pytest.approx(last.memory + 600 * (400**2 - 200**2))


def test_the_history_of_lbfgs_is_added_as_it_fills(
    compose_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost_module, "_seconds_per_pair", lambda *_: 0.01)
    trials = [trial(200, history=6), trial(400, history=6)]
    settings = ("size=400", "optimizer=lbfgs", "optimizer.history_size=50", "steps=100")
    (stage,) = extrapolated(trials, settings, compose_config, monkeypatch).stages
    filled = sum(min(i, 50) for i in range(100)) / 100
    assert stage.step_seconds == pytest.approx(0.16 + 0.01 * (filled - 3))
    assert stage.memory == trials[-1].memory + 44 * 2 * 4 * 3 * 400**2
    (short,) = extrapolated(trials, (*settings, "steps=8"), compose_config, monkeypatch).stages
    assert short.memory == trials[-1].memory + 2 * 2 * 4 * 3 * 400**2


# ------------------------------------------------------------------------------ what does not fit


def world(
    config: Config, parts: Prepared, stage: StageSettings, seconds: float, *, metrics: bool = False
) -> list[Trial]:
    """Return what trials would say if maps took 2000 bytes a pixel, of a block or of the canvas."""
    made = []
    for size in (stage.size // 2, stage.size):
        encoded = count_largest_block_pixels(config, parts, size, config.blockwise.tile)
        pixels = math.prod(canvas_shape(config.pictures, parts.inputs, size))
        vectors = (6 * 2 * 4 + 32) * 3 * pixels
        memory = 1_000_000_000 + 2000 * encoded + vectors
        made.append(trial(size, pixels=pixels, memory=memory, parameters=3 * pixels, history=6))
    return made


@pytest.mark.parametrize(
    ("per_pixel", "offered"),
    [
        (2600, ["optimizer.history_size", "blockwise.tile", "size"]),
        pytest.param(1900, ["blockwise.tile", "size"], marks=pytest.mark.slow),
        pytest.param(900, ["blockwise.tile optimizer.history_size", "size"], marks=pytest.mark.slow),
        (0, []),
    ],
)
def test_a_run_that_does_not_fit_is_refused_with_settings_that_do(
    per_pixel: int,
    offered: list[str],
    compose_config: Compose,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Of about 3300 bytes a pixel, 1300 are vectors of L-BFGS and the canvas."""
    settings = ("size=2048", "optimizer.history_size=50", "steps=200")
    config, parts = prepared(compose_config(*settings))
    pixels = math.prod(canvas_shape(config.pictures, parts.inputs, 2048))
    free = int((1e9 + per_pixel * pixels) / 0.85) if per_pixel else 10**9
    monkeypatch.setattr(cost_module, "make_trials", world)
    monkeypatch.setattr(cost_module, "held_memory", lambda device: 0)
    monkeypatch.setattr(cost_module, "free_memory", lambda device: free)
    monkeypatch.setattr(memory_module, "_MAX_BYTES_PER_PIXEL", 1e6)
    begin = "size=2048: it would take about "
    with pytest.raises(UserError, match=begin) as refused:
        run(config, prepared=parts, on_begin=lambda _: check_memory(config, parts))
    assert list(tmp_path.rglob("run.json")) == []
    told = str(refused.value).partition("Settings that fit: ")[2].partition(". With")[0]
    found = [each for each in told.split(", or ") if each]
    assert [" ".join(s.split("=")[0] for s in each.split()) for each in found] == offered
    for each in found:
        other, its_parts = prepared(compose_config(*settings, *each.split()))
        assert predict(other, its_parts).memory < 0.95 * free, each
    check_memory(*prepared(compose_config(*settings, "trainer.check_memory=false")))


def test_blocks_are_not_offered_to_losses_that_cannot_be_computed_so(
    compose_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, parts = prepared(compose_config("loss/style=histogram", "optimizer=adam", "size=96"))
    monkeypatch.setattr(cost_module, "make_trials", world)
    cost = replace(predict(config, parts), free=1000)
    assert settings_that_fit(config, parts, cost) == []
    with pytest.raises(UserError, match=r"is free\. Give a smaller size\. With trainer\.check_memory"):
        raise_if_too_large(config, parts, cost)


def test_a_run_that_fits_narrowly_is_begun_with_a_warning(
    compose_config: Compose, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config, parts = prepared(compose_config())
    monkeypatch.setattr(memory_module, "_MAX_BYTES_PER_PIXEL", 1e9)
    monkeypatch.setattr(cost_module, "make_trials", world)
    needed = predict(config, parts).memory
    monkeypatch.setattr(cost_module, "free_memory", lambda device: int(1.1 * needed))
    monkeypatch.setattr(cost_module, "held_memory", lambda device: 0)
    with caplog.at_level(logging.WARNING):
        check_memory(config, parts)
    assert "that are free" in caplog.text


def test_small_runs_are_not_tried(compose_config: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "predict", lambda *_, **__: pytest.fail("it was tried"))
    check_memory(*prepared(compose_config()))


# ------------------------------------------------------------------------------ as it is typed


def test_dry_run_tells_and_writes_nothing(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["run", *with_tiny("--dry-run", "size=128")]) == 0
    out = capfd.readouterr().out
    assert "│ 128  │ 128×128 │ 4     │ tf32      │" in out
    assert "Nothing was written." in out
    assert " of the " in out
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_dry_run_of_a_sweep_tries_each_kind_of_run_once(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    typed = [*with_tiny("-m", "seed=0,1,2", "weights.style=1,10", "loss/style=gram,moments", "--dry-run")]
    assert main(["run", *typed, "hydra/launcher=pool"]) == 0
    out = capfd.readouterr().out
    assert out.count("│ 6    │") == 2
    assert "loss/style=gram" in out
    assert "loss/style=moments" in out
    assert "12 runs, one after the other: about" in out
    assert main(["run", *with_tiny("-m", "seed=0,1,2", "--dry-run")]) == 0
    assert "3 runs, one after the other" in capfd.readouterr().out
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_dry_run_refuses_what_does_not_fit(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost_module, "free_memory", lambda device: 1_000_000)
    monkeypatch.setattr(cost_module, "held_memory", lambda device: 0)
    assert main(["run", *with_tiny("--dry-run")]) == 2
    said = capfd.readouterr()
    assert "of the 1 MB that are free" in said.out
    assert said.err.startswith("nstbench: size=48: it would take about ")
    assert said.err.count("\n") == 1


def test_a_dry_run_that_diverges_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *with_tiny("--dry-run", "optimizer=adam", "optimizer.lr=1e30")]) == 1
    said = capfd.readouterr().err
    assert said.startswith("nstbench: the dry run failed: the objective became")
    assert said.endswith("Try a smaller optimizer.lr, or smaller weights.\n")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--dryrun"], "nstbench: --dryrun: there is no such flag. Did you mean --dry-run"),
        (["--dry-run", "size=abc"], "nstbench: size=abc: it must be a whole number"),
        (
            ["--dry-run", "content=nowhere.jpg"],
            "nstbench: pictures.content=nowhere.jpg: there is no such file",
        ),
        (
            ["-m", "--dry-run", "hydra/sweeper=optuna", "weights.style=interval(1,10)"],
            "nstbench: --dry-run: which runs a search makes depends on their results",
        ),
    ],
)
def test_mistakes(typed: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *with_tiny(*typed)]) == 2
    assert capfd.readouterr().err.startswith(said)


# ------------------------------------------------------------------------------ memory


def test_peak_memory_is_of_the_time_since_it_was_reset() -> None:
    # Mapped, for what is freed to the heap may stay with the process.
    with mmap.mmap(-1, 200_000_000) as large:
        np.frombuffer(large, np.uint8)[:: mmap.PAGESIZE] += 1
        high = peak_memory(CPU)
    assert high > 200_000_000
    reset_peak_memory(CPU)
    assert peak_memory(CPU) < high - 150_000_000
    assert peak_memory(CPU) == pytest.approx(held_memory(CPU), rel=0.1)


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_leaves_less(version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "_CGROUP", tmp_path)
    free = free_memory(CPU)
    folder, names = (
        (tmp_path, ("memory.max", "memory.current", "file"))
        if version == 2
        else (tmp_path / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache"))
    )
    folder.mkdir(exist_ok=True)
    (folder / names[0]).write_text("3000000\n")
    (folder / names[1]).write_text("2500000\n")
    (folder / "memory.stat").write_text(f"anon 1900000\n{names[2]} 600000\n")
    assert free_memory(CPU) == 3_000_000 - 2_500_000 + 600_000 < free
    (folder / names[0]).write_text("max\n")
    assert free_memory(CPU) == pytest.approx(free, rel=0.2)


def test_the_record_has_the_peak_of_its_own_run(compose_config: Compose) -> None:
    run(compose_config("seed=1"))
    large = np.ones(400_000_000, dtype=np.uint8)
    before = peak_memory(CPU)
    del large
    record = json.loads((run(compose_config()).folder / "run.json").read_text(encoding="utf-8"))
    assert record["peak_memory_bytes"] < before - 300_000_000


def test_a_checkpoint_is_not_made_in_memory_first(tmp_path: Path) -> None:
    state = {"history": torch.ones(50_000_000)}
    reset_peak_memory(CPU)
    before = peak_memory(CPU)
    write_atomically(tmp_path / "checkpoint.ckpt", lambda file: write_tensors(file, state))
    assert peak_memory(CPU) - before < 100_000_000
    assert read_tensors(tmp_path / "checkpoint.ckpt")["history"].numel() == 50_000_000


def test_counting_what_is_kept_keeps_nothing(compose_config: Compose) -> None:
    config, parts = prepared(compose_config("size=256", "encoder.width=0.25"))
    with Run.open(config, parts) as opened:
        opened.begin_stage()
        optimizer = build(config.optimizer)(opened.member.canvas.parameters())
        need = memory_of(opened.member, optimizer)
        before = held_memory(CPU)
        for _ in range(5):
            assert memory_of(opened.member, optimizer) == need
        assert held_memory(CPU) - before < need
