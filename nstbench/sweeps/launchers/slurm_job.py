"""Inside a job of Slurm's: stopping in time, and getting in line again."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from submitit import JobEnvironment
from submitit.core.utils import UncompletedJobError

from nstbench.runtime.interruption import request_stop, stop_requested
from nstbench.tracking.ledger import Ledger


@contextmanager
def in_time(number: int, overrides: Sequence[str], grace: float, out_of_time: str) -> Iterator[None]:
    """Do a run; when its time is nearly over, stop it where it can continue, and have the job requeued.

    submitit alone would stop it wherever it is, and the work since its last checkpoint were lost.

    Args:
        number: Of the run in the sweep.
        overrides: What was typed for it.
        grace: Seconds from Slurm's warning until a run that still goes on is ended all the same.
        out_of_time: What the sweep's ledger is told of a run that may not be requeued once more.

    Raises:
        SystemExit: The run is stopped; it did not fail.
    """
    warned = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]
    resubmit = signal.getsignal(warned)  # submitit's, which requeues the job and exits
    assert callable(resubmit)
    over, done = threading.Event(), threading.Event()

    def leave() -> None:
        try:
            resubmit(warned, None)
        except UncompletedJobError:  # no attempts left
            ledger = Ledger.here()
            if ledger is not None and ledger.folder.is_dir():
                log = JobEnvironment().paths.stdout
                ledger.lost(number, overrides, out_of_time, str(log))
            sys.exit(1)

    def insist() -> None:
        """End a run that has not stopped by itself: it hangs, or its steps are very long."""
        if done.wait(grace):
            return
        print("the run does not stop; this is where it is:", file=sys.stderr, flush=True)
        faulthandler.dump_traceback()
        try:
            leave()
        finally:
            os._exit(1)

    def on_warning(received: int, frame: FrameType | None) -> None:
        if not over.is_set():
            over.set()
            request_stop()
            threading.Thread(target=insist, daemon=True).start()

    def on_cancel(received: int, frame: FrameType | None) -> None:
        request_stop()

    signal.signal(warned, on_warning)
    signal.signal(signal.SIGTERM, on_cancel)
    try:
        yield
    except KeyboardInterrupt:
        if not stop_requested():
            raise
        done.set()
        if over.is_set():
            leave()
        sys.exit(128 + signal.SIGTERM)
    finally:
        done.set()
