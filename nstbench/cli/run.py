"""``nstbench run``: compose a configuration with Hydra, check it, and run it, or a sweep of them."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from nstbench.cli.composition import where_typed, with_hydra
from nstbench.cli.failures import report
from nstbench.cli.overrides import overrides_from, split_arguments
from nstbench.cli.sweep import check_sweep
from nstbench.errors import UserError
from nstbench.validation import register_resolvers, validate

_LEDGER = "NSTBENCH_SWEEP_LEDGER"

# What stopped a single run. Raised through Hydra, it would come with lines of Hydra's own.
_failure: list[Exception] = []


@dataclass(frozen=True)
class Outcome:
    """How one run of a sweep ended.

    Attributes:
        overrides: what set it apart.
        state: ``completed``, ``skipped`` or ``failed``.
        folder: of the run; "" if it has none.
        error: of a failed run.
        mistake: whether the failure was a setting that cannot be used.
    """

    overrides: list[str]
    state: str
    folder: str = ""
    error: str = ""
    mistake: bool = False


def main(arguments: Sequence[str]) -> int:
    """Run what was typed after ``nstbench run``; see `nstbench.cli.main` for the exit status."""
    if {"--help", "-h"} & set(arguments):
        from nstbench.cli.help import print_help

        print_help()
        return 0
    flags, typed, meaning = split_arguments(arguments)
    overrides = overrides_from(typed)
    register_resolvers()
    if meaning.multirun:
        check_sweep(flags, overrides)
    with tempfile.TemporaryDirectory() as ledger:
        os.environ[_LEDGER] = ledger
        try:
            _failure.clear()
            with_hydra(_run_composed, flags, overrides)
        finally:
            del os.environ[_LEDGER]
        outcomes = [Outcome(**json.loads(f.read_text())) for f in sorted(Path(ledger).glob("*.json"))]
    if _failure:
        diverged = "Try a smaller optimizer.lr, or smaller weights; canvas.png is the last good canvas"
        return report(_failure[0], "run", diverged=diverged, smaller="a smaller size")
    if meaning.multirun:
        from nstbench.cli.show import show_sweep

        show_sweep(_apart(outcomes))
    return int(any(o.state == "failed" for o in outcomes))


def _apart(outcomes: list[Outcome]) -> list[Outcome]:
    """Leave out of the overrides what all runs have in common."""
    if len(outcomes) < 2:
        return outcomes
    common = set.intersection(*(set(o.overrides) for o in outcomes))
    return [replace(o, overrides=[each for each in o.overrides if each not in common]) for o in outcomes]


def _run_composed(composed: DictConfig) -> float | None:
    """Run one composed configuration; in a sweep a failure is noted and the next run goes on."""
    in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    overrides: list[str] = OmegaConf.to_container(HydraConfig.get().overrides.task)  # type: ignore[assignment]
    try:
        return _run(composed, overrides, in_sweep)
    except Exception as error:
        if not in_sweep:
            _failure.append(error)
            return None
        mistake = isinstance(error, UserError)
        text = str(error) if mistake else f"{type(error).__name__}: {error}"
        _note(Outcome(overrides, "failed", error=text, mistake=mistake))
        print(f"failed: {' '.join(overrides)}: {text}", file=sys.stderr)
        return float("nan")


def _run(composed: DictConfig, overrides: list[str], in_sweep: bool) -> float | None:
    register_resolvers()  # again: in a sweep this may be another process
    try:
        config = validate(composed)
        # torch takes seconds to load, Lightning more: each only once what comes before is good.
        from nstbench.preparation import prepare

        prepared = prepare(config)
        from nstbench.cli.show import show_result
        from nstbench.run import run

        result = run(config, overrides, prepared=prepared)
    except UserError as error:
        raise where_typed(error, composed) from error
    state = "skipped" if result.skipped else "completed"
    _note(Outcome(overrides, state, folder=str(result.folder)))
    show_result(result, brief=in_sweep)
    return result.record.final_losses.get("loss/total")


def _note(outcome: Outcome) -> None:
    """Leave word of a run for the process that started the sweep, which may be another one."""
    ledger = os.environ.get(_LEDGER)
    if ledger:
        job = HydraConfig.get().job
        number = 0 if OmegaConf.is_missing(job, "num") else job.num
        (Path(ledger) / f"{number:06d}.json").write_text(json.dumps(asdict(outcome)))
