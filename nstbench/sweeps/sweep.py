"""A sweep in the process that started it: the launch of its runs, and their outcomes."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf

from nstbench.errors import StorageError, UserError
from nstbench.runtime.files import append_text, read_regular
from nstbench.runtime.interruption import stop_on_first_interrupt, stop_requested
from nstbench.sweeps.view import View
from nstbench.tracking.ledger import ENDED, Entry, Ledger, State
from nstbench.tracking.lock import is_held

# Launchers whose runs check `nstbench.runtime.interruption.stop_requested`; others need a KeyboardInterrupt.
_STOP_ON_REQUEST = frozenset({"BasicLauncher", "BatchedLauncher", "PoolLauncher"})

_POLL_SECONDS = 1.0  # between checks of runs on which other processes are at work
_NO_SPACE = 2**16  # bytes


class Sweep:
    """The runs of one command and their outcomes, with any launcher.

    Args:
        command: Command that was typed, which is kept for repeating it.
        notes: Clauses for the first line of the sweep: "style has 6 values from paintings/*.jpg".

    Attributes:
        outcomes: Ledger entries of all runs so far, by number.
        config: Configuration of the sweep, once it is launched.
        stopped: Whether the user stopped the sweep.
    """

    def __init__(self, command: Sequence[str], notes: Sequence[str] = ()) -> None:
        self.command = shlex.join(command)
        self.notes = notes
        self.outcomes: dict[int, Entry] = {}
        self.config: Any = None
        self.stopped = False
        self._began = time.monotonic()

    def follow(self, sweeper: Sweeper, config: Any) -> None:
        """Replace the launcher of a sweeper by one that calls `launch`: Hydra has no callback for this.

        Args:
            sweeper: Sweeper that was set up.
            config: Configuration of the sweep.

        Raises:
            UserError: The sweeper has no attribute with its launcher.
        """
        owner: Any = sweeper
        # Hydra's plugins for searches are thin classes around a sweeper.
        while getattr(owner, "launcher", None) is None and hasattr(owner, "sweeper"):
            owner = owner.sweeper
        if getattr(owner, "launcher", None) is None:
            reason = "its runs cannot be followed: it has no attribute launcher"
            raise UserError("hydra/sweeper", type(sweeper).__name__, reason, "Type hydra/sweeper=optuna.")
        owner.launcher = _FollowedLauncher(owner.launcher, config, self)

    def launch(
        self, launcher: Launcher, config: Any, job_overrides: Sequence[Sequence[str]], first: int
    ) -> Sequence[JobReturn]:
        """Launch a batch of runs; each has an outcome afterwards, also if the launcher fails."""
        batch = {first + i: list(overrides) for i, overrides in enumerate(job_overrides)}
        folder = Path(str(config.hydra.sweep.dir))
        ledger = Ledger.new(folder)
        if self.config is None:
            try:
                _record_command(folder, self.command)
            except StorageError:
                ledger.close()
                raise
            if begun := _already_there(folder.parent):
                print(begun, file=sys.stderr, flush=True)
            if self.notes:
                total = _total(config, len(batch))
                runs = f"{total} run{'s' * (total != 1)}: " if total else ""
                print(f"{runs}{'; '.join(self.notes)}", flush=True)
            self._began = time.monotonic()
        self.config = config
        common = set.intersection(*map(set, batch.values())) if len(batch) > 1 else set[str]()
        values: dict[int, Any] = {}
        refused = False
        try:
            with (
                View(ledger, _total(config, len(batch)), self.outcomes, common, began=self._began),
                stop_on_first_interrupt() if type(launcher).__name__ in _STOP_ON_REQUEST else nullcontext(),
            ):
                reason = ""
                try:
                    for result, number in zip(launcher.launch(job_overrides, first), batch, strict=True):
                        values[number] = result.return_value
                    values |= self._wait_for_others(launcher, ledger, batch)
                except UserError:  # no run was started
                    refused = True
                    raise
                except StorageError as error:
                    reason = str(error)
                except Exception as error:  # a worker of joblib that dies ends all other runs
                    reason = f"the launcher failed: {type(error).__name__}: {_first_line(error)}"
                reason = reason or _reason_of_lost_run(folder)
                for number, overrides in batch.items():
                    ledger.lost(number, overrides, reason)
        except KeyboardInterrupt:
            self.stopped = True
            raise
        finally:
            entries = ledger.entries()
            ledger.close()
            for number, overrides in () if refused else batch.items():
                entry = entries.get(number) or Entry(number, overrides, "running")
                if entry.state not in ENDED:
                    ended: State = "stopped" if self.stopped else "failed"
                    entry = replace(entry, state=ended, error="" if self.stopped else reason)
                self.outcomes[number] = entry
        return [_returned(o, values.get(n, float("nan"))) for n, o in batch.items()]

    def _wait_for_others(
        self, launcher: Launcher, ledger: Ledger, batch: Mapping[int, list[str]]
    ) -> dict[int, Any]:
        """Run again the runs on which another process was at work, when it has ended: it may have died.

        Mostly the run is finished, and only its result is read.
        """
        values = {}
        while busy := [e for e in ledger.entries().values() if e.state == "busy" and e.number in batch]:
            if stop_requested():
                raise KeyboardInterrupt
            free = next((entry for entry in busy if not is_held(Path(entry.folder))), None)
            if free is None:
                time.sleep(_POLL_SECONDS)
                continue
            (result,) = launcher.launch([batch[free.number]], free.number)
            values[free.number] = result.return_value
        return values


class _FollowedLauncher(Launcher):
    """A launcher that passes batches of runs to its sweep, which calls the original launcher."""

    def __init__(self, launcher: Launcher, config: Any, sweep: Sweep) -> None:
        self.launcher, self.config, self.sweep = launcher, config, sweep

    def setup(self, **arguments: Any) -> None:
        """Do nothing: Hydra has set up the original launcher."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Launch a batch of runs."""
        return self.sweep.launch(self.launcher, self.config, job_overrides, initial_job_idx)


def _record_command(folder: Path, command: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    append_text(folder / "commands.txt", f"{now}\t{command}\n")


def _already_there(study: Path) -> str:
    """Return a line about the runs that are in a study's folder before a sweep; "" if there are none."""
    states: Counter[str] = Counter()
    for file in study.glob("*/run.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):  # a damaged record is told when it is used
            states[json.loads(read_regular(file))["state"]] += 1
    names = {"completed": "done", "running": "not finished", "failed": "failed"}
    parts = [f"{states[state]} {name}" for state, name in names.items() if states[state]]
    if not parts:
        return ""
    return f"continues {study}, which has runs: {', '.join(parts)}. What is done is not computed again"


def _total(config: Any, batch: int) -> int | None:
    """Return the number of runs of the sweep; None if it is launched in several batches."""
    if trials := OmegaConf.select(config, "hydra.sweeper.n_trials", default=None):
        return int(trials)
    return None if OmegaConf.select(config, "hydra.sweeper.max_batch_size", default=None) else batch


def _reason_of_lost_run(folder: Path) -> str:
    """Return the reason of a run that reported no end: the disk may have been full."""
    try:
        full = shutil.disk_usage(folder).free < _NO_SPACE
    except OSError:
        return f"the folder {folder} was removed or moved"
    return f"no space is left in {folder}" if full else "its process ended and reported no reason"


def _returned(overrides: Sequence[str], value: Any) -> JobReturn:
    return JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=value)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]
