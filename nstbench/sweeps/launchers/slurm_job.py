"""Inside a job of Slurm's: stopping before its time limit, and requeueing."""

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
def stopped_in_time(number: int, overrides: Sequence[str], grace: float, out_of_time: str) -> Iterator[None]:
    """Stop the run inside the block before its time limit, where it can continue, and requeue the job.

    submitit alone would stop it at any point, and the work since its last checkpoint would be lost.

    Args:
        number: Number of the run in the sweep.
        overrides: Overrides of the run, as typed.
        grace: Seconds from Slurm's warning until a run that has not stopped is killed.
        out_of_time: Reason that is recorded in the ledger for a run that cannot be requeued again.

    Raises:
        SystemExit: The run is stopped; it did not fail.
    """
    warned = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]
    resubmit = signal.getsignal(warned)  # submitit's, which requeues the job and exits
    assert callable(resubmit)
    over, done = threading.Event(), threading.Event()

    def requeue() -> None:
        try:
            resubmit(warned, None)
        except UncompletedJobError:  # no attempts left
            ledger = Ledger.here()
            if ledger is not None and ledger.folder.is_dir():
                log = JobEnvironment().paths.stdout
                ledger.lost(number, overrides, out_of_time, str(log))
            sys.exit(1)

    def kill_after_grace() -> None:
        """Kill a run that has not stopped after the grace period: it hangs, or its steps are very long."""
        if done.wait(grace):
            return
        print("the run does not stop; its traceback:", file=sys.stderr, flush=True)
        faulthandler.dump_traceback()
        try:
            requeue()
        finally:
            os._exit(1)

    def on_warning(received: int, frame: FrameType | None) -> None:
        if not over.is_set():
            over.set()
            request_stop()
            threading.Thread(target=kill_after_grace, daemon=True).start()

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
            requeue()
        sys.exit(128 + signal.SIGTERM)
    finally:
        done.set()
