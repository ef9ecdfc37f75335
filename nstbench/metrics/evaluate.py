"""Computing the metrics that a configuration names."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch

from nstbench.config.instantiate import build
from nstbench.config.kinds import locate
from nstbench.errors import UserError
from nstbench.metrics.base import Metric, Subject, Unavailable
from nstbench.tracking.record import Direction

log = logging.getLogger(__name__)


@dataclass
class Judgement:
    """The outcome of every metric.

    Attributes:
        values: Value by metric.
        directions: ``max`` where higher is better, ``min`` where lower is, by metric that has a value.
        unavailable: Reason why there is no value, by metric.
    """

    values: dict[str, float] = field(default_factory=dict)
    directions: dict[str, Direction] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)


def build_metrics(nodes: Mapping[str, Mapping[str, Any]]) -> None:
    """Build the metrics of a configuration's checked nodes, so that errors are raised before the run.

    Raises:
        UserError: If a setting of a metric cannot be used.
    """
    for node in nodes.values():
        _metric(json.dumps(node, sort_keys=True))


@torch.no_grad()
def judge(nodes: Mapping[str, Mapping[str, Any]], subject: Subject) -> Judgement:
    """Compute the metrics of a configuration's checked nodes, continuing after one that fails."""
    judgement = Judgement()
    for name, node in nodes.items():
        found: float | Unavailable | Mapping[str, float | Unavailable]
        higher = False
        try:
            metric = _metric(json.dumps(node, sort_keys=True))
            higher = metric.higher_is_better
            found = metric(subject)
        except (Unavailable, UserError) as reason:
            found = Unavailable(reason)
        except Exception as error:
            log.exception("metric %s failed", name)
            found = Unavailable(f"it failed: {type(error).__name__}: {error}")
        by_name = (
            {f"{name}/{k}": v for k, v in found.items()} if isinstance(found, Mapping) else {name: found}
        )
        for key, value in by_name.items():
            if isinstance(value, Unavailable):
                judgement.unavailable[key] = str(value)
            elif math.isfinite(value):
                judgement.values[key] = float(value)
                judgement.directions[key] = "max" if higher else "min"
            else:
                judgement.unavailable[key] = f"its value is {value}"
    return judgement


def direction(node: Mapping[str, Any]) -> tuple[bool, str]:
    """Return whether higher is better, and what the metric compares with."""
    metric: type[Metric] = locate(node["_target_"], "metrics")
    return metric.higher_is_better, metric.compares_with


@lru_cache(maxsize=32)
def _metric(node: str) -> Metric:
    # Cached: metrics hold networks, which a sweep loads once.
    metric: Metric = build(json.loads(node))
    return metric
