"""Stages of a schedule, from shares of ``size`` and ``steps`` to numbers."""

from __future__ import annotations

import re
from math import inf, isfinite
from typing import Any

from nstbench.errors import UserError

SMALLEST = 48
"""Least share of ``size`` in pixels, if ``size`` is not smaller: enough for the poolings of a VGG."""
_SHARE = re.compile(r"(\d+(?:\.\d+)?) ?%")


def resolve_stages(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration each of whose stages has a size and steps in numbers, and a precision.

    The ``size`` and ``steps`` of a stage may be shares of the settings ``size`` and ``steps``, such as
    ``50%``. A stage that lacks one has 100%, one that lacks a precision has that of the schedule. Values of
    other kinds are left as they are, for the schema to refuse, and so is a configuration without stages.

    Raises:
        UserError: A size or steps is a text, but not a share.
    """
    schedule = plain.get("schedule")
    stages = schedule.get("stages") if isinstance(schedule, dict) else None
    if not isinstance(schedule, dict) or not isinstance(stages, list):
        return plain
    resolved = [
        _resolved(plain, i, stage) if isinstance(stage, dict) else stage for i, stage in enumerate(stages)
    ]
    return {**plain, "schedule": {**schedule, "stages": resolved}}


def _resolved(plain: dict[str, Any], place: int, given: dict[str, Any]) -> dict[str, Any]:
    stage = {"size": "100%", "steps": "100%", "precision": plain["schedule"].get("precision")}
    stage.update((name, value) for name, value in given.items() if value is not None)
    for name, least in (("size", SMALLEST), ("steps", 1)):
        if isinstance(stage[name], str):
            share = _share(f"schedule.stages.{place}.{name}", stage[name])
            stage[name] = _part(plain.get(name), share, least)
    return stage


def _share(setting: str, text: str) -> float:
    match = _SHARE.fullmatch(text)
    share = float(match[1]) / 100 if match else 0.0
    if not 0 < share < inf:
        reason = "it must be a whole number, or a share above 0 such as 50%"
        raise UserError(setting, text, reason, f"Type {setting}=50%, for example.")
    return share


def _part(whole: Any, share: float, least: int) -> Any:
    """Return a share of a number, at least ``least``, or all of it if it is smaller."""
    if isinstance(whole, int | float) and isfinite(whole * share):
        return max(1, min(least, round(whole)), round(whole * share))
    return whole  # not a number: the schema refuses it where it was typed
