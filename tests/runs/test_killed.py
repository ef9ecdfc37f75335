"""A run that is killed for good, and its command given again, as a user would."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import last_of_each

from nstbench.tracking.record import RunRecord

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = [
    *(
        "encoder=random",
        "encoder.shape=vgg11",
        "encoder.width=0.0625",
        "size=96",
        "steps=150",
        "schedule=two_sizes",
    ),
    *("metrics=fast", "logger=none", "trainer=cpu", "trainer.threads=1", "record.progress=false"),
    *("record.checkpoint_every=7", "record.curves_every=1"),
]


def start(output: Path, pair: dict[str, str], *extra: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "nstbench",
        "run",
        f"content={pair['photo']}",
        f"style={pair['painting']}",
    ]
    return subprocess.Popen(
        [*command, *last_of_each(*SETTINGS, f"output={output}", *extra)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> Path:
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    (folder,) = Path(printed.split("picture ", 1)[1].split("\n", 1)[0].strip()).parents[:1]
    return folder


def steps_in(output: Path) -> int:
    curves = [*output.glob("*/*/curves.csv")]
    return len(curves[0].read_text().splitlines()) - 1 if curves else 0


@pytest.mark.slow  # tests/benchmarks/test_robustness.py kills a few
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_a_random_step_and_given_again_it_ends_with_the_same_bytes(
    tmp_path: Path, pair: dict[str, str], seed: int
) -> None:
    whole = finish(start(tmp_path / "whole", pair))
    broken = tmp_path / "broken"
    kills = sorted(random.Random(seed).sample(range(5, 190), 2))
    for step in kills:
        process = start(broken, pair)
        deadline = time.monotonic() + 60
        while steps_in(broken) < step and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed"
        record = RunRecord.read(next(broken.glob("*/*")))
        assert record is not None
        assert record.state == "running"
    again = finish(start(broken, pair))
    assert again.name == whole.name
    assert (again / "canvas.png").read_bytes() == (whole / "canvas.png").read_bytes()
    record, other = (json.loads((f / "run.json").read_text()) for f in (again, whole))
    assert record["state"] == "completed"
    for key in ("evaluations", "steps", "final_losses", "metrics"):
        assert record[key] == other[key]


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_by_a_signal_the_run_stays_open(
    tmp_path: Path, pair: dict[str, str], sent: signal.Signals, status: int
) -> None:
    process = start(tmp_path, pair, "steps=100000")
    deadline = time.monotonic() + 60
    while steps_in(tmp_path) < 10 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(sent)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in printed
    assert ("the same command continues" in printed) == (sent == signal.SIGINT)
    record = RunRecord.read(next(p.parent for p in tmp_path.glob("*/*/run.json")))
    assert record is not None
    assert record.state == "running"
