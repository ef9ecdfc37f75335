"""The progress of a run, reported to its sweep."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from nstbench.modules.member import Evaluation, EvaluationCallback, Member
from nstbench.tracking.ledger import Entry, Ledger

_EVERY = 1.0  # seconds


class Reporting(EvaluationCallback):
    """Record the step that a run has reached in the sweep's ledger, about once a second.

    Args:
        ledger: Ledger of the sweep.
        entry: Entry of the run.
    """

    def __init__(self, ledger: Ledger, entry: Entry) -> None:
        self.ledger, self.entry = ledger, entry
        self._noted = time.monotonic()

    def begin(self, folder: Path) -> None:
        """Record the run's folder, so that it is known if the process dies."""
        self.entry = replace(self.entry, folder=str(folder))
        self.ledger.note(self.entry)

    def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
        """Record the step if a second has passed."""
        now = time.monotonic()
        if now - self._noted > _EVERY:
            self._noted = now
            self.ledger.note(replace(self.entry, step=evaluation.step))
