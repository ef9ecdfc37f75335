"""The setting ``criterion``: the values of a run by which a search tells good settings from bad."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nstbench.config.schema import Config
from nstbench.errors import UserError, as_typed, did_you_mean
from nstbench.tracking.record import RunRecord

# They change what a loss measures, or in which units: by it, their values cannot be compared.
_CHANGES_LOSSES = ("weights.", "formulas.", "recipe", "loss/", "loss.", "encoder", "layers")


def criteria_of(criterion: str | Sequence[str]) -> list[str]:
    """Return the names of the criteria, one or several."""
    return [criterion] if isinstance(criterion, str) else list(criterion)


def check_criterion(config: Config) -> None:
    """Check that a run of this configuration will have the values that ``criterion`` names.

    Raises:
        UserError: it has no such metric, or no such loss; or one is named twice.
    """
    names = criteria_of(config.criterion)
    if len(set(names)) < len(names):
        once = list(dict.fromkeys(names))
        hint = f"Type criterion={as_typed(once if len(once) > 1 else once[0])}."
        raise UserError("criterion", names, "one is named twice", hint)
    losses = ["loss/total", *(f"loss/{role}/{name}" for role, name, _ in config.loss.terms())]
    for name in names:
        if name.startswith("loss/") and name not in losses:
            hint = did_you_mean(name, losses, what="losses")
            raise UserError("criterion", name, "the run has no such loss", hint)
        if not name.startswith("loss/"):
            _node(name, config.metrics)


def check_searched(criterion: str | Sequence[str], searched: Iterable[str]) -> None:
    """Check that the criteria mean the same in all runs of a search.

    Args:
        criterion: what the search is told of a run.
        searched: names of the settings that the runs differ in.

    Raises:
        UserError: a loss is to judge settings that change what it measures.
    """
    for name in (n for n in criteria_of(criterion) if n.startswith("loss/")):
        for setting in (s.lstrip("+") for s in searched):
            if setting.startswith(_CHANGES_LOSSES):
                reason = f"the search varies {setting}, which changes what this loss measures"
                hint = "Choose metrics, such as criterion=[gram_distance,ssim]."
                raise UserError("criterion", name, reason, hint)


def higher_is_better(criterion: str | Sequence[str], metrics: Mapping[str, Mapping[str, Any]]) -> list[bool]:
    """Return the direction of each criterion: as its metric says, and lower for a loss."""
    from nstbench.metrics.evaluate import direction  # loads torch

    return [
        not name.startswith("loss/") and direction(_node(name, metrics))[0] for name in criteria_of(criterion)
    ]


def _node(name: str, metrics: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the configuration of the metric that a criterion is, or a part of."""
    if name.split("/")[0] not in metrics:
        hint = did_you_mean(name, [*metrics, "loss/total"], what="criteria")
        raise UserError("criterion", name, "it is not among the metrics that judge the run", hint)
    return metrics[name.split("/")[0]]


def values_of(record: RunRecord, criterion: str | Sequence[str]) -> tuple[float, ...]:
    """Return the criteria's values of a finished run; NaN for those it has none of."""
    values = {**record.metrics, **record.final_losses}
    return tuple(values.get(name, math.nan) for name in criteria_of(criterion))


def check_told(record: RunRecord, criterion: str | Sequence[str]) -> None:
    """Check that a finished run has the criteria's values.

    Raises:
        UserError: it has not, so a search learns nothing from it.
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
