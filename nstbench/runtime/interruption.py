"""Ctrl-C: the first asks a run to stop where it can continue, the second stops at once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_asked = threading.Event()


def stop_requested() -> bool:
    """Return whether the run, or the sweep, is to stop at the next place from which it can continue."""
    return _asked.is_set()


def request_stop() -> None:
    """Ask whatever this process does to stop where it can continue."""
    _asked.set()


@contextmanager
def stop_on_first_interrupt() -> Iterator[None]:
    """Take the first Ctrl-C as a wish, which `stop_requested` tells; the second raises KeyboardInterrupt.

    In a thread other than the main one, where signals are not heard, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if _asked.is_set():
            raise KeyboardInterrupt
        _asked.set()
        print("stopping where it can continue; Ctrl-C again stops at once", file=sys.stderr)

    _asked.clear()
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        # Once asked to stop, the process is at its end: a late Ctrl-C would only break that off.
        signal.signal(signal.SIGINT, signal.SIG_IGN if _asked.is_set() else before)
