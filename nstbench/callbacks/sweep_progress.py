"""A run telling its sweep how it is getting on."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from nstbench.modules.image_optimization import Evaluation, EvaluationCallback
from nstbench.tracking.ledger import Entry, Ledger

_EVERY = 1.0  # seconds


class Reporting(EvaluationCallback):
    """Note the step that a run has reached, about once a second.

    Args:
        ledger: of the sweep.
        entry: of the run.
    """

    def __init__(self, ledger: Ledger, entry: Entry) -> None:
        self.ledger, self.entry = ledger, entry
        self._noted = time.monotonic()

    def begin(self, folder: Path) -> None:
        """Note which folder is the run's, so that it can be told if its process dies."""
        self.entry = replace(self.entry, folder=str(folder))
        self.ledger.note(self.entry)

    def on_evaluation(self, module: Any, evaluation: Evaluation) -> None:
        """Note the step if it is time to."""
        now = time.monotonic()
        if now - self._noted > _EVERY:
            self._noted = now
            self.ledger.note(replace(self.entry, step=evaluation.step))
