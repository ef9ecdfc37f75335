"""Stages of a schedule: shares of size and steps, and what they inherit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from nstbench.config.schema import Config
from nstbench.config.stages import resolve_stages


def resolved(stage: dict[str, Any], size: Any = 256, steps: Any = 200) -> dict[str, Any]:
    plain = {"size": size, "steps": steps, "schedule": {"precision": "tf32", "stages": [stage]}}
    stages = resolve_stages(plain)["schedule"]["stages"]
    assert plain["schedule"]["stages"] == [stage]  # what was given is left as it is
    return dict(stages[0])


def test_a_stage_inherits_what_it_does_not_say() -> None:
    assert resolved({}) == {"size": 256, "steps": 200, "precision": "tf32"}
    assert resolved({"size": None, "precision": None}) == resolved({})
    assert resolved({"precision": "bf16"})["precision"] == "bf16"
    assert resolved({"size": 100, "steps": 7}) == {"size": 100, "steps": 7, "precision": "tf32"}


@pytest.mark.parametrize(
    ("size", "share", "expected"),
    [
        (256, "50%", 128),
        (255, "50%", 128),
        (512, "12.5%", 64),
        (800, "64%", 512),
        (100, "250%", 250),
        *((512, "25%", 128), (192, "25%", 48), (96, "25%", 48), (40, "25%", 40)),  # 48 at least, or all
        *(("abc", "50%", "abc"), (math.inf, "50%", math.inf), (None, "50%", None)),  # refused by the schema
    ],
)
def test_a_share_of_size(size: Any, share: str, expected: Any) -> None:
    assert resolved({"size": share}, size=size)["size"] == expected


@pytest.mark.parametrize(("share", "expected"), [("25%", 50), ("70 %", 140), ("0.1%", 1), ("100%", 200)])
def test_a_share_of_steps(share: str, expected: int) -> None:
    assert resolved({"steps": share})["steps"] == expected


@pytest.mark.parametrize("schedule", [{}, {"stages": 3}, {"stages": ["a"], "precision": "fp32"}, None, []])
def test_what_is_no_list_of_stages_is_left_to_the_schema(schedule: Any) -> None:
    plain = {"size": 256, "schedule": schedule}
    assert resolve_stages(plain) == plain
    assert resolve_stages({"size": 256}) == {"size": 256}


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("single", [(400, 100, "tf32")]),
        ("coarse_to_fine", [(100, 100, "tf32"), (200, 100, "tf32"), (400, 100, "tf32")]),
        ("two_sizes", [(200, 100, "tf32"), (400, 40, "tf32")]),
        ("fast", [(200, 25, "auto"), (400, 70, "auto")]),
    ],
)
def test_the_schedules_of_conf(
    option: str, expected: list[tuple[int, int, str]], compose_config: Callable[..., Config]
) -> None:
    config = compose_config(f"schedule={option}", "size=400", "steps=100", tiny=False)
    assert [(s.size, s.steps, s.precision) for s in config.schedule.stages] == expected
    stages = config.plain["schedule"]["stages"]  # what records and fingerprints hold
    assert [(s["size"], s["steps"], s["precision"]) for s in stages] == expected
    given = compose_config(f"schedule={option}", "schedule.precision=bf16", tiny=False)
    assert {stage.precision for stage in given.schedule.stages} == {"bf16"}
