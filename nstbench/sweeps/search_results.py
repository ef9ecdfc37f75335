"""The result of a search: its best run, or the Pareto front if there are several criteria."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nstbench.config.criterion import criteria_of
from nstbench.sweeps.criterion import values_of
from nstbench.tracking.ledger import Entry
from nstbench.tracking.record import RunRecord

_SHOWN = 30
_WIDTH = 110


@dataclass(frozen=True)
class SearchedRun:
    """A run of a search.

    Attributes:
        settings: Settings that the search chose, by name, as typed.
        values: Values of the criteria.
        folder: Folder of the run.
    """

    settings: dict[str, str]
    values: tuple[float, ...]
    folder: str


def show_search(config: DictConfig | None, entries: Iterable[Entry]) -> None:
    """Print the best run of a search by one criterion, or the Pareto front by several.

    Args:
        config: Composed configuration with its ``hydra`` node; if it is not a search, nothing is printed.
        entries: Entries of all its runs.
    """
    if config is None or not is_search(config):
        return
    from nstbench.sweeps.search import directions, searched_settings

    names = criteria_of(config.criterion)
    sweeper: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    higher = [d == "maximize" for d in directions(sweeper["direction"], names, config)]
    searched = searched_settings(config.hydra.overrides.task, sweeper["params"] or {})
    runs = _read_runs(entries, names, searched)
    if not runs:
        return
    chosen = best(runs, higher)
    title = f"best of {len(runs)} runs"
    if len(names) > 1:
        title = f"Pareto front: {len(chosen)} of {len(runs)} runs, with none that is better in all criteria"
    table = Table(title=title, title_justify="left")
    for setting in searched:
        table.add_column(Text(setting), overflow="fold")
    for name, is_higher in zip(names, higher, strict=True):
        table.add_column(Text(f"{name} ({'higher' if is_higher else 'lower'})"), justify="right")
    for run in chosen[:_SHOWN]:
        settings = [Text(_shorten(run.settings.get(setting, ""))) for setting in searched]
        table.add_row(*settings, *(f"{value:.4g}" for value in run.values))
    console = Console()
    console = console if console.is_terminal else Console(width=_WIDTH)
    console.print(table)
    for run in chosen[:_SHOWN]:
        console.print(Text(run.folder), soft_wrap=True)
    if len(chosen) > _SHOWN:
        console.print(f"and {len(chosen) - _SHOWN} more")


def is_search(config: DictConfig) -> bool:
    """Return whether runs are proposed by Optuna."""
    return str(OmegaConf.select(config, "hydra.sweeper._target_")).endswith(".search.OptunaSweeper")


def best(runs: Sequence[SearchedRun], higher: Sequence[bool]) -> list[SearchedRun]:
    """Return the best run by one criterion, or the Pareto front by several.

    Args:
        runs: Runs with their values.
        higher: Whether higher is better, for each criterion.

    Returns:
        The Pareto front, in the order of the first criterion, best first; by one criterion, the first of
        the best runs.
    """
    signs = [-1.0 if h else 1.0 for h in higher]
    costs = [tuple(s * v for s, v in zip(signs, run.values, strict=True)) for run in runs]

    def is_dominated(cost: tuple[float, ...]) -> bool:
        return any(o != cost and all(a <= b for a, b in zip(o, cost, strict=True)) for o in costs)

    front = sorted(
        (pair for pair in zip(costs, runs, strict=True) if not is_dominated(pair[0])),
        key=lambda pair: pair[0],
    )
    return [run for _, run in front][: 1 if len(signs) == 1 else None]


def _read_runs(entries: Iterable[Entry], names: Sequence[str], searched: Sequence[str]) -> list[SearchedRun]:
    """Return the completed runs that have all values, each once."""
    runs = {}
    for entry in entries:
        if entry.state not in {"completed", "skipped"} or not (record := RunRecord.read(Path(entry.folder))):
            continue
        values = values_of(record, list(names))
        typed = dict(override.split("=", 1) for override in entry.overrides if "=" in override)
        if all(math.isfinite(value) for value in values):
            settings = {name: typed[name] for name in searched if name in typed}
            runs[entry.folder] = SearchedRun(settings, values, entry.folder)
    return list(runs.values())


def _shorten(value: str) -> str:
    """Return a number with five significant digits; other strings unchanged."""
    try:
        return f"{float(value):.5g}"
    except ValueError:
        return value
