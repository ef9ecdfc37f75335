"""The lock of a run's folder, and how it is taken over from the dead."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nstbench.tracking import lock
from nstbench.tracking.lock import BusyError, alone_in

HOLD = (
    "import sys, time; from pathlib import Path; from nstbench.tracking.lock import alone_in\n"
    "with alone_in(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)\n"
)


def owned_by(folder: Path, host: str, *, beat_ago: float, pid: int = 1) -> None:
    owner = folder / ".owner"
    owner.write_text(json.dumps({"host": host, "pid": pid, "token": "x"}))
    then = time.time() - beat_ago
    os.utime(owner, (then, then))


def test_a_second_process_is_told_and_the_killed_ones_lock_is_free_at_once(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    with pytest.raises(BusyError, match="another process is at work on it"), alone_in(tmp_path):
        pass
    other.kill()
    other.wait()
    assert (tmp_path / ".owner").exists()  # it had no time to tidy up
    with alone_in(tmp_path):
        assert json.loads((tmp_path / ".owner").read_text())["pid"] == os.getpid()
    assert not (tmp_path / ".owner").exists()


def test_another_machine_is_believed_while_its_heart_beats(tmp_path: Path) -> None:
    """As on a file system that does not pass locks on to other nodes."""
    owned_by(tmp_path, "node7", beat_ago=lock.STALE - 20)
    with pytest.raises(BusyError, match=r"\(node7, process 1\)"), alone_in(tmp_path):
        pass
    owned_by(tmp_path, "node7", beat_ago=lock.STALE + 20)
    with alone_in(tmp_path):
        assert json.loads((tmp_path / ".owner").read_text())["host"] == socket.gethostname()


def test_the_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.02)
    owner = tmp_path / ".owner"
    with alone_in(tmp_path):
        os.utime(owner, (0, 0))
        deadline = time.monotonic() + 10
        while owner.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.time() - owner.stat().st_mtime < 60


def test_without_locks_of_the_system_a_living_owner_here_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_locked", lambda file: None)
    here = socket.gethostname()
    owned_by(tmp_path, here, beat_ago=1, pid=os.getppid())
    with pytest.raises(BusyError), alone_in(tmp_path):
        pass
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    owned_by(tmp_path, here, beat_ago=1, pid=gone.pid)
    with alone_in(tmp_path):
        pass


@pytest.mark.parametrize("left", ["", "[]", '{"host": 3}', "\x00"])
def test_an_owner_that_cannot_be_read_holds_nothing(tmp_path: Path, left: str) -> None:
    (tmp_path / ".owner").write_text(left)
    with alone_in(tmp_path):
        pass


def test_the_message_travels_between_processes(tmp_path: Path) -> None:
    error = pickle.loads(pickle.dumps(BusyError(tmp_path, " (node7, process 1)")))
    assert isinstance(error, BusyError)
    assert error.folder == tmp_path
    assert "node7" in str(error)
