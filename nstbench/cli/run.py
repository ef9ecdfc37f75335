"""``nstbench run``: compose a configuration with Hydra, check it, and run it, or a sweep of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from nstbench.cli.composition.compose import with_hydra
from nstbench.cli.composition.errors import where_typed
from nstbench.cli.composition.overrides import overrides_from, split_arguments
from nstbench.cli.composition.program import RUN
from nstbench.cli.composition.repeated import refuse_repeated
from nstbench.cli.composition.sweep_checks import check_experiment, check_sweep
from nstbench.cli.file_patterns import expand_patterns
from nstbench.cli.other_tools import refuse_other_tools
from nstbench.cli.output import report
from nstbench.config.resolvers import register_resolvers
from nstbench.config.validation import validate
from nstbench.errors import UserError
from nstbench.runtime.interruption import stop_on_first_interrupt
from nstbench.sweeps.job import Criteria, SweepJob
from nstbench.sweeps.plugins import register_launchers
from nstbench.sweeps.sweep import Sweep
from nstbench.tracking.ledger import Entry, Ledger

_DIVERGED = "Try a smaller optimizer.lr, or smaller weights"


def main(arguments: Sequence[str]) -> int:
    """Run the arguments of ``nstbench run``; see `nstbench.cli.main` for the exit status."""
    if {"--help", "-h"} & set(arguments):
        from nstbench.cli.help import print_help

        print_help()
        return 0
    refuse_other_tools(arguments, RUN.names())
    flags, typed, meaning = split_arguments(arguments)
    typed, notes = expand_patterns(typed, sweep=meaning.multirun)
    overrides = overrides_from(typed)
    refuse_repeated(overrides)
    register_resolvers()
    register_launchers()
    if meaning.multirun and not (meaning.cfg or meaning.info):
        check_sweep(flags, overrides)
    elif not (meaning.cfg or meaning.info or meaning.dry_run):
        check_experiment(flags, overrides)
    if meaning.dry_run:
        return _dry_run(flags, overrides)
    task = RunTask()
    sweep = Sweep(["nstbench", "run", *arguments], notes)
    try:
        with_hydra(task, flags, overrides, sweep=sweep)
    finally:
        if sweep.outcomes:  # an experiment may make it a sweep without -m
            _report_sweep(sweep)
    if meaning.multirun and not sweep.outcomes and not (meaning.cfg or meaning.info):
        hint = "A glob that fits no option, or an empty range, has none. `nstbench run --help` lists options."
        raise UserError("-m", "", "there is no run in this sweep: a setting has no values", hint)
    if task.failure is not None:
        diverged = f"{_DIVERGED}; canvas.png is the last good canvas"
        return report(task.failure, "run", diverged=diverged, smaller="a smaller size")
    return int(any(o.state == "failed" for o in sweep.outcomes.values()))


def _dry_run(flags: Sequence[str], overrides: Sequence[str]) -> int:
    from nstbench.cli import dry_run

    try:
        return dry_run.main(flags, overrides)
    except UserError:
        raise
    except Exception as error:
        return report(error, "dry run", diverged=_DIVERGED, smaller="a smaller size")


def _report_sweep(sweep: Sweep) -> None:
    """Report the outcomes of a sweep's runs on the terminal and in their dashboards."""
    from nstbench.analysis.dashboards import show_in_dashboards
    from nstbench.cli.output import show_sweep
    from nstbench.sweeps.search_results import show_search

    outcomes = [sweep.outcomes[number] for number in sorted(sweep.outcomes)]
    show_sweep(_without_common_overrides(outcomes))
    show_search(sweep.config, outcomes)
    if not sweep.stopped:
        loggers: dict[str, Any] = OmegaConf.to_container(sweep.config.logger, resolve=True)  # type: ignore[assignment]
        show_in_dashboards(outcomes, loggers)


def _without_common_overrides(outcomes: list[Entry]) -> list[Entry]:
    """Return the outcomes without the overrides that all runs have in common."""
    if len(outcomes) < 2:
        return outcomes
    common = set.intersection(*(set(o.overrides) for o in outcomes))
    return [replace(o, overrides=[each for each in o.overrides if each not in common]) for o in outcomes]


class RunTask:
    """The function that Hydra calls with a composed configuration, of a single run or of one of a sweep.

    Attributes:
        failure: Error of a single run; None: there is none. Hydra would add lines of its own to a raised one.
    """

    def __init__(self) -> None:
        self.failure: Exception | None = None

    def __call__(self, composed: DictConfig) -> Criteria | None:
        """Make one run; in a sweep, return the values of its criteria."""
        if HydraConfig.get().mode == RunMode.MULTIRUN and Ledger.here() is not None:
            from nstbench.runs.batch import run_jobs

            job = self.job(composed, cast("DictConfig", HydraConfig.instance().cfg))
            run_jobs([job])
            return job.value
        self._run_alone(composed)
        return None

    def job(self, composed: DictConfig, hydra: DictConfig) -> SweepJob:
        """Return a run of a sweep, not yet begun; see `SweepJob`."""
        ledger = Ledger.here()
        assert ledger is not None
        register_resolvers()
        return SweepJob(composed, hydra, ledger, where_typed)

    def _run_alone(self, composed: DictConfig) -> None:
        try:
            config = validate(composed)
            # torch and Lightning take seconds to load: each is imported only after the checks before it.
            from nstbench.runs.preparation import prepare

            prepared = prepare(config)
            from nstbench.cli.output import show_result
            from nstbench.cost.memory import check_memory
            from nstbench.runs.run import run

            with stop_on_first_interrupt():
                result = run(
                    config,
                    _overrides(),
                    prepared=prepared,
                    on_begin=lambda _: check_memory(config, prepared),
                )
        except UserError as error:
            self.failure = where_typed(error, composed, _overrides())
        except Exception as error:
            self.failure = error
        else:
            show_result(result)


def _overrides() -> list[str]:
    overrides: list[str] = OmegaConf.to_container(HydraConfig.get().overrides.task)  # type: ignore[assignment]
    return overrides
