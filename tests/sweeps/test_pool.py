"""The pool of processes: what becomes of jobs whose process dies, and of those around them."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, with_tiny

from nstbench.cli import main
from nstbench.errors import UserError
from nstbench.sweeps.launchers.pool import check_settings
from nstbench.sweeps.launchers.worker_pool import Limits, LostJob, Pool


def work(job: tuple[str, Any]) -> Any:
    """Do as told, in a worker."""
    what, value = job
    if what == "crash":
        os.kill(os.getpid(), value)
    if what == "exit":
        os._exit(value)
    if what == "sleep":
        time.sleep(value)
    if what == "grow":
        hoard = bytearray(value)
        time.sleep(30 if hoard else 0)
    if what == "environment":
        return os.environ.get(value)
    return os.getpid() if what == "pid" else value


def nothing() -> None:
    """Need nothing."""


def refuse() -> None:
    """Fail before the first job."""
    sys.exit(3)


def pool(workers: int = 1, limits: Limits | None = None, **more: Any) -> Pool:
    return Pool(pickle.dumps(work), more.pop("start", nothing), workers, limits or Limits(), **more)


def run(jobs: list[tuple[str, Any]], workers: int = 1, limits: Limits | None = None, **more: Any) -> Any:
    lost: list[LostJob] = []
    results = pool(workers, limits, **more).run(jobs, lost.append)
    return results, {loss.job: loss.reason for loss in lost}


def test_results_come_in_the_order_of_the_jobs() -> None:
    jobs = [("sleep", 0.3 if i == 0 else 0.0) for i in range(6)]
    results, lost = run([("value", i) for i in range(3)] + jobs, workers=2)
    assert results == [0, 1, 2, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert lost == {}


def test_a_worker_does_many_jobs_and_another_takes_the_place_of_one_that_died() -> None:
    jobs = [("pid", 0), ("pid", 0), ("crash", signal.SIGSEGV), ("pid", 0), ("exit", 7), ("pid", 0)]
    results, lost = run(jobs)
    first, second, died, third, left, fourth = results
    assert first == second
    assert len({first, third, fourth, os.getpid()}) == 4
    assert (died, left) == (None, None)
    assert lost == {2: "its process was killed by SIGSEGV", 4: "its process ended with status 7"}


def test_a_job_killed_by_hand_says_what_else_it_may_have_been() -> None:
    _, lost = run([("crash", signal.SIGKILL)])
    assert lost == {0: "its process was killed by SIGKILL, by a user or for lack of memory"}


def test_a_job_that_takes_too_long_is_stopped_and_the_others_are_not_kept_waiting() -> None:
    began = time.monotonic()
    results, lost = run([("sleep", 60), ("value", 1), ("sleep", 0.2)], limits=Limits(seconds=1.0))
    assert results == [None, 1, 0.2]
    assert lost == {0: "it took longer than timeout=1 seconds"}
    assert time.monotonic() - began < 20


def test_a_job_that_grows_too_large_is_stopped() -> None:
    limit = 400 * 2**20
    results, lost = run([("grow", 2**30), ("value", 1)], limits=Limits(memory=limit))
    assert results == [None, 1]
    assert lost[0].startswith("it used ")
    assert lost[0].endswith(" MiB of memory, more than memory_limit=400 MiB")


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_take_turns_with_the_environments_they_are_given(workers: int) -> None:
    environments: list[Mapping[str, str]] = [{"NSTBENCH_TEST": "a"}, {"NSTBENCH_TEST": "b"}]
    jobs = [("environment", "NSTBENCH_TEST"), ("sleep", 1.0)] * workers
    results, _ = run(jobs, workers=workers, environment=environments)
    assert set(results) - {1.0} <= {"a", "b"}
    assert results[0] == "a" or workers == 2
    assert "NSTBENCH_TEST" not in os.environ


def test_a_pool_whose_workers_cannot_start_gives_up() -> None:
    with pytest.raises(RuntimeError, match="workers cannot start: its process ended with status 3"):
        run([("value", 1)], start=refuse)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"workers": 0}, "hydra.launcher.workers=0: it must be greater than or equal to 1"),
        ({"timeout": -1}, "hydra.launcher.timeout=-1: it must be greater than 0"),
        ({"memory_limit": "much"}, "hydra.launcher.memory_limit=much: it must be a size of at least 256MiB"),
        ({"memory_limit": 4}, "hydra.launcher.memory_limit=4: it must be a size of at least 256MiB"),
        ({"threads": "two"}, "hydra.launcher.threads=two: "),
    ],
)
def test_settings_that_cannot_be_used_are_refused_with_an_example(given: dict[str, Any], said: str) -> None:
    all_of_them = {"workers": None, "threads": None, "timeout": None, "memory_limit": None, **given}
    with pytest.raises(UserError) as refused:
        check_settings(**all_of_them)
    assert str(refused.value).startswith(said)
    (name,) = given
    assert f"Type hydra.launcher.{name}=" in str(refused.value)
    assert check_settings(workers=2, threads=1, timeout=5, memory_limit="1.5GiB").memory_limit == 3 * 2**29


def test_a_mistake_in_the_launchers_settings_is_one_line_and_status_2(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sweep = ["run", "-m", *with_tiny("seed=0,1", "hydra/launcher=pool")]
    assert main([*sweep, "hydra.launcher.workers=none"]) == 2
    assert main([*sweep, "hydra.launcher.wrokers=2"]) == 2
    first, second = capfd.readouterr().err.strip().splitlines()
    assert first.startswith("nstbench: hydra.launcher.workers=none: ")
    assert second.startswith("nstbench: hydra.launcher.wrokers=2: there is no such setting. Did you mean ")
    assert [*tmp_path.iterdir()] == []


def test_an_encoder_is_loaded_once_per_worker_not_once_per_run(
    tmp_path: Path, pair: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOADS", str(tmp_path / "loads"))
    option = tmp_path / "own" / "encoder" / "counted.yaml"
    option.parent.mkdir(parents=True)
    option.write_text("# counts how often it is loaded\n_target_: misbehaviour.counted\nwidth: 0.0625\n")
    tiny = [each for each in TINY if not each.startswith("encoder")]
    sweep = ["run", "-m", *tiny, "--config-dir", "own", "encoder=counted"]
    sweep += [f"content={pair['photo']}", f"style={pair['painting']}", "canvas.start=noise", "seed=range(6)"]
    assert main([*sweep, "hydra/launcher=pool", "hydra.launcher.workers=2"]) == 0
    processes = (tmp_path / "loads").read_text().split()
    assert processes.count(str(os.getpid())) == 1  # to check the settings
    assert len(processes) == len(set(processes)) == 3
