"""Durations and amounts of memory as text."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return a duration: ``35 ms``, ``2.1 s``, ``48 s``, ``12 min``, ``3.4 h``."""
    if seconds < 0.95:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 9.95:
        return f"{minutes:.1f} min"
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def format_bytes(size: float) -> str:
    """Return an amount of memory: ``620 MB``, ``2.3 GB``."""
    return f"{size / 1e9:.1f} GB" if size >= 0.95e9 else f"{size / 1e6:.0f} MB"
