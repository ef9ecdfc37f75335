"""A pool of worker processes, in which a job that crashes, hangs or grows too large fails alone.

The supervisor keeps one job per worker in flight, and watches. A worker that dies, or must be killed,
loses its job and nothing else: another takes its place. Python's own pools give up when a worker dies.
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

_GLANCE = 0.05  # seconds between looks at the workers
_FALSE_STARTS = 3  # of workers that never got as far as their first job: then the pool gives up
_LAST_WORDS = 0.5  # seconds for a worker that hangs to write where it does
# Asks a worker to stop where it can continue. Ctrl-C itself reaches all processes of a terminal, and
# may reach them once or twice: workers leave it to the supervisor.
_STOP = getattr(signal, "SIGUSR1", None)
_SAY_WHERE = getattr(signal, "SIGUSR2", None)


@dataclass(frozen=True)
class Limits:
    """What a job may take.

    Attributes:
        seconds: From the start of the job; None: any time.
        memory: Of the job's process, resident, in bytes; None: any amount.
    """

    seconds: float | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Loss:
    """A job that ended without a result.

    Attributes:
        job: Its number.
        reason: A clause: "killed by SIGSEGV".
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
    verdict: str = ""
    """Why it had to be killed."""
    condemned: float = 0.0
    """When it was told to say where it hangs; it is killed soon after."""


@dataclass
class Pool:
    """Worker processes that call one function on many jobs.

    Args:
        work: Called in a worker with a job: pickled, by cloudpickle for instance.
        start: Called once in each worker before its first job: loads what all jobs need.
        workers: How many.
        limits: Of each job.
        environment: Per worker, in turn: variables to start it with.
    """

    work: bytes
    start: Callable[[], None]
    workers: int
    limits: Limits = field(default_factory=Limits)
    environment: Sequence[Mapping[str, str]] = ({},)

    def run(self, jobs: Sequence[Any], on_loss: Callable[[Loss], None]) -> list[Any]:
        """Do all jobs and return their results in order; None for a job that was lost.

        Raises:
            KeyboardInterrupt: The user asked to stop, and all workers have.
        """
        waiting = deque(range(len(jobs)))
        results: list[Any] = [None] * len(jobs)
        crew: dict[int, _Worker] = {}
        false_starts = 0
        try:
            while waiting or any(w.job is not None for w in crew.values()):
                if stop_requested():
                    waiting.clear()
                self._start_workers(crew, len(waiting))
                wait([w.connection for w in crew.values()], timeout=_GLANCE)
                for place, worker in list(crew.items()):
                    if not self._hear(worker, results, waiting, jobs):
                        worker.process.join()
                        if worker.job is not None:
                            on_loss(Loss(worker.job, worker.verdict or _cause(worker.process.exitcode)))
                        elif not worker.ready:
                            false_starts += 1
                            if false_starts == _FALSE_STARTS:
                                cause = _cause(worker.process.exitcode)
                                raise RuntimeError(f"workers cannot start: {cause}")
                        del crew[place]
                    else:
                        self._watch(worker)
            if stop_requested():
                raise KeyboardInterrupt
        finally:
            for worker in crew.values():
                worker.process.kill()
                worker.process.join()
        return results

    def _start_workers(self, crew: dict[int, _Worker], waiting: int) -> None:
        """Start as many workers as there is work for."""
        idle = sum(w.job is None for w in crew.values())
        for place in range(self.workers):
            if place not in crew and waiting > idle:
                crew[place] = self._start_worker(place)
                idle += 1

    def _start_worker(self, place: int) -> _Worker:
        context = multiprocessing.get_context("spawn")  # a forked PyTorch can hang
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, self.work, self.start), daemon=True, name=f"nstbench-{place}"
        )
        with _environment(self.environment[place % len(self.environment)]):
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _hear(self, worker: _Worker, results: list[Any], waiting: deque[int], jobs: Sequence[Any]) -> bool:
        """Take what a worker says, and give it the next job; return whether it lives."""
        try:
            while worker.connection.poll():
                said = worker.connection.recv()
                if worker.job is not None:
                    results[worker.job] = said
                    worker.done += 1
                worker.ready, worker.job, worker.verdict, worker.condemned = True, None, "", 0.0
            if worker.ready and worker.job is None and waiting:
                if (
                    worker.done
                    and self.limits.memory
                    and _resident(worker.process.pid) > self.limits.memory / 2
                ):
                    worker.process.kill()  # what earlier jobs left behind is not the next one's fault
                    return False
                worker.job, worker.began = waiting.popleft(), time.monotonic()
                worker.connection.send(jobs[worker.job])
        except (EOFError, ConnectionError, pickle.UnpicklingError):
            return False
        return True

    def _watch(self, worker: _Worker) -> None:
        """Ask a worker to stop if the user wants that; kill one whose job takes too much."""
        if worker.job is None:
            return
        pid, now = worker.process.pid, time.monotonic()
        if stop_requested() and not worker.stopping:
            worker.stopping = True
            if _STOP is not None:
                os.kill(pid, _STOP)
            else:
                worker.process.terminate()
        if worker.condemned:
            if now > worker.condemned + _LAST_WORDS:
                worker.process.kill()
        elif self.limits.seconds and now > worker.began + self.limits.seconds:
            worker.verdict = f"it took longer than timeout={self.limits.seconds:g} seconds"
            worker.condemned = now
            if _SAY_WHERE is not None:
                os.kill(pid, _SAY_WHERE)
        elif self.limits.memory and (resident := _resident(pid)) > self.limits.memory:
            limit, used = (f"{b / 2**20:.0f} MiB" for b in (self.limits.memory, resident))
            worker.verdict = f"it used {used} of memory, more than memory_limit={limit}"
            worker.process.kill()


def _serve(connection: Connection, pickled: bytes, start: Callable[[], None]) -> None:
    """Be a worker: do jobs until the supervisor hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _STOP is not None:
        signal.signal(_STOP, lambda *_: request_stop())
    if _SAY_WHERE is not None:
        signal.signal(_SAY_WHERE, signal.SIG_IGN)  # until a run gives it a file to write to
    threading.Thread(target=_die_with_parent, daemon=True).start()
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


def _die_with_parent() -> None:
    """End this process when its supervisor does, however that ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _cause(exitcode: int | None) -> str:
    """Return why a process ended, as a clause."""
    # Lightning takes SIGTERM, and leaves as shells say that a process was killed.
    number = -exitcode if exitcode is not None and exitcode < 0 else (exitcode or 0) - 128
    if number not in [*signal.Signals]:
        return f"its process ended with status {exitcode}"
    name = signal.Signals(number).name
    hint = ", by hand or for want of memory" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{hint}"


def _resident(pid: int) -> int:
    """Return the resident memory of a process in bytes; 0 where that cannot be told."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Have processes that are started here find these variables."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
