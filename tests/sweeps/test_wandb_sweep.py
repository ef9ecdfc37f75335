"""``wandb agent`` drives ``nstbench run``: wandb's own code makes the command from docs/wandb_sweep.yaml."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml
from conftest import TINY
from wandb.wandb_agent import Agent

from nstbench.config.schema import Config
from nstbench.runs.run import Result, run
from nstbench.tracking.dashboards import log_for_agent

SWEEP = yaml.safe_load((Path(__file__).parents[2] / "docs" / "wandb_sweep.yaml").read_text())
CHOSEN = {"weights.style": 1.23456789e-1, "weights.regularizer": 1e-05, "optimizer": "adam"}
"""What a server might propose."""


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Agent:
    """wandb's agent, without the server that it would ask for proposals."""
    for name in ("RUN_ID", "SWEEP_PARAM_PATH", "DIR"):  # it sets them for what it starts
        monkeypatch.setenv(getattr(wandb.env, name), "")
        monkeypatch.delenv(getattr(wandb.env, name))
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep001")
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    found = Agent(api=None, queue=None, sweep_id="sweep001")
    found._sweep_command = [e for e in SWEEP["command"] if not e.startswith(("size=", "steps="))]  # smaller
    return found


def proposal(run_id: str) -> dict[str, Any]:
    assert set(CHOSEN) == set(SWEEP["parameters"])
    tiny = dict(
        setting.split("=")
        for setting in TINY
        if not setting.startswith(("logger", "metrics", "size", "steps"))
    )
    args = {**CHOSEN, **tiny, "metrics": "fast", "size": 48, "steps": 3}
    return {
        "program": SWEEP["program"],
        "run_id": run_id,
        "args": {key: {"value": value} for key, value in args.items()},
    }


def started(agent: Agent, run_id: str) -> int:
    agent._command_run(proposal(run_id))
    process = agent._run_processes[run_id]
    return int(process.wait(timeout=60))


def said_of(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", "--summary", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_a_run_that_the_agent_starts_is_its_run(agent: Agent, tmp_path: Path) -> None:
    assert started(agent, "agents01") == 0
    study = tmp_path / "outputs" / "wandb_search"
    (file,) = study.glob("*/run.json")
    record = json.loads(file.read_text())
    assert record["config"]["weights"]["style"] == pytest.approx(CHOSEN["weights.style"])
    assert record["config"]["weights"]["unit"] == "gradient"
    assert record["config"]["weights"]["regularizer"] == CHOSEN["weights.regularizer"]
    assert record["config"]["optimizer"]["_target_"] == "torch.optim.Adam"
    assert [*record["config"]["loss"]["style"]] == ["sliced_wasserstein"]

    (folder,) = (study / "wandb").glob("offline-run-*")
    assert folder.name.endswith("-agents01")
    said = said_of(folder)
    assert (said["project"], said["state"], said["exit_code"]) == ("theirs", "finished", 0)
    assert said["name"] == record["run_id"]
    # A sweep's proposals are kept under the names it knows them by.
    for name, value in CHOSEN.items():
        assert said["config"][name] == value
    assert said["summary"]["metrics/ssim"] == pytest.approx(record["metrics"]["ssim"])
    assert said["summary"]["loss/total"] == pytest.approx(record["final_losses"]["loss/total"])


def test_the_sweep_optimises_what_runs_log(compose_config: Callable[..., Config]) -> None:
    metric = SWEEP["metric"]
    result = run(compose_config("metrics=default", "steps=1"))
    assert metric["name"].removeprefix("metrics/") in result.record.metrics
    assert metric == {"name": "metrics/gram_distance", "goal": "minimize"}


def test_the_names_in_the_sweep_are_ones_that_wandb_takes() -> None:
    """By the schema of wandb's package sweeps, which its server checks against."""
    for name, values in SWEEP["parameters"].items():
        assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name)
        assert set(values) in ({"values"}, {"distribution", "min", "max"})
    assert set(SWEEP) == {"program", "command", "method", "metric", "parameters"}


def test_a_run_finished_before_is_told_to_the_agent_alone(
    compose_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose_config("metrics=fast", "logger=[wandb]")
    result: Result = run(config)
    wandb_folder = Path("outputs/first/wandb")
    assert len([*wandb_folder.glob("offline-run-*")]) == 1
    log_for_agent(config.logger, result.record, result.folder)
    assert len([*wandb_folder.glob("offline-run-*")]) == 1

    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep001")
    monkeypatch.setenv("WANDB_RUN_ID", "agents02")
    wandb.teardown()  # it reads the environment once
    try:
        log_for_agent(config.logger, result.record, result.folder)
    finally:
        wandb.teardown()
    (folder,) = wandb_folder.glob("offline-run-*-agents02")
    assert said_of(folder)["summary"]["metrics/ssim"] == pytest.approx(result.record.metrics["ssim"])
