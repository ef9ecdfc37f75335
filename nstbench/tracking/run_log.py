"""The log file of a run: messages, the traceback of a failure, and where it crashed or hung."""

from __future__ import annotations

import faulthandler
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from nstbench.errors import StorageError
from nstbench.runtime.files import open_to_append, storage

log = logging.getLogger(__name__)


class RunLog:
    """The file to which a run's messages are written.

    Messages are written while `attached` is in force: those of a batch while its runs are optimised together,
    and of each run while it alone is prepared or finished.

    Args:
        path: Path of the file, which is appended to.

    Raises:
        StorageError: The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        with storage(path.parent, path):
            self._handler = _Handler(open_to_append(path))
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._has_faults = not faulthandler.is_enabled()
        if self._has_faults:
            file = self._handler.stream.fileno()
            faulthandler.enable(file)
            if hasattr(signal, "SIGUSR2") and signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN:
                # A worker of a pool (sweeps/launchers); elsewhere the signal is others', such as submitit's.
                faulthandler.register(signal.SIGUSR2, file)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Write to the file what is logged."""
        root = logging.getLogger()
        if self._handler in root.handlers:
            yield
            return
        root.addHandler(self._handler)
        try:
            yield
        finally:
            root.removeHandler(self._handler)

    def write_error(self, error: Exception) -> None:
        """Log why the run ended, with its traceback; of a full disk, one line."""
        with self.attached():
            if isinstance(error, StorageError):
                log.error("the run stopped: %s", error)
            else:
                log.error("the run failed", exc_info=error)

    def close(self) -> None:
        """Close the file."""
        if self._has_faults:
            faulthandler.disable()
            if hasattr(signal, "SIGUSR2"):
                faulthandler.unregister(signal.SIGUSR2)
        with suppress(OSError):  # what was not written yet has no room
            self._handler.stream.close()


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to a file; what does not fit on the disk is left out, as the run itself reports why it stops."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Do not print a traceback."""
