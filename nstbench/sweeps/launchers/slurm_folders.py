"""The files of Slurm's jobs in a shared folder, and the removal of those that killed commands left there."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from nstbench.runtime.files import write_text
from nstbench.sweeps.launchers.slurm_states import in_queue

_RUNS = "runs.json"
_OLD = 600.0  # seconds after which a folder of another machine is abandoned, if none of its jobs is left


class Folder:
    """The folder of one submission: its pickled jobs, their results and output, and the list of their runs.

    Its name identifies the process that submitted the jobs, and Slurm knows the path of each job's script,
    which is in the folder. So the jobs of each submission can be found, whatever was killed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def new(cls, root: Path, overrides: Sequence[Sequence[str]], first: int) -> Folder:
        """Make the folder of this process for the runs from number ``first`` on."""
        folder = cls(root / f"{socket.gethostname()}-{os.getpid()}-{first}")
        folder.path.mkdir(parents=True, exist_ok=True)
        write_text(folder.path / _RUNS, json.dumps([_run_key(each) for each in overrides]))
        return folder

    def close(self) -> None:
        """Remove pickled work and results: megabytes that are not needed any more. The jobs' output stays."""
        for file in [*self.path.glob("*.pkl"), *self.path.glob(".*.pkl"), self.path / _RUNS]:
            file.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the whole folder: no job was submitted."""
        self.close()
        for file in self.path.glob(".submission_file_*.sh"):
            file.unlink(missing_ok=True)
        with suppress(OSError):  # it may hold files of an earlier process with the same number
            self.path.rmdir()

    def runs(self) -> list[list[str]]:
        """Return the overrides of each of its jobs; [] if they are not known any more."""
        try:
            runs: list[list[str]] = json.loads((self.path / _RUNS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        return runs

    def in_use(self, now: float) -> bool:
        """Return whether a process may still submit jobs from the folder or read results there."""
        host, number, _ = self.path.name.rsplit("-", 2)
        if host == socket.gethostname() and number.isdecimal():
            return psutil.pid_exists(int(number))
        try:
            return now - self.path.stat().st_mtime < _OLD
        except OSError:  # it was removed a moment ago
            return True


def others_at_work(root: Path, overrides: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the jobs in Slurm's queue that do some of these runs, as submitit names them, by array.

    Args:
        root: Folder that contains the folders of all submissions.
        overrides: Overrides of each run.
    """
    wanted = {tuple(_run_key(each)) for each in overrides}
    found = []
    for path, array in _find_submitted(root, in_queue() or []).items():
        runs = Folder(path).runs()
        ids = [array] if len(runs) == 1 else [f"{array}_{i}" for i in range(len(runs))]
        if ours := [job for job, run in zip(ids, runs, strict=True) if tuple(run) in wanted]:
            found.append(ours)
    return found


def clear_away(root: Path, now: Callable[[], float]) -> None:
    """Remove the pickles of commands that were killed, if none of their jobs is left.

    Args:
        root: Folder that contains the folders of all submissions.
        now: Function that returns the time by the file system's clock.
    """
    folders = [Folder(path) for path in root.glob("*-*-*/") if list(path.glob("*.pkl"))]
    # Later submissions are not affected: their processes are alive.
    abandoned = [folder for folder in folders if not folder.in_use(now())]
    if not abandoned or (queue := in_queue()) is None:
        return
    alive = _find_submitted(root, queue)
    for folder in abandoned:
        if Path(os.path.realpath(folder.path)) not in alive:
            folder.close()


def _run_key(overrides: Sequence[str]) -> list[str]:
    """Return the overrides of a run in a fixed order, by which runs are identified."""
    return sorted(overrides)


def _find_submitted(root: Path, queue: Sequence[tuple[str, str]]) -> dict[Path, str]:
    """Return the arrays in Slurm's queue that were submitted from folders in ``root``, by folder."""

    def found() -> Iterator[tuple[Path, str]]:
        for array, script in queue:
            folder = Path(os.path.realpath(os.path.dirname(script)))
            if folder.parent == Path(os.path.realpath(root)):
                yield folder, array

    return dict(found())
