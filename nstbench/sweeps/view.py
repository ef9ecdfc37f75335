"""One live view of a sweep: done, running, failed, remaining, and the time left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nstbench.tracking.ledger import ENDED, Entry, Ledger

_GLANCE = 0.5  # seconds between looks into the ledger
_SHOWN = 16  # running runs that have a line of their own


class View:
    """Follow a sweep's ledger: a line on standard output for each run that ends, and a live view.

    The live view is on standard error, where that is a terminal; a log file has the lines alone.

    Args:
        ledger: of the sweep.
        total: number of runs; None where that is not known.
        before: those that ended in earlier batches.
        common: overrides that all runs share, which tell nothing.
        began: when the sweep did, by the monotonic clock.
    """

    def __init__(
        self,
        ledger: Ledger,
        total: int | None,
        before: Mapping[int, Entry],
        common: Collection[str] = (),
        *,
        began: float,
    ) -> None:
        self.ledger, self.total, self.common, self._began = ledger, total, common, began
        self.entries: dict[int, Entry] = dict(before)
        self._told = set(before)
        self._done = threading.Event()
        self.console = Console(file=sys.stderr)
        self._live = Live(console=self.console, auto_refresh=False, transient=True, redirect_stdout=False)
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> View:
        if self.console.is_terminal:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.look()
        if self.console.is_terminal:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a line on standard error, above the live view."""
        self.console.print(Text(line), soft_wrap=True)

    def look(self) -> None:
        """Read what is new, print a line for each run that ended, and draw."""
        for number in self.ledger.numbers():
            if number in self._told:
                continue
            entry = self.ledger.of(number)
            if entry is None:
                continue
            self.entries[number] = entry
            if entry.state in ENDED:
                self._told.add(number)
                self._tell(entry)
        if self.console.is_terminal:
            self._live.update(self.render(), refresh=True)

    def render(self) -> Group:
        """Return the live view: a bar for the sweep, a line for each run that is under way."""
        states = [entry.state for entry in self.entries.values()]
        ended = [s for s in states if s in ENDED]
        running = [e for e in self.entries.values() if e.state == "running"]
        parts = [f"{len(ended)}/{self.total} done" if self.total else f"{len(ended)} done"]
        parts += [f"{len(running)} running"]
        parts += [f"{states.count('failed')} failed"] if "failed" in states else []
        parts += [f"{states.count('busy')} at work elsewhere"] if "busy" in states else []
        parts += [f"{self.total - len(ended) - len(running)} remaining"] if self.total else []
        bars = Table.grid(padding=(0, 1))
        whole = ProgressBar(total=self.total or max(len(states), 1), completed=len(ended), width=30)
        bars.add_row(whole, Text(" · ".join(p for p in [*parts, self._left()] if p)))
        for entry in running[:_SHOWN]:
            name = Path(entry.folder).name or f"{self._typed(entry)}: starting"
            at = f"{entry.step}/{entry.steps} " if entry.steps else ""
            bar = ProgressBar(total=max(entry.steps, 1), completed=entry.step, width=30)
            bars.add_row(bar, Text(f"{at}{name}", overflow="ellipsis", no_wrap=True))
        return Group(bars)

    def _left(self) -> str:
        """Return the time left, at the pace so far of what was computed, not skipped, here."""
        computed = [e for e in self.entries.values() if e.state in {"completed", "failed"}]
        running = [e for e in self.entries.values() if e.state == "running"]
        done = len(computed) + sum(e.step / e.steps for e in running if e.steps)
        others = sum(e.state == "skipped" for e in self.entries.values())
        if done <= 0 or self.total is None:
            return ""
        left = (time.monotonic() - self._began) * max(0.0, self.total - others - done) / done
        minutes, seconds = divmod(round(left), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02} left"

    def _typed(self, entry: Entry) -> str:
        """Return what sets a run apart."""
        return " ".join(each for each in entry.overrides if each not in self.common)

    def _follow(self) -> None:
        while not self._done.wait(_GLANCE):
            self.look()

    def _tell(self, entry: Entry) -> None:
        if entry.state == "stopped":
            return
        if entry.state == "failed":
            self.say(f"failed: {self._typed(entry)}: {entry.error}")
            return
        line = f"{entry.folder}  {entry.line}"
        if self.console.is_terminal and sys.stdout.isatty():
            self.say(line)
        else:
            with suppress(BrokenPipeError):  # the reader, such as head, has seen enough
                print(line, flush=True)
