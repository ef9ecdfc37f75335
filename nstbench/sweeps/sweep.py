"""A sweep, as the process that started it sees it: what is to be done, and what came of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf

from nstbench.errors import UserError
from nstbench.interruption import politely
from nstbench.sweeps.ledger import ENDED, Entry, Ledger
from nstbench.sweeps.view import View

# These look at `nstbench.interruption.asked_to_stop`; others know nothing but KeyboardInterrupt.
_POLITE = frozenset({"BasicLauncher", "PoolLauncher"})


class Sweep:
    """What came of the runs of one command, whatever launched them.

    Args:
        command: that was typed, for whoever wants to repeat it.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = shlex.join(command)
        self.expected: dict[int, list[str]] = {}
        self.outcomes: dict[int, Entry] = {}
        self.stopped = False
        self.config: Any = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Have Hydra's sweeper launch its runs under our eyes: it has no callback that tells what it will."""
        instantiate = Plugins.instance().instantiate_launcher

        def watched(**arguments: Any) -> Launcher:
            return _Watched(instantiate(**arguments), arguments["config"], self)

        with patch.object(Plugins.instance(), "instantiate_launcher", watched):
            yield

    def launch(
        self, launcher: Launcher, config: Any, job_overrides: Sequence[Sequence[str]], first: int
    ) -> Sequence[JobReturn]:
        """Launch a batch of runs; whatever becomes of them, each has an outcome afterwards."""
        self.config = config
        batch = {first + i: list(overrides) for i, overrides in enumerate(job_overrides)}
        self.expected |= batch
        folder = Path(str(config.hydra.sweep.dir))
        ledger = Ledger.new(folder)
        self._note_command(folder)
        common = set.intersection(*map(set, batch.values())) if len(batch) > 1 else set[str]()
        total = max(len(self.expected), _trials(config))
        returned: Sequence[JobReturn] = []
        without_a_word = "its process ended without a word"
        try:
            with View(ledger, total, self.outcomes, common):
                try:
                    if type(launcher).__name__ in _POLITE:
                        with politely():
                            returned = launcher.launch(job_overrides, initial_job_idx=first)
                    else:
                        returned = launcher.launch(job_overrides, initial_job_idx=first)
                except KeyboardInterrupt:
                    self.stopped = True
                except UserError:
                    raise
                except Exception as error:  # joblib's worker that dies takes all other runs with it
                    without_a_word = f"the launcher failed: {type(error).__name__}: {_first_line(error)}"
                if not self.stopped:
                    for number, overrides in batch.items():
                        ledger.lost(number, overrides, without_a_word)
        finally:
            entries = ledger.entries()
            ledger.close()
        for number, overrides in batch.items():
            entry = entries.get(number) or Entry(number, overrides, "stopped")
            self.outcomes[number] = entry if entry.state in ENDED else replace(entry, state="stopped")
        if self.stopped:
            raise KeyboardInterrupt
        return returned or [_nothing(overrides) for overrides in job_overrides]

    def _note_command(self, folder: Path) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with (folder / "commands.txt").open("a", encoding="utf-8") as file:
            file.write(f"{now}\t{self.command}\n")


class _Watched(Launcher):
    """A launcher that does what another does, in a sweep."""

    def __init__(self, launcher: Launcher, config: Any, sweep: Sweep) -> None:
        self.launcher, self.config, self.sweep = launcher, config, sweep

    def setup(self, **arguments: Any) -> None:
        """Was done by Hydra."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Launch a batch of runs."""
        return self.sweep.launch(self.launcher, self.config, job_overrides, initial_job_idx)


def _trials(config: Any) -> int:
    """Return how many runs a search will make; 0 for a sweep, which launches all at once."""
    return int(OmegaConf.select(config, "hydra.sweeper.n_trials", default=0) or 0)


def _nothing(overrides: Sequence[str]) -> JobReturn:
    return JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=float("nan"))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]
