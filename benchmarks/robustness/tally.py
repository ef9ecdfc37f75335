"""Counts of trials, and a line for each in which something was wrong."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.robustness.studies import Fault

ALWAYS = ("traceback", "hang", "blank", "different", "company")
"""Kinds of faults that are in the table even if there were none."""


@dataclass
class Tally:
    """The trials of one subject.

    Attributes:
        subject: Their name.
        trials: How many there were.
        sound: In how many nothing was wrong.
        kinds: In how many each kind of fault was found.
        counts: Further numbers for the table.
    """

    subject: str
    trials: int = 0
    sound: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    began: float = field(default_factory=time.monotonic)

    def add(self, trial: str, faults: Sequence[Fault], trials: int = 1) -> None:
        """Count a trial, or several that were made at once; print their faults."""
        self.trials += trials
        self.sound += 0 if faults else trials
        self.kinds.update({fault.kind for fault in faults})
        for fault in faults:
            print(f"{self.subject} {self.trials}: {trial}: {fault.kind}: {fault.text}", flush=True)

    def table(self) -> str:
        """Return the counts, a row each."""
        rows = {"trials": self.trials, "nothing wrong": self.sound}
        rows |= {kind: self.kinds[kind] for kind in ALWAYS}
        rows |= {kind: n for kind, n in sorted(self.kinds.items()) if kind not in ALWAYS}
        rows |= dict(sorted(self.counts.items()))
        seconds = (time.monotonic() - self.began) / max(1, self.trials)
        lines = [f"| {self.subject} | |", "|---|---:|", *(f"| {name} | {n} |" for name, n in rows.items())]
        return "\n".join([*lines, f"| seconds per trial | {seconds:.1f} |"])
