"""Durations and amounts of memory as text."""

from __future__ import annotations

import pytest

from nstbench.formatting import duration, format_bytes


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0034, "3 ms"),
        (0.94, "940 ms"),
        (0.97, "1.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (89, "89 s"),
        (91, "1.5 min"),
        (1200, "20 min"),
        (5399, "90 min"),
        (7200, "2.0 h"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("size", "said"), [(12_000_000, "12 MB"), (960_000_000, "1.0 GB"), (2.34e9, "2.3 GB")]
)
def test_memory(size: float, said: str) -> None:
    assert format_bytes(size) == said
