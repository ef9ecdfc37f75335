"""The bank of textures: complete or absent, drawn once, and nobody left at work when it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nstbench.training.schema import BankSettings
from nstbench.training.textures import texture
from nstbench.training.textures.bank import bank_bytes, bank_file, identity, open_bank, render

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = BankSettings(programs=5, pictures=3, held_out=1, size=33, seed=2)


def test_a_bank_is_drawn_once(tmp_path: Path) -> None:
    abandoned = tmp_path / bank_file(SETTINGS, tmp_path).with_suffix(".99999.part").name
    abandoned.write_bytes(b"gigabytes that a killed process left")
    assert [*render(SETTINGS, tmp_path, 2)] == [1, 2, 3, 4, 5]
    bank = open_bank(SETTINGS, tmp_path)
    assert bank.shape == (5, 3, 33, 33, 3)
    assert bank.nbytes == bank_bytes(SETTINGS)
    for n in range(5):  # workers draw what anybody draws
        for k in range(3):
            assert np.array_equal(bank[n, k], texture(n).picture((2, n, k), 33))
    assert [p.name for p in tmp_path.iterdir() if p.name[0] != "."] == [bank_file(SETTINGS, tmp_path).name]
    before = bank_file(SETTINGS, tmp_path).stat().st_mtime_ns
    assert [*render(SETTINGS, tmp_path, 2)] == [5]
    assert bank_file(SETTINGS, tmp_path).stat().st_mtime_ns == before


def test_what_changes_the_pictures_changes_the_name() -> None:
    others = [
        replace(SETTINGS, programs=6),
        replace(SETTINGS, pictures=4),
        replace(SETTINGS, size=34),
        replace(SETTINGS, seed=3),
    ]
    assert len({identity(s) for s in [SETTINGS, *others]}) == 5
    assert identity(replace(SETTINGS, held_out=2)) == identity(SETTINGS)


def test_a_failing_worker_leaves_no_file(tmp_path: Path) -> None:
    broken = replace(SETTINGS)
    broken.seed = -1  # which no random number generator takes
    with pytest.raises(ValueError, match="non-negative"):
        [*render(broken, tmp_path, 1)]
    assert [p for p in tmp_path.iterdir() if p.name[0] != "."] == []


def test_drawing_that_is_stopped_ends_soon_and_leaves_no_file(tmp_path: Path) -> None:
    many = replace(SETTINGS, programs=20_000)
    drawing = render(many, tmp_path, 1)
    assert next(drawing) == 1
    began = time.monotonic()
    drawing.close()
    assert time.monotonic() - began < 10  # all of them would take minutes
    assert [p for p in tmp_path.iterdir() if p.name[0] != "."] == []


def test_two_that_want_the_same_bank_share_one(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    done: list[int] = []
    with (tmp_path / f".{bank_file(SETTINGS, tmp_path).stem}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        second = threading.Thread(target=lambda: done.extend(render(SETTINGS, tmp_path, 1)))
        second.start()
        second.join(0.3)
        assert second.is_alive()  # it waits
        bank_file(SETTINGS, tmp_path).write_bytes(b"drawn by the first")
    second.join(10)
    assert done == [5]
    assert bank_file(SETTINGS, tmp_path).read_bytes() == b"drawn by the first"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are listed elsewhere")
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = f"""
import multiprocessing, time
from pathlib import Path
from nstbench.training.textures.bank import render
from nstbench.training.schema import BankSettings
if __name__ == "__main__":
    settings = BankSettings(programs=20_000, pictures=3, held_out=1, size=33, seed=2)
    for done in render(settings, Path({str(tmp_path)!r}), 2):
        if done == 3:
            print(*(p.pid for p in multiprocessing.active_children()), flush=True)
            time.sleep(60)
"""
    script = tmp_path / "draw.py"
    script.write_text(code)
    parent = subprocess.Popen(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    )
    assert parent.stdout
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 10
    while (left := [pid for pid in workers if _alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == []


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
