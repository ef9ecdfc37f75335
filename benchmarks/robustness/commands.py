"""Commands of nstbench in processes of their own, without the seconds that imports take.

The process that calls `preload` has imported what commands need and has computed nothing; each command
then runs in a fork of it. `run_process` starts Python anew, as a shell does.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 60.0
"""Seconds after which a command is taken to hang."""
_GLANCE = 0.005
_MODULES = (
    "nstbench.cli.run",
    "nstbench.cli.compare",
    "nstbench.cli.report",
    "nstbench.cli.output",
    "nstbench.runs.run",
    "nstbench.runs.batch",
    "nstbench.analysis.report.write",
    "nstbench.analysis.comparison",
    "tensorboard.compat.proto.event_pb2",
    "torch.utils.tensorboard",
    "matplotlib.backends.backend_agg",
    "rich.live",
)


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        status: Exit status; negative: the number of the signal that ended it.
        output: What it printed on both streams.
        hung: Whether it was ended after `TIMEOUT` seconds.
        megabytes: Largest resident memory of its process; 0 where that is not known.
    """

    status: int
    output: str
    hung: bool = False
    megabytes: int = 0

    @property
    def has_traceback(self) -> bool:
        """Whether a traceback was printed."""
        return "Traceback (most recent call last)" in self.output

    @property
    def last_line(self) -> str:
        """The last line that was printed: of a traceback, the exception."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        if self.has_traceback:
            after = self.output.rpartition("Traceback (most recent call last)")[2].splitlines()
            lines = [line for line in after[1:] if line[:1].strip()][:1] or lines
        return lines[-1] if lines else ""


def preload() -> None:
    """Import what commands need. Whoever calls it must not have computed with torch."""
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", WANDB_MODE="offline", COLUMNS="200")
    for module in _MODULES:
        with suppress(ImportError):  # packages that are optional, and modules that have moved
            import_module(module)
    Image.init()
    # Composing a configuration fills the caches of Hydra and of its parser; nothing is computed.
    with redirect_stdout(io.StringIO()):
        import_module("nstbench.cli").main(["run", "--cfg", "job"])
    gc.collect()
    gc.freeze()  # forks need not look through what was imported
    atexit.register(gc.unfreeze)  # or extension modules complain of leaks


def run_command(
    arguments: Sequence[str],
    folder: Path,
    *,
    prepare: Callable[[], None] | None = None,
    kill_after: float | None = None,
    timeout: float = TIMEOUT,
) -> Outcome:
    """Run ``nstbench ARGUMENTS`` in a fork, in a process group of its own, and wait for it.

    Args:
        arguments: As typed after ``nstbench``.
        folder: Working folder; ``output.txt`` in it receives what is printed.
        prepare: Called in the fork before the command.
        kill_after: Seconds after which the process group is killed; None: it is not.
        timeout: Seconds after which it is taken to hang.
    """

    def command() -> int:
        from nstbench.cli import main

        _fork_workers()
        if prepare is not None:
            prepare()
        return main(list(arguments))

    log = folder / "output.txt"
    pid = os.fork()
    if pid == 0:
        _be_command(command, folder, log, timeout)
    return _wait(pid, log, kill_after, timeout)


def run_isolated(function: Callable[[], object], folder: Path) -> Outcome:
    """Call a function in a fork, where it may compute with torch."""

    def call() -> int:
        function()
        return 0

    log = folder / "isolated.txt"
    pid = os.fork()
    if pid == 0:
        _be_command(call, folder, log, TIMEOUT)
    return _wait(pid, log, None, TIMEOUT)


def run_process(arguments: Sequence[str], folder: Path, kill_after: float | None = None) -> Outcome:
    """Run ``python -m nstbench ARGUMENTS``, as a shell does; kill its group after some seconds if asked."""
    log = folder / "output.txt"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "nstbench", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(TIMEOUT if kill_after is None else kill_after)
            hung = False
        except subprocess.TimeoutExpired:
            hung = kill_after is None
        _kill_group(process.pid)
        process.wait()
    return Outcome(process.returncode, log.read_text(encoding="utf-8", errors="replace"), hung)


def _be_command(command: Callable[[], int], folder: Path, log: Path, timeout: float) -> NoReturn:
    status = 1
    try:
        os.setsid()
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        for stream in (1, 2):
            os.dup2(file, stream)
        sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)
        faulthandler.dump_traceback_later(max(1, timeout - 2), file=file)  # says where a hang is
        os.chdir(folder)
        status = command()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status & 0xFF)


def _fork_workers() -> None:
    """Have the pool launcher fork its workers: the moments of a trial are then theirs as well."""
    original = multiprocessing.get_context
    multiprocessing.get_context = lambda method=None: original("fork")  # type: ignore[assignment]


def _wait(pid: int, log: Path, kill_after: float | None, timeout: float) -> Outcome:
    began, hung, killed = time.monotonic(), False, False
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            break
        passed = time.monotonic() - began
        due = kill_after is not None and passed > kill_after
        hung = hung or (passed > timeout and not due)
        if (due or hung) and not killed:
            killed = _kill_group(pid)
        time.sleep(_GLANCE)
    _kill_group(pid)  # workers of a pool whose supervisor was killed
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return Outcome(os.waitstatus_to_exitcode(status), text, hung, usage.ru_maxrss // 1024)


def _kill_group(pid: int) -> bool:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # not a group yet, or no more
        return False
    return True
