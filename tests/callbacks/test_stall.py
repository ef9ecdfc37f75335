"""Optimisations that stall are told, and others are not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from conftest import last_of_each

from nstbench.cli import main
from nstbench.config.schema import Config
from nstbench.runs.run import Result, run
from nstbench.tracking.record import RunRecord

Compose = Callable[..., Config]

SETTINGS = ("encoder=random", "encoder.width=0.0625", "encoder.shape=vgg11", "size=48", "steps=52")
QUIET = ("metrics=none", "logger=none", "record.progress=false")


@pytest.fixture
def optimized(compose_config: Compose, caplog: pytest.LogCaptureFixture) -> Any:
    """Return a function that runs settings and returns the result, and what was told."""

    def optimize(*settings: str) -> tuple[Result, list[str]]:
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="nstbench"):
            result = run(compose_config(*SETTINGS, *QUIET, *settings))
        return result, [r.getMessage() for r in caplog.records if "stalls" in r.getMessage()]

    return optimize


def test_steps_that_are_too_short_are_told_once(optimized: Any) -> None:
    slow = ("optimizer=adam", "optimizer.lr=1e-9", "canvas=pixels", "canvas.start=noise")
    result, told = optimized(*slow, "steps=101")  # it is tested twice
    (message,) = told
    assert "the run stalls at evaluation 50: over the last 50 the objective moved by" in message
    assert message.endswith("Raise optimizer.lr, now 1e-09.")
    record = RunRecord.read(result.folder)
    assert record is not None
    assert [f"{record.run_id}: {warning}" for warning in record.warnings] == told
    assert "stalls" in (result.folder / "run.log").read_text()


def test_a_command_shows_what_was_told(capsys: pytest.CaptureFixture[str], pair: dict[str, str]) -> None:
    pictures = (f"content={pair['photo']}", f"style={pair['painting']}")
    slow = ("optimizer=adam", "optimizer.lr=1e-9", "canvas=pixels", "canvas.start=noise")
    assert main(["run", *last_of_each(*SETTINGS, *QUIET, *pictures, *slow)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert "the run stalls at evaluation 50" in line


def test_l_bfgs_that_learns_no_curvature_is_told_with_what_does(optimized: Any) -> None:
    tiny = ("weights.unit=paper", "weights.content=0", "weights.style=1e-12", "canvas=pixels")
    tiny += ("loss/content=none", "canvas.start=noise")
    result, told = optimized(*tiny, "optimizer=lbfgs")
    assert "Type optimizer=lbfgs_relative" in "".join(told)
    better, told = optimized(*tiny, "optimizer=lbfgs_relative")
    assert told == better.record.warnings == []
    assert better.record.final_losses["loss/total"] < 0.5 * result.record.final_losses["loss/total"]


@pytest.mark.parametrize(
    "settings",
    [
        ["optimizer=lbfgs", "steps=101"],
        ["optimizer=adam", "steps=101"],
        ["weights.style=0", "loss/style=none", "canvas.start=content", "weights.content=1"],  # at its minimum
        ["optimizer=lbfgs", "steps=151", "weights.style=0", "loss/style=none", "canvas.start=noise"],
    ],
    ids=["lbfgs", "adam", "minimum", "converging"],
)
def test_others_are_not(optimized: Any, settings: list[str]) -> None:
    result, told = optimized(*settings)
    assert told == result.record.warnings == []


def test_to_watch_changes_no_picture(optimized: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ("optimizer=adam", "optimizer.lr=1e-9", "canvas=pixels", "canvas.start=noise")
    settings += ("loss/style=sliced_wasserstein",)
    watched, told = optimized(*settings, "study=watched")
    assert told
    monkeypatch.setattr("nstbench.callbacks.stall.WINDOW", 10**6)
    alone, told = optimized(*settings, "study=alone")
    assert not told
    assert watched.record.canvas_sha256 == alone.record.canvas_sha256
