"""Kills, damaged checkpoints and records, full disks: what `benchmarks.robustness` counts is nought."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from benchmarks.robustness.commands import Outcome
from benchmarks.robustness.damage import damage_json, put_in_place
from benchmarks.robustness.moments import Moment, choose_moment, read_moments
from benchmarks.robustness.studies import Fault, faults_of_outcome
from benchmarks.robustness.tally import Tally

ROOT = Path(__file__).resolve().parents[2]


def robustness(output: Path, *arguments: str) -> str:
    """Run the script in a process that has computed nothing, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.robustness", *arguments, "--output", str(output)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def count(printed: str, name: str) -> int:
    found = re.search(rf"\| {name} \| (\d+) \|", printed)
    assert found, printed
    return int(found[1])


@pytest.mark.slow  # a minute; runs and sweeps are killed one at a time in tests/runs and tests/sweeps
def test_a_few_kills_and_damaged_checkpoints_and_records(tmp_path: Path) -> None:
    # In one process: what it imports takes as long as the trials.
    printed = robustness(tmp_path, "kills", "checkpoints", "records", "--count", "6", "--seed", "1")
    kills, rest = printed.split("| checkpoints |")
    checkpoints, records = rest.split("| records |")
    for table in (kills, checkpoints, records):
        assert count(table, "trials") == count(table, "nothing wrong") == 6
    assert count(kills, "kills") >= 3  # others came too late


@pytest.mark.slow
@pytest.mark.parametrize(
    ("subject", "trials"), [("kills", 100), ("checkpoints", 200), ("records", 200), ("disks", 100)]
)
def test_hundreds(tmp_path: Path, subject: str, trials: int) -> None:
    printed = robustness(tmp_path, subject, "--count", str(trials))
    if "SKIPPED" not in printed:  # disks, where this user may not mount any
        assert count(printed, "trials") == count(printed, "nothing wrong") >= trials


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Outcome(0, "done\n"), None),
        (Outcome(1, "nstbench: no space is left\n"), "exit status"),
        (Outcome(-9, ""), "exit status"),
        (Outcome(0, "Traceback (most recent call last):\n  File ...\nOSError: full\n"), "traceback"),
        (Outcome(-9, "", hung=True), "hang"),
    ],
)
def test_what_is_counted_of_a_command(outcome: Outcome, kind: str | None) -> None:
    assert [fault.kind for fault in faults_of_outcome(outcome)] == ([kind] if kind else [])


def test_the_line_about_a_traceback_is_its_exception() -> None:
    printed = "Traceback (most recent call last):\n  File 'a', line 1\nOSError: full\nan epilogue\n"
    assert Outcome(1, printed).last_line == "OSError: full"


def test_a_table_counts_trials_once_for_each_kind(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally("kills")
    tally.add("one", [])
    tally.add("two", [Fault("blank", "a"), Fault("blank", "b"), Fault("hang", "c")])
    tally.add("several", [], 3)
    table = tally.table()
    assert [count(table, name) for name in ("trials", "nothing wrong", "blank", "hang")] == [5, 4, 1, 1]
    assert capsys.readouterr().out.count("kills 2: two: ") == 3


def test_moments_are_counted_by_label_and_chosen_by_kind(tmp_path: Path) -> None:
    labels = [*["append s/run-a/curves.csv"] * 50, "write s/run-a/canvas.png", "append s/run-b/curves.csv"]
    (tmp_path / "log").write_text("\n".join(labels))
    moments = read_moments(tmp_path / "log")
    assert moments[49:] == [Moment(labels[0], 50), Moment(labels[50], 1), Moment(labels[51], 1)]
    chosen = [choose_moment(moments, Random(i)).label for i in range(200)]
    assert 60 < sum("canvas.png" in label for label in chosen) < 140


@pytest.mark.parametrize("seed", range(20))
def test_damaged_json_is_other_json(seed: int) -> None:
    text = '{"state": "completed", "metrics": {"ssim": 0.5}, "overrides": ["a", "b"]}'
    damaged, what = damage_json(text, Random(seed))
    assert damaged != text
    assert what
    assert damaged == damage_json(text, Random(seed))[0]


def test_things_in_the_place_of_a_file(tmp_path: Path) -> None:
    kinds = {"folder": Path.is_dir, "FIFO": Path.is_fifo, "link to /dev/null": Path.is_symlink}
    for kind, check in kinds.items():
        (tmp_path / kind.replace("/", "-")).touch()
        put_in_place(tmp_path / kind.replace("/", "-"), kind)
        assert check(tmp_path / kind.replace("/", "-"))
