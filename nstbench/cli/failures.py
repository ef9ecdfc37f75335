"""What is said of a failure that is no mistake in what was typed."""

from __future__ import annotations

import errno
import sys

from nstbench.errors import NonFiniteObjectiveError, StorageError


def report(failure: Exception, what: str, *, diverged: str, smaller: str) -> int:
    """Say in one line why something failed, where that is no fault of the program's, or raise.

    Args:
        failure: what was raised.
        what: failed: "run".
        diverged: what to do where the objective became infinite, unless the failure says so itself.
        smaller: what to make smaller where there is not enough memory.
    """
    kind = type(failure).__name__
    if isinstance(failure, StorageError):
        print(f"nstbench: the {what} stopped: {failure}", file=sys.stderr)
        return 1
    if isinstance(failure, NonFiniteObjectiveError):
        hint = failure.hint or diverged
    elif isinstance(failure, MemoryError) or kind == "OutOfMemoryError":
        hint = f"There is not enough memory: try {smaller}"
    elif kind == "BrokenProcessPool":
        hint = "Perhaps there is not enough memory: try fewer processes, with trainer.threads=1"
    elif isinstance(failure, OSError) and failure.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS}:
        hint = "Give another folder: output=…"
    else:
        raise failure
    reason = (str(failure).splitlines() or [kind])[0].rstrip(".")
    print(f"nstbench: the {what} failed: {reason}. {hint}.", file=sys.stderr)
    return 1
