"""``nstbench run --dry-run``: the time and memory that a run or a sweep needs. Nothing is written."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nstbench.cli.composition.errors import where_typed
from nstbench.cli.composition.jobs import Job, jobs_of
from nstbench.config.schema import Config
from nstbench.config.validation import validate
from nstbench.errors import UserError
from nstbench.formatting import duration, format_bytes

if TYPE_CHECKING:
    from nstbench.cost.prediction import Cost
    from nstbench.runs.preparation import Prepared

# The cost of a run does not depend on these settings, nor on any weight.
_WITHOUT_COST = frozenset(
    {"seed", "study", "output", "retry_failed", "criterion", "panel", "panels", "weights", "logger"}
)
_WIDTH = 110


def main(flags: Sequence[str], overrides: Sequence[str]) -> int:
    """Print the runs of a command, with the time and memory that they would take.

    Raises:
        UserError: A run cannot start, or would not fit in memory.
    """
    runs = jobs_of(flags, overrides)
    if runs is None:
        reason = "which runs a search makes depends on their results"
        raise UserError("--dry-run", "", reason, "Type it for one run of the search: no hydra/sweeper.")
    groups = _group_runs(runs)
    with Console(stderr=True).status("measuring at small sizes"):
        for group in groups:
            group.predict()
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    if len(groups) == 1:
        _show_one(console, groups[0])
    else:
        _show_all(console, groups)
    from nstbench.cost.memory import raise_if_too_large

    for group in groups:
        try:
            raise_if_too_large(group.config, group.prepared, group.cost)
        except UserError as error:
            raise where_typed(error, group.composed, group.overrides) from error
    return 0


@dataclass
class _Group:
    """Runs of equal cost.

    Attributes:
        overrides: Overrides of the first run.
        composed: Composed configuration of the first run.
        config: Checked configuration of the first run.
        prepared: Prepared inputs of the first run.
        runs: Number of runs.
        cost: Predicted cost of each run.
    """

    overrides: list[str]
    composed: DictConfig
    config: Config
    prepared: Prepared
    runs: int = 1
    cost: Cost = field(init=False)

    def predict(self) -> None:
        """Measure a few steps of the first run and predict the cost."""
        from nstbench.cost.prediction import predict  # loads Lightning

        self.cost = predict(self.config, self.prepared, since=seconds_of_this_process())


def seconds_of_this_process() -> float:
    """Return the seconds since this process was started."""
    return time.time() - psutil.Process().create_time()


def _group_runs(runs: Iterable[Job]) -> list[_Group]:
    """Return the runs in groups of equal cost."""
    groups: dict[str, _Group] = {}
    for overrides, composed in runs:
        try:
            config = validate(composed)
            from nstbench.runs.preparation import prepare  # loads torch

            prepared = prepare(config)
        except UserError as error:
            raise where_typed(error, composed, overrides) from error
        key = _cost_key(config, prepared)
        if key in groups:
            groups[key].runs += 1
        else:
            groups[key] = _Group(overrides, composed, config, prepared)
    return list(groups.values())


def _cost_key(config: Config, prepared: Prepared) -> str:
    """Return a string of all settings and shapes that determine the cost of a run."""
    relevant = {name: value for name, value in config.plain.items() if name not in _WITHOUT_COST}
    inputs = prepared.inputs
    pictures = [inputs.content, *inputs.styles, inputs.start]
    relevant["pictures"] = {k: v for k, v in relevant["pictures"].items() if k not in {"content", "style"}}
    shapes = [picture.shape if picture else None for picture in pictures]
    return json.dumps([_without_weights(relevant), shapes], sort_keys=True, default=str)


def _without_weights(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_weights(v) for k, v in value.items() if k not in {"weight", "layer_weights"}}
    return value


def _show_one(console: Console, group: _Group) -> None:
    """Print the cost of each stage of a run, and their sum."""
    cost, device = group.cost, group.prepared.device
    table = Table("size", "canvas", "steps", "precision", "a step", "in all", "memory", "measured at")
    for s in cost.stages:
        tried = ", ".join(str(size) for size in s.sizes) + ("" if s.was_measured else "; extrapolated")
        table.add_row(
            str(s.stage.size),
            f"{s.shape[1]}×{s.shape[0]}",
            str(s.stage.steps),
            s.stage.precision,
            duration(s.step_seconds),
            duration(s.seconds),
            format_bytes(s.memory),
            tried,
        )
    console.print(table)
    runs = f"{group.runs} runs, one after the other: " if group.runs > 1 else ""
    total = duration(group.runs * cost.seconds)
    each = " each" if runs else ""
    about = "at most about" if group.config.schedule.plateau else "about"
    need, free = format_bytes(cost.memory), format_bytes(cost.free)
    console.print(
        f"{runs}{about} {total} on {device}"
        f" ({duration(cost.setup_seconds)} to start, {duration(cost.metrics_seconds)} for metrics{each});"
        f" {need} of the {free} that are free. Nothing was written.",
        soft_wrap=True,
    )


def _show_all(console: Console, groups: Sequence[_Group]) -> None:
    """Print a line for each group of runs of equal cost, and their sum."""
    common = set.intersection(*(set(group.overrides) for group in groups))
    table = Table("runs", "such as", "each", "in all", "memory")
    for group in groups:
        own = " ".join(o for o in group.overrides if o not in common)
        seconds = group.cost.seconds
        memory = format_bytes(group.cost.memory)
        table.add_row(str(group.runs), Text(own), duration(seconds), duration(group.runs * seconds), memory)
    console.print(table)
    runs = sum(group.runs for group in groups)
    total = duration(sum(group.runs * group.cost.seconds for group in groups))
    most, free = max(g.cost.memory for g in groups), min(g.cost.free for g in groups)
    console.print(
        f"{runs} runs, one after the other: about {total} on {groups[0].prepared.device};"
        f" at most {format_bytes(most)} of the {format_bytes(free)} that are free. Nothing was written.",
        soft_wrap=True,
    )
