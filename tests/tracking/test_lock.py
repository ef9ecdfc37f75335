"""The lock of a run's folder, and how it is taken over from the dead."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nstbench.errors import StorageError
from nstbench.tracking import lock
from nstbench.tracking.lock import BusyError, alone_in, is_held

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
    monkeypatch.setattr(lock, "_take_lock", lambda file: None)
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


def test_an_owner_whose_clock_is_ahead_is_believed_only_while_it_beats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its heartbeats lie in the future: compared with our clock, the dead would live for another day."""
    monkeypatch.setattr(lock, "BEAT", 0.1)
    ahead = -86_400.0
    owned_by(tmp_path, "node7", beat_ago=ahead)
    with alone_in(tmp_path):
        assert json.loads((tmp_path / ".owner").read_text())["host"] == socket.gethostname()

    owned_by(tmp_path, "node7", beat_ago=ahead)
    beating = threading.Timer(0.1, os.utime, (tmp_path / ".owner", (2e9, time.time() + 86_401)))
    beating.start()
    with pytest.raises(BusyError, match=r"\(node7, process 1\)"), alone_in(tmp_path):
        pass
    beating.join()


@pytest.mark.parametrize(
    "left",
    [
        b"\xff\xfe\x00",
        b"[" * 5000,
        b'{"host": "node7", "pid": "x"}',
        b'{"host": "node7", "pid": -1}',
        b'{"host": "node7", "pid": 1e300}',
        b'{"host": "node7", "pid": 99999999999999999999999}',
        b'{"host": ["node7"], "pid": 1}',
    ],
)
def test_an_owner_that_is_damaged_holds_nothing(tmp_path: Path, left: bytes) -> None:
    (tmp_path / ".owner").write_bytes(left)
    with alone_in(tmp_path):
        assert json.loads((tmp_path / ".owner").read_text())["pid"] == os.getpid()


def test_a_pipe_as_owner_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".owner")
    with alone_in(tmp_path):
        assert json.loads((tmp_path / ".owner").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("name", [".lock", ".owner"])
def test_a_folder_in_the_place_of_the_lock_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(StorageError, match=f"^{tmp_path}: {name} is a folder"), alone_in(tmp_path):
        pass
    assert not is_held(tmp_path)
    (tmp_path / name).rmdir()
    with alone_in(tmp_path):
        pass


def test_a_pipe_in_the_place_of_the_lock_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(StorageError, match="not a regular file"), alone_in(tmp_path):
        pass


def test_a_lock_whose_folder_is_removed_meanwhile_is_given_up_in_silence(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with alone_in(folder):
        shutil.rmtree(folder)
    assert not folder.exists()
