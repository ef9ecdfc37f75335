"""Ctrl-C: the first requests a stop from which the run can continue, the second stops at once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_requested = threading.Event()


def stop_requested() -> bool:
    """Return whether the run, or the sweep, is to stop at the next point from which it can continue."""
    return _requested.is_set()


def request_stop() -> None:
    """Request that this process stops at the next point from which its run or sweep can continue."""
    _requested.set()


@contextmanager
def stop_on_first_interrupt() -> Iterator[None]:
    """Make the first Ctrl-C request a stop, see `stop_requested`; the second raises KeyboardInterrupt.

    In a thread other than the main one, where Python handles no signals, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if _requested.is_set():
            raise KeyboardInterrupt
        _requested.set()
        print("stopping where it can continue; Ctrl-C again stops at once", file=sys.stderr)

    _requested.clear()
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        # After a request to stop the process is about to end: a late Ctrl-C must not interrupt that.
        signal.signal(signal.SIGINT, signal.SIG_IGN if _requested.is_set() else before)
