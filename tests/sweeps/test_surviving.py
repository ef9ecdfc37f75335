"""Sweeps of which something dies, as a user sees them: in processes of their own, with signals.

`start` and `sweep` start Python anew, for tests of Slurm; here commands are forks, which start at once.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from commands import Command, CommandServer
from conftest import with_tiny
from misbehaviour import misbehaving

from nstbench.cli import main
from nstbench.tracking.lock import STALE
from nstbench.tracking.record import RunRecord

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "nstbench", "run", "-m"]
WELL = [f"w{i}" for i in range(4)]
BADLY = ["raise", "abort", "memory", "hang"]


def environment() -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *with_tiny(*arguments)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def sweep(*arguments: str, status: int = 0) -> str:
    process = start(*arguments)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == status, printed
    return printed


def begin(commands: CommandServer, *arguments: str) -> Command:
    """Start a sweep that finds `misbehaviour`."""
    return commands.start("run", "-m", *with_tiny(*arguments), environment=environment())


def records(study: Path) -> dict[str, RunRecord]:
    found = {file.parent.name: RunRecord.read(file.parent) for file in study.glob("*/run.json")}
    return {name: record for name, record in found.items() if record is not None}


def pictures(study: Path) -> dict[str, bytes]:
    return {file.parent.name: file.read_bytes() for file in study.glob("*/canvas.png")}


def how(record: RunRecord) -> str:
    return str(record.config["loss"]["regularizer"]["misbehave"]["how"])


def wait_until(condition: Iterable[bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    for met in condition:
        if met or time.monotonic() > deadline:
            break
        time.sleep(0.005)


def test_runs_that_raise_crash_hoard_and_hang_fail_alone(
    tmp_path: Path, pair: dict[str, str], commands: CommandServer
) -> None:
    values = ",".join([*BADLY, *WELL])
    process = begin(
        commands,
        *misbehaving(tmp_path / "own"),
        *(f"content={pair['photo']}", f"style={pair['painting']}", "output=out", "study=bad", "steps=20"),
        f"loss.regularizer.misbehave.how={values}",
        *("hydra/launcher=pool", "hydra.launcher.workers=2", "hydra.launcher.timeout=8"),
        "hydra.launcher.memory_limit=2GiB",
    )
    printed, _ = process.communicate()
    assert process.returncode == 1, printed
    found = records(tmp_path / "out" / "bad")
    assert len(found) == 8
    by_how = {how(record): record for record in found.values()}
    assert {name for name, record in by_how.items() if record.state == "completed"} == set(WELL)
    reasons = {
        "raise": r"RuntimeError: the loss is out of order",
        "abort": r"its process was killed by SIGABRT",
        "memory": r"it used \d+ MiB of memory, more than memory_limit=2048 MiB",
        "hang": r"it took longer than timeout=8 seconds",
    }
    assert "8 runs: 4 completed, 4 failed" in printed
    summary = printed.partition("8 runs:")[2]
    for name, reason in reasons.items():
        record = by_how[name]
        assert record.state == "failed"
        assert re.fullmatch(reason, record.error or "")
        line = next(line for line in summary.splitlines() if f".how={name} " in line)
        assert re.search(reason, line)
    logs = {name: (tmp_path / "out" / "bad" / r.run_id / "run.log") for name, r in by_how.items()}
    for name in BADLY:
        assert str(Path("out/bad") / logs[name].parent.name / "run.log") in summary
    # The logs say where: Python's traceback, or that of the interpreter's last moment.
    assert "RuntimeError: the loss is out of order" in logs["raise"].read_text()
    assert "Aborted" in logs["abort"].read_text()
    for name in ("abort", "hang"):
        assert "misbehaviour.py" in logs[name].read_text()


@pytest.mark.parametrize("launcher", ["basic", pytest.param("pool", marks=pytest.mark.slow)])
def test_what_failed_is_tried_again_only_when_asked(
    tmp_path: Path,
    pair: dict[str, str],
    launcher: str,
    commands: CommandServer,
) -> None:
    arguments = [
        *("run", "-m", *with_tiny(*misbehaving(tmp_path / "own"))),
        *(f"content={pair['photo']}", f"style={pair['painting']}", "output=out", "study=again", "steps=20"),
        *("loss.regularizer.misbehave.how=raise,well", f"hydra/launcher={launcher}"),
    ]
    study = tmp_path / "out" / "again"
    process = commands.run(*arguments, environment=environment())
    assert "2 runs: 1 completed, 1 failed" in process.printed
    assert process.returncode == 1
    first = {name: (study / name / "run.json").read_bytes() for name in records(study)}
    process = commands.run(*arguments, environment=environment())
    printed = process.printed
    assert process.returncode == 1
    assert "2 runs: 0 completed, 1 done before, 1 failed" in printed
    assert "retry_failed=true" in printed
    assert {name: (study / name / "run.json").read_bytes() for name in records(study)} == first
    # The fault is mended: the same run, from its checkpoint, is completed.
    mended = (Path(__file__).parent / "misbehaviour.py").read_text().replace('"raise"', '"never"')
    (tmp_path / "own" / "misbehaviour.py").write_text(mended)
    path = os.pathsep.join([str(tmp_path / "own"), str(ROOT)])
    process = commands.run(*arguments, "retry_failed=true", environment={"PYTHONPATH": path})
    printed = process.printed
    assert process.returncode == 0, printed
    assert "2 runs: 1 completed, 1 done before, 0 failed" in printed
    assert [r.state for r in records(study).values()] == ["completed", "completed"]


@pytest.mark.slow  # tests/benchmarks/test_robustness.py kills a few
@pytest.mark.parametrize(
    ("launcher", "runs", "kills"),
    [
        ("pool", 12, 3),
        ("basic", 12, 3),
    ],
)
def test_a_sweep_that_is_killed_ends_with_the_same_bytes(
    tmp_path: Path, pair: dict[str, str], launcher: str, runs: int, kills: int
) -> None:
    arguments = [
        *(f"content={pair['photo']}", f"style={pair['painting']}", "output=out", "steps=60"),
        *("canvas.start=noise", f"seed=range({runs})", "record.checkpoint_every=7", "record.curves_every=1"),
        *(f"hydra/launcher={launcher}", "metrics=fast"),
    ]
    if launcher == "pool":
        arguments += ["hydra.launcher.workers=2"]
    sweep(*arguments, "study=whole")
    broken = tmp_path / "out" / "broken"
    ended: dict[str, int] = {}
    rng = random.Random(launcher)
    rows = sorted(rng.sample(range(30, runs * 60 - 60), kills))
    for kill_at in rows:
        process = start(*arguments, "study=broken")

        def far_enough(kill_at: int = kill_at, process: subprocess.Popen[str] = process) -> Iterable[bool]:
            while process.poll() is None:
                yield (
                    sum(len(f.read_bytes().splitlines()) - 1 for f in broken.glob("*/curves.csv")) >= kill_at
                )
            yield True

        wait_until(far_enough())
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the sweep ended before it could be killed"
        for name, record in records(broken).items():
            if record.state == "completed":
                written = (broken / name / "run.json").stat().st_mtime_ns
                assert ended.setdefault(name, written) == written, "a finished run ran again"
    assert len(ended) < runs
    assert ended
    printed = sweep(*arguments, "study=broken")
    assert f"{runs} runs: {runs - len(ended)} completed" in printed
    assert " 0 failed" in printed
    assert f", {len(ended)} done before" in printed
    for name, written in ended.items():
        assert (broken / name / "run.json").stat().st_mtime_ns == written
    whole = pictures(tmp_path / "out" / "whole")
    assert len(whole) == runs
    assert pictures(broken) == whole
    assert not [*broken.glob("*/checkpoint*"), *broken.glob("*/.owner"), *broken.glob(".sweep/*-*")]


@pytest.mark.parametrize(
    ("launcher", "times"),
    [
        ("pool", 1),
        ("basic", 2),
        pytest.param("basic", 1, marks=pytest.mark.slow),
        pytest.param("pool", 2, marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_stops_where_the_same_command_continues(
    tmp_path: Path, pair: dict[str, str], launcher: str, times: int, commands: CommandServer
) -> None:
    arguments = [
        *(f"content={pair['photo']}", f"style={pair['painting']}", "output=out", "study=stopped"),
        *("canvas.start=noise", "seed=0,1,2", "steps=3000", "record.checkpoint_every=100000"),
        *("record.curves_every=1", f"hydra/launcher={launcher}"),
    ]
    study = tmp_path / "out" / "stopped"
    process = begin(commands, *arguments)

    def under_way() -> Iterable[bool]:
        while process.poll() is None:
            yield any(len(f.read_bytes().splitlines()) > 30 for f in study.glob("*/curves.csv"))
        yield True

    wait_until(under_way())
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the sweep
        time.sleep(0.02)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 130, printed
    assert "Traceback" not in printed
    assert "the same command continues" in printed
    assert re.search(r"3 runs: 0 completed, 3 not finished, 0 failed", printed)
    states = {record.state for record in records(study).values()}
    assert states == {"running"}
    # Stopped where it can continue: no checkpoint was due for long, yet none of the work is lost.
    if times == 1:
        assert [*study.glob("*/checkpoint.ckpt")]

    def alone() -> Iterable[bool]:
        while subprocess.run(["pgrep", "-s", str(process.pid)], capture_output=True).stdout:
            yield False
        yield True

    wait_until(alone(), seconds=5)
    assert next(iter(alone())), "processes of the sweep are left"


def test_two_processes_share_a_sweep(tmp_path: Path, pair: dict[str, str], commands: CommandServer) -> None:
    arguments = [
        *(f"content={pair['photo']}", f"style={pair['painting']}", "output=out", "study=shared"),
        *("canvas.start=noise", "seed=range(6)", "steps=150", "record.curves_every=1"),
    ]
    both = [begin(commands, *arguments) for _ in range(2)]
    printed = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    counts = [
        {word: int(n) for n, word in re.findall(r"(\d+) (completed|done)", text.split("6 runs:")[1])}
        for text in printed
    ]
    assert sum(count["completed"] for count in counts) == 6  # each run by one of the two, none by both
    # Neither ends before all is done, whoever does it.
    assert all(sum(count.values()) == 6 for count in counts)
    found = records(tmp_path / "out" / "shared")
    assert [record.state for record in found.values()] == ["completed"] * 6
    for name in found:
        rows = (tmp_path / "out" / "shared" / name / "curves.csv").read_text().splitlines()
        assert len(rows) == 1 + 151, "two processes wrote one file"


def test_what_a_lost_node_held_is_taken_over_when_its_heart_has_stopped(
    tmp_path: Path, pair: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    sweep = ["run", "-m", *with_tiny(f"content={pair['photo']}", f"style={pair['painting']}", "output=out")]
    sweep += ["study=lost", "canvas.start=noise", "seed=0,1"]
    assert main(sweep) == 0
    (one, two) = sorted((tmp_path / "out" / "lost").glob("*/run.json"))
    for file in (one, two):
        file.write_text(file.read_text().replace('"completed"', '"running"'))
    owner = one.parent / ".owner"
    owner.write_text(json.dumps({"host": "node7", "pid": 1, "token": "x"}))
    then = time.time() - STALE + 4  # its last beat: 4 seconds are left until it is taken for dead
    os.utime(owner, (then, then))
    capfd.readouterr()
    assert main(sweep) == 0
    assert "2 runs: 2 completed, 0 failed" in capfd.readouterr().out
    assert time.time() > then + STALE
    assert [record.state for record in records(tmp_path / "out" / "lost").values()] == ["completed"] * 2


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("study=a,b", "study=a,b: the runs of one command belong to one study in one folder."),
        ("seed=range(5,1)", "seed=range(5,1): it has no values."),
        (
            "loss/style=glob(zzz*)",
            "loss/style=glob(zzz*): this glob matches no option. Options to choose",
        ),
        ("weights.style=interval(1,2)", "weights.style=interval(1,2): an interval has no values to run"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_in_one_line(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, typed: str, said: str
) -> None:
    assert main(["run", "-m", *with_tiny(typed)]) == 2
    err = capfd.readouterr().err
    assert err.startswith(f"nstbench: {said}")
    assert err.count("\n") == 1
    assert not [*tmp_path.glob("outputs/*/*/run.json")]


def test_the_ledger_leaves_nothing_behind(tmp_path: Path, pair: dict[str, str]) -> None:
    inputs = [f"content={pair['photo']}", f"style={pair['painting']}", "output=out", "study=clean"]
    assert main(["run", "-m", *with_tiny(*inputs, "seed=0,1")]) == 0
    inside = {p.name for p in (tmp_path / "out" / "clean" / ".sweep").iterdir()}
    assert inside == {"commands.txt", "multirun.yaml"}
    (line,) = (tmp_path / "out" / "clean" / ".sweep" / "commands.txt").read_text().splitlines()
    assert line.partition("\t")[2].startswith("nstbench run -m ")
    assert (
        json.loads((next((tmp_path / "out" / "clean").glob("*/run.json"))).read_text())["state"]
        == "completed"
    )
