"""``nstbench run``: compose a configuration with Hydra, check it, and run it, or a sweep of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from nstbench.cli.composition.compose import with_hydra
from nstbench.cli.composition.errors import where_typed
from nstbench.cli.composition.overrides import overrides_from, split_arguments
from nstbench.cli.composition.program import RUN
from nstbench.cli.composition.sweep_checks import check_experiment, check_sweep
from nstbench.cli.file_patterns import expand_patterns
from nstbench.cli.other_tools import refuse_other_tools
from nstbench.cli.output import report
from nstbench.config.resolvers import register_resolvers
from nstbench.config.validation import validate
from nstbench.errors import StorageError, UserError
from nstbench.runs.attempts import Attempt, Waiting, carried_out
from nstbench.runtime.interruption import stop_on_first_interrupt, stop_requested
from nstbench.sweeps.criterion import values_of
from nstbench.sweeps.plugins import register_launchers
from nstbench.sweeps.sweep import Sweep
from nstbench.tracking.ledger import Entry, Ledger
from nstbench.tracking.lock import BusyError

# What stopped a single run. Raised through Hydra, it would come with lines of Hydra's own.
_failure: list[Exception] = []

_DIVERGED = "Try a smaller optimizer.lr, or smaller weights"


def main(arguments: Sequence[str]) -> int:
    """Run what was typed after ``nstbench run``; see `nstbench.cli.main` for the exit status."""
    if {"--help", "-h"} & set(arguments):
        from nstbench.cli.help import print_help

        print_help()
        return 0
    refuse_other_tools(arguments, RUN.names())
    flags, typed, meaning = split_arguments(arguments)
    typed, notes = expand_patterns(typed, sweep=meaning.multirun)
    overrides = overrides_from(typed)
    register_resolvers()
    register_launchers()
    if meaning.multirun and not (meaning.cfg or meaning.info):
        check_sweep(flags, overrides)
    elif not (meaning.cfg or meaning.info or meaning.dry_run):
        check_experiment(flags, overrides)
    if meaning.dry_run:
        return _dry_run(flags, overrides)
    _failure.clear()
    sweep = Sweep(["nstbench", "run", *arguments], notes)
    try:
        with_hydra(_run_composed, flags, overrides, sweep=sweep)
    finally:
        if sweep.outcomes:  # an experiment may make it a sweep without -m
            _conclude(sweep)
    if meaning.multirun and not sweep.outcomes and not (meaning.cfg or meaning.info):
        hint = "A glob that fits no option, or an empty range, has none. `nstbench run --help` lists options."
        raise UserError("-m", "", "there is no run in this sweep: a setting has no values", hint)
    if _failure:
        diverged = f"{_DIVERGED}; canvas.png is the last good canvas"
        return report(_failure[0], "run", diverged=diverged, smaller="a smaller size")
    return int(any(o.state == "failed" for o in sweep.outcomes.values()))


def _dry_run(flags: Sequence[str], overrides: Sequence[str]) -> int:
    from nstbench.cli import dry_run

    try:
        return dry_run.main(flags, overrides)
    except UserError:
        raise
    except Exception as error:
        return report(error, "dry run", diverged=_DIVERGED, smaller="a smaller size")


def _conclude(sweep: Sweep) -> None:
    """Say what became of a sweep's runs, here and in the dashboards that they have."""
    from nstbench.analysis.dashboards import show_in_dashboards
    from nstbench.cli.output import show_sweep
    from nstbench.sweeps.search_results import show_search

    outcomes = [sweep.outcomes[number] for number in sorted(sweep.outcomes)]
    show_sweep(_apart(outcomes))
    show_search(sweep.config, outcomes)
    if not sweep.stopped:
        loggers: dict[str, Any] = OmegaConf.to_container(sweep.config.logger, resolve=True)  # type: ignore[assignment]
        show_in_dashboards(outcomes, loggers)


def _apart(outcomes: list[Entry]) -> list[Entry]:
    """Leave out of the overrides what all runs have in common."""
    if len(outcomes) < 2:
        return outcomes
    common = set.intersection(*(set(o.overrides) for o in outcomes))
    return [replace(o, overrides=[each for each in o.overrides if each not in common]) for o in outcomes]


