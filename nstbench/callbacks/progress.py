"""One bar per run: step, objective, content, style, evaluations per second and the time left."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from nstbench.modules.member import Evaluation, EvaluationCallback, Member
from nstbench.objective.units import Start

# Short enough for a smooth bar, long enough not to slow the run.
_REFRESH_SECONDS = 0.2


class ProgressBar(EvaluationCallback):
    """Show the run's progress on the terminal; nothing is shown where there is none.

    Args:
        description: Name of the run.
        steps: Steps of the whole schedule.
        done: Steps made by an interrupted attempt.
        console: Terminal; standard error by default, so that standard output can be piped.
    """

    def __init__(self, description: str, steps: int, done: int = 0, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[losses]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
            expand=True,
        )
        self.task: TaskID = self.bar.add_task(description, total=steps, completed=done, losses="")
        self._shown = self._started = 0.0
        self._evaluations = 0

    def __enter__(self) -> ProgressBar:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
        """Refresh the bar a few times a second."""
        now = time.monotonic()
        self._started = self._started or now
        self._evaluations += 1
        if self.bar.disable or now - self._shown < _REFRESH_SECONDS:
            return
        self._shown = now
        rate = (self._evaluations - 1) / max(now - self._started, 1e-9)
        self.bar.update(self.task, completed=evaluation.step, losses=f"{_losses(evaluation)} {rate:.1f}/s")


def show_continued(name: str, step: int, steps: int, console: Console | None = None) -> None:
    """Print that an interrupted run continues, and where."""
    console = console or Console(stderr=True)
    line = f"continues {name}, which was interrupted, at step {step} of {steps}"
    console.print(line, soft_wrap=True, highlight=False, markup=False)


def show_starts(starts: Mapping[str, Start], console: Console | None = None) -> None:
    """Print what each term weighs, its value and its gradient on the initial canvas."""
    console = console or Console(stderr=True)
    table = Table("term", box=None, pad_edge=False)
    for heading in ("weight", "value", "gradient norm"):
        table.add_column(heading, justify="right")
    for name, start in starts.items():
        table.add_row(name, *(f"{x:.4g}" for x in (start.weight, start.value, start.gradient_norm)))
    console.print(table)


def _losses(evaluation: Evaluation) -> str:
    values = evaluation.values
    roles: dict[str, float] = {}
    for name, value in values.weighted.items():
        role = name.split("/")[0]
        roles[role] = roles.get(role, 0.0) + value
    parts = [f"total {values.total:.3g}"]
    parts += [f"{role} {roles[role]:.3g}" for role in ("content", "style") if role in roles]
    return " ".join(parts)
