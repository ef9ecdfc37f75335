"""A pool of worker processes, in which a job that crashes, hangs or uses too much memory fails alone.

The supervisor gives each worker one job at a time. If a worker crashes, or has to be killed, only its job
is lost, and another worker is started. Python's own pools stop when a worker crashes.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from nstbench.runtime.interruption import request_stop, stop_requested

_POLL_INTERVAL = 0.05  # seconds between checks of the workers
_MOST_FAILED_STARTS = 3  # workers that end before their first job; after as many the pool stops
_TRACEBACK_TIME = 0.5  # seconds for a worker that hangs to write its traceback
# Signal that requests a worker to stop where its run can continue. Ctrl-C itself reaches all processes of
# a terminal, once or several times: workers ignore it, and the supervisor handles it.
_STOP = getattr(signal, "SIGUSR1", None)
_PRINT_TRACEBACK = getattr(signal, "SIGUSR2", None)


@dataclass(frozen=True)
class Limits:
    """Limits of a job.

    Attributes:
        seconds: Longest duration of the job; None: no limit.
        memory: Largest resident memory of the job's process, in bytes; None: no limit.
    """

    seconds: float | None = None
    memory: int | None = None


@dataclass(frozen=True)
class LostJob:
    """A job that ended without a result.

    Attributes:
        job: Number of the job.
        reason: Reason as a clause: "killed by SIGSEGV".
    """

    job: int
    reason: str


@dataclass
class _Worker:
    process: Any
    connection: Connection
    ready: bool = False
    done: int = 0
    job: int | None = None
    began: float = 0.0
    stopping: bool = False
    reason: str = ""
    """Reason why the worker is killed."""
    kill_after: float | None = None
    """Time after which the worker is killed: until then it can write its traceback."""


@dataclass
class Pool:
    """Worker processes that call one function on many jobs.

    Args:
        work: Pickled function of a job, made by cloudpickle for instance.
        start: Function that each worker calls once before its first job, to load what all jobs need.
        workers: Largest number of workers.
        limits: Limits of each job.
        environment: Environment variables of the workers: a mapping for each, repeated in turn.
    """

    work: bytes
    start: Callable[[], None]
    workers: int
    limits: Limits = field(default_factory=Limits)
    environment: Sequence[Mapping[str, str]] = ({},)

    def run(self, jobs: Sequence[Any], on_lost: Callable[[LostJob], None]) -> list[Any]:
        """Do all jobs and return their results in order; None for a job that was lost.

        Raises:
            KeyboardInterrupt: The user requested a stop, and all workers have stopped.
        """
        waiting = deque(range(len(jobs)))
        results: list[Any] = [None] * len(jobs)
        workers: dict[int, _Worker] = {}
        failed_starts = 0
        try:
            while waiting or any(w.job is not None for w in workers.values()):
                if stop_requested():
                    waiting.clear()
                self._start_workers(workers, len(waiting))
                wait([w.connection for w in workers.values()], timeout=_POLL_INTERVAL)
                for place, worker in list(workers.items()):
                    if not self._receive(worker, results, waiting, jobs):
                        worker.process.join()
                        if worker.job is not None:
                            on_lost(
                                LostJob(worker.job, worker.reason or _cause_of_end(worker.process.exitcode))
                            )
                        elif not worker.ready:
                            failed_starts += 1
                            if failed_starts == _MOST_FAILED_STARTS:
                                cause = _cause_of_end(worker.process.exitcode)
                                raise RuntimeError(f"workers cannot start: {cause}")
                        del workers[place]
                    else:
                        self._watch(worker)
            if stop_requested():
                raise KeyboardInterrupt
        finally:
            for worker in workers.values():
                worker.process.kill()
                worker.process.join()
        return results

    def _start_workers(self, workers: dict[int, _Worker], waiting: int) -> None:
        """Start a worker for each waiting job that has no idle worker, up to the number of workers."""
        idle = sum(w.job is None for w in workers.values())
        for place in range(self.workers):
            if place not in workers and waiting > idle:
                workers[place] = self._start_worker(place)
                idle += 1

    def _start_worker(self, place: int) -> _Worker:
        context = multiprocessing.get_context("spawn")  # a forked PyTorch can hang
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_run_worker, args=(theirs, self.work, self.start), daemon=True, name=f"nstbench-{place}"
        )
        with _set_environment(self.environment[place % len(self.environment)]):
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _receive(self, worker: _Worker, results: list[Any], waiting: deque[int], jobs: Sequence[Any]) -> bool:
        """Receive a worker's results and send it the next job; return False if it has to be replaced."""
        try:
            while worker.connection.poll():
                result = worker.connection.recv()
                if worker.job is not None:
                    results[worker.job] = result
                    worker.done += 1
                worker.ready, worker.job, worker.reason, worker.kill_after = True, None, "", None
            if worker.ready and worker.job is None and waiting:
                if (
                    worker.done
                    and self.limits.memory
                    and _resident_memory(worker.process.pid) > self.limits.memory / 2
                ):
                    worker.process.kill()  # memory left by earlier jobs must not count for the next one
                    return False
                worker.job, worker.began = waiting.popleft(), time.monotonic()
                worker.connection.send(jobs[worker.job])
        except (EOFError, ConnectionError, pickle.UnpicklingError):
            return False
        return True

    def _watch(self, worker: _Worker) -> None:
        """Make a worker stop if the user requested it; kill a worker whose job exceeds a limit."""
        if worker.job is None:
            return
        pid, now = worker.process.pid, time.monotonic()
        if stop_requested() and not worker.stopping:
            worker.stopping = True
            if _STOP is not None:
                os.kill(pid, _STOP)
            else:
                worker.process.terminate()
        if worker.kill_after is not None:
            if now > worker.kill_after:
                worker.process.kill()
        elif self.limits.seconds and now > worker.began + self.limits.seconds:
            worker.reason = f"it took longer than timeout={self.limits.seconds:g} seconds"
            worker.kill_after = now + _TRACEBACK_TIME
            if _PRINT_TRACEBACK is not None:
                os.kill(pid, _PRINT_TRACEBACK)
        elif self.limits.memory and (resident := _resident_memory(pid)) > self.limits.memory:
            limit, used = (f"{b / 2**20:.0f} MiB" for b in (self.limits.memory, resident))
            worker.reason = f"it used {used} of memory, more than memory_limit={limit}"
            worker.process.kill()


