"""The setting ``criterion``: names of metrics or losses by which a search compares settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nstbench.config.schema import Config
from nstbench.errors import UserError, as_typed, did_you_mean

# Settings that change what a loss measures, or its unit: its values are then not comparable between runs.
_CHANGES_LOSSES = ("weights.", "formulas.", "recipe", "loss/", "loss.", "encoder", "layers")


def criteria_of(criterion: str | Sequence[str]) -> list[str]:
    """Return the names of the criteria, one or several."""
    return [criterion] if isinstance(criterion, str) else list(criterion)


def check_criterion(config: Config) -> None:
    """Check that a run of this configuration will have the values that ``criterion`` names.

    Raises:
        UserError: The run has no such metric or loss, or one is named twice.
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
            metric_node(name, config.metrics)


def check_searched(criterion: str | Sequence[str], searched: Iterable[str]) -> None:
    """Check that the criteria mean the same in all runs of a search.

    Args:
        criterion: Names of the criteria, one or several.
        searched: Names of the settings that the runs differ in.

    Raises:
        UserError: A criterion is a loss, and the search varies a setting that changes what it measures.
    """
    for name in (n for n in criteria_of(criterion) if n.startswith("loss/")):
        for setting in (s.lstrip("+") for s in searched):
            if setting.startswith(_CHANGES_LOSSES):
                reason = f"the search varies {setting}, which changes what this loss measures"
                hint = "Choose metrics, such as criterion=[gram_distance,ssim]."
                raise UserError("criterion", name, reason, hint)


def metric_node(name: str, metrics: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the configuration of the metric that a criterion names, or one of whose values it names."""
    if name.split("/")[0] not in metrics:
        hint = did_you_mean(name, [*metrics, "loss/total"], what="criteria")
        raise UserError("criterion", name, "it is not among the metrics that judge the run", hint)
    return metrics[name.split("/")[0]]
