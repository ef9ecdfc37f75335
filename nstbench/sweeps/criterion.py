"""The setting ``criterion``: the values of a run by which a search compares settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nstbench.config.criterion import criteria_of, metric_node
from nstbench.errors import UserError, did_you_mean
from nstbench.tracking.record import RunRecord


def higher_is_better(criterion: str | Sequence[str], metrics: Mapping[str, Mapping[str, Any]]) -> list[bool]:
    """Return whether higher is better, for each criterion: as its metric says, and False for a loss."""
    from nstbench.metrics.evaluate import direction  # loads torch

    return [
        not name.startswith("loss/") and direction(metric_node(name, metrics))[0]
        for name in criteria_of(criterion)
    ]


def values_of(record: RunRecord, criterion: str | Sequence[str]) -> tuple[float, ...]:
    """Return the criteria's values of a finished run; NaN for a criterion without a value."""
    values = {**record.metrics, **record.final_losses}
    return tuple(values.get(name, math.nan) for name in criteria_of(criterion))


def check_criteria_values(record: RunRecord, criterion: str | Sequence[str]) -> None:
    """Check that a finished run has the criteria's values.

    Raises:
        UserError: A criterion has no value, so a search cannot use the run.
    """
    known = {**record.metrics, **record.final_losses}
    for name in criteria_of(criterion):
        if name not in known:
            family = [n for n in known if n.startswith(f"{name.split('/')[0]}/")]
            reason = record.unavailable_metrics.get(name, "it has parts" if family else "it was not computed")
            hint = did_you_mean(name, [n for n in known if not n.startswith("value/")], what="criteria")
            if family:
                hint = f"Choose from {', '.join(sorted(family, key=lambda n: not n.endswith('/others')))}."
            raise UserError("criterion", name, f"run {record.run_id} has no value of it: {reason}", hint)
