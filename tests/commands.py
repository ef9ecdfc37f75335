"""Commands of nstbench in processes of their own, without the seconds that imports take.

A server imports what commands need and computes nothing. Each command then runs in a fork of it: a process
that can be sent signals and killed, and has a memory, streams, a working folder and an environment of its
own. `CommandServer` is the tests' side; run as a script, this file is the server.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
_GLANCE = 0.01  # seconds between looks at a command that is waited for


class Command:
    """A command that was started: what tests use of `subprocess.Popen`."""

    def __init__(self, server: CommandServer, pid: int, log: Path) -> None:
        self.server, self.pid, self.log = server, pid, log
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""
        if self.returncode is None:
            self.returncode = self.server.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float = 120) -> int:
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("nstbench", timeout, self.printed)
            time.sleep(_GLANCE)
        return status

    def communicate(self, timeout: float = 120) -> tuple[str, None]:
        """Wait for its end; return what it printed on both streams."""
        self.wait(timeout)
        return self.printed, None

    @property
    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it, and the processes that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()


def last_of_each(*arguments: str) -> list[str]:
    """Return the arguments without those that another for the same setting follows: it may be typed once."""
    names = {"content": "pictures.content", "style": "pictures.style"}
    typed = [each.partition("=")[0].lstrip("+") for each in arguments]
    last = {names.get(name, name): i for i, name in enumerate(typed)}
    kept = (i for i, each in enumerate(arguments) if "=" not in each or each[0] in "+~")
    return [arguments[i] for i in sorted({*kept, *last.values()})]


class CommandServer:
    """Starts commands. Its process is started by the first."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._logs = tempfile.TemporaryDirectory()
        self._started: list[Command] = []

    def start(
        self, *arguments: str, environment: Mapping[str, str] | None = None, fork_workers: bool = True
    ) -> Command:
        """Start ``nstbench ARGUMENTS`` here; of a setting that is given twice, the last holds.

        Args:
            *arguments: What is typed after ``nstbench``.
            environment: Variables that differ from those of this process.
            fork_workers: Whether workers of hydra/launcher=pool are forks too, not started anew.
        """
        log = Path(self._logs.name) / f"{len(self._started)}.txt"
        variables = {**os.environ, **(environment or {})}
        asked: dict[str, Any] = {
            "start": last_of_each(*arguments),
            "folder": os.getcwd(),
            "environment": variables,
            "log": str(log),
        }
        asked["fork_workers"] = fork_workers
        self._started.append(Command(self, self.ask(asked), log))
        return self._started[-1]

    def run(self, *arguments: str, timeout: float = 240, **more: Any) -> Command:
        """Start a command as `start` does, and wait for its end."""
        command = self.start(*arguments, **more)
        command.wait(timeout)
        return command

    def ask(self, request: Mapping[str, Any]) -> Any:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def end_all(self) -> None:
        """End the commands of a test that are still running."""
        for command in self._started:
            if command.poll() is None:
                command.kill()

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()
        self._logs.cleanup()


def serve() -> NoReturn:
    """Answer requests, one a line, until there are no more."""
    from benchmarks.robustness.commands import preload

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed while modules are imported is no answer
    import_module("torch._dynamo")  # the first optimizer of a process does: 2 seconds
    preload()
    running: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        answer: int | None
        if "start" in request:
            answer = os.fork()
            if answer == 0:
                answers.close()
                _be_command(**request)
            running.add(answer)
        else:
            ended, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
            running.discard(ended)
        print(json.dumps(answer), file=answers, flush=True)
    for pid in running:  # of a test that was killed
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    os._exit(0)  # at once: to take down all modules takes seconds


def _be_command(
    start: Sequence[str], folder: str, environment: Mapping[str, str], log: str, fork_workers: bool
) -> NoReturn:
    status = 1
    get_context = multiprocessing.get_context
    try:
        os.setsid()
        file, nothing = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), os.open(os.devnull, os.O_RDONLY)
        for stream, target in enumerate((nothing, file, file)):
            os.dup2(target, stream)
        sys.stdin = os.fdopen(0, closefd=False)
        sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", closefd=False)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
        os.chdir(folder)
        if fork_workers:
            patch("multiprocessing.get_context", lambda method=None: get_context("fork")).start()
        from nstbench.cli import main

        status = main(list(start))
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status & 0xFF)


if __name__ == "__main__":
    serve()