Criteria = float | tuple[float, ...]
"""The criterion's value or values; NaN if there is none."""


def _run_composed(composed: DictConfig) -> Criteria | Waiting[Criteria] | None:
    """Run one configuration: what was typed, or one of a sweep, perhaps on another machine."""
    ledger = Ledger.here()
    if HydraConfig.get().mode == RunMode.MULTIRUN and ledger is not None:
        return carried_out(_run_in_sweep(composed, ledger))
    _run_alone(composed)
    return None


def _run_alone(composed: DictConfig) -> None:
    """Run one composed configuration; what goes wrong is kept for later."""
    try:
        config = validate(composed)
        # torch takes seconds to load, Lightning more: each only once what comes before is good.
        from nstbench.runs.preparation import prepare

        prepared = prepare(config)
        from nstbench.cli.output import show_result
        from nstbench.cost.memory import check_memory
        from nstbench.runs.run import run

        with stop_on_first_interrupt():
            result = run(
                config, _typed(), prepared=prepared, on_begin=lambda _: check_memory(config, prepared)
            )
    except UserError as error:
        _failure.append(where_typed(error, composed))
    except Exception as error:
        _failure.append(error)
    else:
        show_result(result)


def _run_in_sweep(composed: DictConfig, ledger: Ledger) -> Attempt[Criteria]:
    """Run one configuration of a sweep, and leave word of what became of it."""
    if stop_requested():
        raise KeyboardInterrupt
    register_resolvers()
    entry = Entry(HydraConfig.get().job.num, _typed(), "running")
    ledger.note(entry)
    try:
        ended, value = yield from _attempt(composed, ledger, entry)
    except Exception as error:  # whatever it is, the others go on
        mistake = isinstance(error, UserError)
        shown = where_typed(error, composed) if isinstance(error, UserError) else error
        plain = mistake or isinstance(error, StorageError)
        text = str(shown) if plain else f"{type(error).__name__}: {error}"
        folder = (ledger.of(entry.number) or entry).folder
        log = Path(folder) / "run.log"
        where = str(log) if folder and log.is_file() else ""
        ended = replace(entry, state="failed", error=text, mistake=mistake, folder=folder, log=where)
        value = math.nan
    ledger.note(ended)
    return value


def _attempt(composed: DictConfig, ledger: Ledger, entry: Entry) -> Attempt[tuple[Entry, Criteria]]:
    """Run, and return what the ledger is told of it, and the criterion's value."""
    config = validate(composed)
    from nstbench.runs.preparation import prepare

    prepared = prepare(config)
    from nstbench.callbacks.sweep_progress import Reporting
    from nstbench.cli.output import brief
    from nstbench.cost.memory import check_memory
    from nstbench.runs.run import FailedBeforeError, attempt

    config.record.progress = False  # the sweep has a view of its own
    reporting = Reporting(ledger, replace(entry, steps=sum(s.steps for s in config.schedule.stages)))

    def begin(folder: Path) -> None:
        check_memory(config, prepared)
        reporting.begin(folder)

    try:
        result = yield from attempt(
            config,
            entry.overrides,
            callbacks=[reporting],
            prepared=prepared,
            retry_failed=config.retry_failed,
            on_begin=begin,
        )
    except BusyError as error:
        return replace(entry, state="busy", folder=str(error.folder)), math.nan
    except FailedBeforeError as error:
        text = f"{error.error} (when it last ran; retry_failed=true runs it again)"
        log = error.folder / "run.log"
        where = str(log) if log.is_file() else ""
        return replace(entry, state="failed", folder=str(error.folder), error=text, log=where), math.nan
    ended = replace(
        entry,
        state="skipped" if result.skipped else "completed",
        folder=str(result.folder),
        line=brief(result),
    )
    values = values_of(result.record, config.criterion)
    return ended, values[0] if len(values) == 1 else values


def _typed() -> list[str]:
    overrides: list[str] = OmegaConf.to_container(HydraConfig.get().overrides.task)  # type: ignore[assignment]
    return overrides
