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

_POLL_INTERVAL = 0.5  # seconds between reads of the ledger
_SHOWN = 16  # running runs that have a line of their own


class View:
    """The output of a sweep while it runs: a line for each run that ends, and a live view.

    The lines are on standard output. The live view is on standard error, if that is a terminal.

    Args:
        ledger: Ledger of the sweep.
        total: Number of runs; None if it is not known.
        before: Entries of runs that ended in earlier batches, by number.
        common: Overrides that all runs have, which are not shown.
        began: Time at which the sweep began, by the monotonic clock.
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
        self._printed = set(before)
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
        """Read new entries, print a line for each run that ended, and draw the live view."""
        for number in self.ledger.numbers():
            if number in self._printed:
                continue
            entry = self.ledger.of(number)
            if entry is None:
                continue
            self.entries[number] = entry
            if entry.state in ENDED:
                self._printed.add(number)
                self._print_entry(entry)
        if self.console.is_terminal:
            self._live.update(self.render(), refresh=True)

    def render(self) -> Group:
        """Return the live view: a progress bar for the sweep, and one for each running run."""
        states = [entry.state for entry in self.entries.values()]
        ended = [s for s in states if s in ENDED]
        running = [e for e in self.entries.values() if e.state == "running"]
        parts = [f"{len(ended)}/{self.total} done" if self.total else f"{len(ended)} done"]
        parts += [f"{len(running)} running"]
        parts += [f"{states.count('failed')} failed"] if "failed" in states else []
        parts += [f"{states.count('busy')} in another process"] if "busy" in states else []
        parts += [f"{self.total - len(ended) - len(running)} remaining"] if self.total else []
        bars = Table.grid(padding=(0, 1))
        whole = ProgressBar(total=self.total or max(len(states), 1), completed=len(ended), width=30)
        bars.add_row(whole, Text(" · ".join(p for p in [*parts, self._time_left()] if p)))
        for entry in running[:_SHOWN]:
            name = Path(entry.folder).name or f"{self._own_overrides(entry)}: starting"
            at = f"{entry.step}/{entry.steps} " if entry.steps else ""
            bar = ProgressBar(total=max(entry.steps, 1), completed=entry.step, width=30)
            bars.add_row(bar, Text(f"{at}{name}", overflow="ellipsis", no_wrap=True))
        return Group(bars)

    def _time_left(self) -> str:
        """Return the time left, at the mean pace of the runs computed so far (skipped ones left aside)."""
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

    def _own_overrides(self, entry: Entry) -> str:
        """Return the overrides that differ between runs."""
        return " ".join(each for each in entry.overrides if each not in self.common)

    def _follow(self) -> None:
        while not self._done.wait(_POLL_INTERVAL):
            self.look()

    def _print_entry(self, entry: Entry) -> None:
        if entry.state == "stopped":
            return
        if entry.state == "failed":
            self.say(f"failed: {self._own_overrides(entry)}: {entry.error}")
            return
        line = f"{entry.folder}  {entry.line}"
        if self.console.is_terminal and sys.stdout.isatty():
            self.say(line)
        else:
            with suppress(BrokenPipeError):  # the reader, such as head, has closed the pipe
                print(line, flush=True)
