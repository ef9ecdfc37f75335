"""Tracebacks of TensorBoard's own threads, which are silenced."""

from __future__ import annotations

import threading


def silence_writer_threads() -> None:
    """Make TensorBoard's threads end without a traceback on errors of the disk.

    Each thread writes one file, and its error is raised again at the next call of its logger.
    """
    before = threading.excepthook
    if getattr(before, "is_nstbench", False):
        return

    def hook(args: threading.ExceptHookArgs) -> None:
        if not (
            isinstance(args.exc_value, OSError) and type(args.thread).__module__.startswith("tensorboard.")
        ):
            before(args)

    hook.is_nstbench = True  # type: ignore[attr-defined]
    threading.excepthook = hook
