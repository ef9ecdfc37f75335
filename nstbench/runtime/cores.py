"""The number of CPU cores that can be used, and a check that threads are not more."""

from __future__ import annotations

import os
from pathlib import Path

from nstbench.errors import UserError


def cores() -> int:
    """Return how many cores this process may use; a container may have fewer than it sees."""
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        return min(seen, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such limit: another system, or the quota is "max"
        return seen


def check_threads(setting: str, threads: int | None, *, workers: int = 1) -> None:
    """Refuse more threads than cores: each waits for the others, and a step can take minutes.

    Args:
        setting: Name of the setting, for the message.
        threads: Threads of each process; None: PyTorch's choice.
        workers: Number of processes that run at a time.

    Raises:
        UserError: There are more threads than cores, and more than one for each process.
    """
    there = cores()
    if threads is None or threads * workers <= there or (threads == 1 and workers > 1):
        return
    number = f"{there} core{'s' * (there != 1)} here"
    reason = f"there are only {number}"
    if workers > 1:
        reason = f"{workers} workers with {threads} threads each are too many for the {number}"
    hint = f"Type {setting}={max(1, there // workers)}, or leave it out."
    raise UserError(setting, threads, reason, hint)
