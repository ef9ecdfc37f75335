"""Kills at random moments; the command is given again until it ends, and must end as if undisturbed."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from benchmarks.robustness.commands import Outcome, run_command, run_process
from benchmarks.robustness.damage import new_folder
from benchmarks.robustness.moments import (
    Action,
    Moment,
    act_at,
    choose_moment,
    kill_group,
    kill_worker,
    send,
    tear,
)
from benchmarks.robustness.studies import (
    Fault,
    Setup,
    Setups,
    Undisturbed,
    faults_of_outcome,
    faults_of_results,
    matrix,
)
from benchmarks.robustness.tally import Tally

_MOST = 3  # kills of one trial
_ONE_IN = 12  # trials with a Python of their own, which takes seconds to start
_FEW_FIXED = (Setup("batched", 1, "lbfgs"), Setup("batched", 2, "adam"))
_VARIANTS = ((), ("record.snapshot_every=1",), ("metrics=fast",))


@dataclass(frozen=True)
class Kill:
    """How one attempt is ended.

    Attributes:
        name: Words for the report.
        moment: Just before which it happens; None: after ``seconds``.
        action: What happens then.
        seconds: Seconds from the start of the command.
        process: Whether the command has a Python of its own.
    """

    name: str
    moment: Moment | None = None
    action: Action = kill_group
    seconds: float = 0.0
    process: bool = False


def run_kills(tally: Tally, count: int, seed: int, folder: Path) -> None:
    """Run the fixed trials, then trials of kills at random moments."""
    setups = Setups(folder / "undisturbed")
    rng = Random(f"{seed}/kills")
    order = matrix()
    rng.shuffle(order)
    few = count < len(order)
    if few:  # of two of the four schedules and optimisers, so that few undisturbed runs are needed
        order = [s for s in order if (s.stages, s.optimizer) in {(1, "lbfgs"), (2, "adam")}]
    for setup in _FEW_FIXED if few else [*_FEW_FIXED, *(s for s in order if s not in _FEW_FIXED)]:
        trial = new_folder(folder / "trial")
        faults = _folder_in_place_of_pictures(setups.of(setup), trial)
        tally.add(f"{setup}; a folder in the place of canvas.png", faults)
    for number in range(tally.trials if few else 0, count):
        rng = Random(f"{seed}/kills/{number}")
        setup = replace(order[number % len(order)], every=rng.choice((1, 2, 3)), extra=rng.choice(_VARIANTS))
        reference = setups.of(setup)
        most = 1 if few else rng.choice((1, 1, 1, 2, _MOST))
        kills = [_choose(reference, number, rng) for _ in range(most)]
        faults, struck = _kill_and_repeat(reference, new_folder(folder / "trial"), kills)
        tally.counts["kills"] += struck
        tally.add(f"{setup}; {'; '.join(kill.name for kill in kills)}", faults)


def _choose(reference: Undisturbed, number: int, rng: Random) -> Kill:
    launcher = reference.setup.launcher
    if number % _ONE_IN == _ONE_IN - 1:
        seconds = rng.uniform(2.5, 6.0)
        return Kill(f"a process killed after {seconds:.1f} s", seconds=seconds, process=True)
    means = rng.choice(("moment", "moment", "torn", "torn", "time", "signal", "worker"))
    moment = choose_moment(reference.moments, rng)
    if means == "time":
        seconds = rng.uniform(0.1, 1.0)
        return Kill(f"killed after {seconds:.2f} s", seconds=seconds)
    if means == "torn":
        share = rng.choice((0.0, 0.1, 0.5, 0.9))
        return Kill(f"killed and torn at {share:g} before {moment}", moment, tear(share))
    if means == "signal":
        number_of = rng.choice((signal.SIGTERM, signal.SIGINT))
        return Kill(f"{number_of.name} before {moment}", moment, send(number_of))
    if means == "worker" and launcher == "pool":
        return Kill(f"its worker killed before {moment}", moment, kill_worker)
    return Kill(f"killed before {moment}", moment)


def _kill_and_repeat(reference: Undisturbed, trial: Path, kills: Sequence[Kill]) -> tuple[list[Fault], int]:
    """Run with one kill after the other, then to the end; return the faults, and how many kills struck."""
    output = trial / "out"
    arguments = reference.setup.arguments(output, reference.pictures)
    faults: list[Fault] = []
    struck = 0
    for kill in kills:
        outcome = _attempt(kill, arguments, trial)
        faults += faults_of_outcome(outcome, range(-64, 256), "when killed")
        struck += outcome.status != 0
    again = [*arguments, "retry_failed=true"]
    outcome = run_command(again, trial)
    faults += faults_of_outcome(outcome, what="given again")
    return [*faults, *faults_of_results(reference, output)], struck


def _attempt(kill: Kill, arguments: Sequence[str], trial: Path) -> Outcome:
    if kill.process:
        return run_process(arguments, trial, kill.seconds)
    if kill.moment is None:
        return run_command(arguments, trial, kill_after=kill.seconds)
    return run_command(arguments, trial, prepare=act_at(trial / "out", kill.moment, kill.action))


def _folder_in_place_of_pictures(reference: Undisturbed, trial: Path) -> list[Fault]:
    """Keep the pictures from being written after the last step, then let the runs go on."""
    output = trial / "out"
    arguments = [*reference.setup.arguments(output, reference.pictures), "retry_failed=true"]
    places = [output / "study" / name / "canvas.png" for name in reference.runs]
    for place in places:
        (place / "inside").mkdir(parents=True)
    outcome = run_command(arguments, trial)
    faults = faults_of_outcome(outcome, (1, 2), "with a folder in the place of canvas.png")
    for place in places:
        shutil.rmtree(place, ignore_errors=True)
    faults += faults_of_outcome(run_command(arguments, trial), what="given again")
    return [*faults, *faults_of_results(reference, output)]