def _run_worker(connection: Connection, pickled: bytes, start: Callable[[], None]) -> None:
    """Do jobs, as a worker, until the supervisor closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _STOP is not None:
        signal.signal(_STOP, lambda *_: request_stop())
    if _PRINT_TRACEBACK is not None:
        signal.signal(_PRINT_TRACEBACK, signal.SIG_IGN)  # until a run registers a file for the traceback
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    start()
    work = pickle.loads(pickled)
    connection.send(None)
    with suppress(EOFError):
        while True:
            job = connection.recv()
            try:
                result = work(job)
            except KeyboardInterrupt:
                result = None
            connection.send(result)


def _exit_with_parent() -> None:
    """End this process when its supervisor ends, for whatever reason."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _cause_of_end(exitcode: int | None) -> str:
    """Return why a process ended, as a clause."""
    # Lightning handles SIGTERM, and exits with the status that shells report for a killed process.
    number = -exitcode if exitcode is not None and exitcode < 0 else (exitcode or 0) - 128
    if number not in [*signal.Signals]:
        return f"its process ended with status {exitcode}"
    name = signal.Signals(number).name
    hint = ", by a user or for lack of memory" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{hint}"


def _resident_memory(pid: int) -> int:
    """Return the resident memory of a process in bytes; 0 if it is unknown."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


@contextmanager
def _set_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for processes that are started inside the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
