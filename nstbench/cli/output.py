"""Output at the end of a run, of a sweep and of a training."""

from __future__ import annotations

import errno
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nstbench.errors import NonFiniteObjectiveError, StorageError

if TYPE_CHECKING:
    from nstbench.runs.run import Result
    from nstbench.tracking.ledger import Entry
    from nstbench.training.train import Trained

_WIDTH = 110


def show_result(result: Result) -> None:
    """Print the metrics of a run, and the paths of its picture and record."""
    console = _console()
    record, folder = result.record, result.folder
    if result.skipped:
        done = "nothing was computed again"
        if result.evaluated:
            done = f"only metrics were computed ({', '.join(result.evaluated)})"
        console.print(
            Text(f"This run was finished before: {done}. To repeat it, remove {folder}"), soft_wrap=True
        )
    if record.metrics or record.unavailable_metrics:
        console.print(_metrics_table(result))
    seconds = record.timings.get("optimize_s", 0.0)
    rate = f"{1000 * seconds / record.evaluations:.0f} ms each" if record.evaluations else ""
    console.print(f"{record.evaluations} evaluations in {seconds:.1f} s ({rate}) on {record.device}")
    for warning in record.warnings:
        console.print(Text(f"warning  {warning}"), soft_wrap=True)
    console.print(Text(f"picture  {folder / 'canvas.png'}"), soft_wrap=True)
    console.print(Text(f"record   {folder / 'run.json'}"), soft_wrap=True)
    console.print(Text(f"curves   {folder / 'curves.csv'}"), soft_wrap=True)


def show_sweep(outcomes: Sequence[Entry]) -> None:
    """Print the number of runs in each state, and why runs failed."""
    if not outcomes:
        return
    console = _console()
    count = Counter(outcome.state for outcome in outcomes)
    parts = [f"{count['completed']} completed"]
    parts += [f"{count['skipped']} done before"] * bool(count["skipped"])
    parts += [f"{count['stopped']} not finished"] * bool(count["stopped"])
    console.print(f"{len(outcomes)} runs: {', '.join(parts)}, {count['failed']} failed", soft_wrap=True)
    failed = [o for o in outcomes if o.state == "failed"]
    if failed:
        table = Table("run", "why it failed", title="failed runs", title_justify="left")
        for outcome in failed:
            table.add_row(Text("\n".join(outcome.overrides)), Text(outcome.error))
        console.print(table)
        for log in dict.fromkeys(o.log for o in failed if o.log):
            console.print(Text(f"log  {log}"), soft_wrap=True)


def show_training(trained: Trained) -> None:
    """Print the accuracies of a training, the path of the weights, and how to use them."""
    console = _console()
    if trained.skipped:
        before = "This training was finished before: nothing was computed again. To repeat it, remove"
        console.print(Text(f"{before} {trained.folder}"), soft_wrap=True)
    console.print(_accuracies_table(trained))
    use = shlex.quote(f"encoder.weights={trained.weights}")
    for name, text in (
        ("trained", f"{trained.seconds:.1f} s"),
        ("sha256", trained.sha256),
        ("weights", str(trained.weights)),
        ("record", str(trained.folder / "training.json")),
        ("use them", f"nstbench run {use}"),
    ):
        console.print(Text(f"{name:<9}{text}"), soft_wrap=True)


def _accuracies_table(trained: Trained) -> Table:
    columns = [f"{a.classes} textures, {a.crop} px" for a in trained.accuracies]
    title = "accuracy on held-out pictures"
    table = Table("layer", *columns, title=title, title_justify="left")
    for layer in trained.accuracies[0].at if trained.accuracies else ():
        table.add_row(layer, *(f"{a.at[layer]:.3f}" for a in trained.accuracies))
    table.add_row("chance", *(f"{1 / a.classes:.3f}" for a in trained.accuracies), style="dim")
    return table


def _metrics_table(result: Result) -> Table:
    from nstbench.analysis.judges import describe_judge
    from nstbench.metrics.evaluate import direction  # loads torch

    table = Table("metric", "value", "better", "compared with", title="metrics", title_justify="left")
    judges: dict[str, list[str]] = {}
    record = result.record
    names = [*record.metrics, *record.unavailable_metrics]
    for family in dict.fromkeys(name.split("/")[0] for name in names):
        # Only classes in the configuration of this run are imported, none that a record names.
        compared = direction(result.metrics[family])[1] if family in result.metrics else ""
        if family in record.config["metrics"] and (judge := describe_judge(record.config["metrics"][family])):
            judges.setdefault(judge, []).append(family)
        for each in (name for name in names if name.split("/")[0] == family):
            if each in record.metrics:
                value = Text(f"{record.metrics[each]:.4f}", justify="right")
            else:
                value = Text(f"unavailable: {record.unavailable_metrics[each]}", style="dim")
            better = {"max": "higher", "min": "lower"}.get(record.directions.get(each, ""), "")
            table.add_row(Text(each), value, better, compared)
    if judges:
        table.caption = Text("\n".join(f"{', '.join(of)}: judged by {judge}" for judge, of in judges.items()))
        table.caption_justify = "left"
    return table


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)


def report(failure: Exception, what: str, *, diverged: str, smaller: str) -> int:
    """Print in one line why a run failed, and return the exit status; errors of the program are raised.

    Args:
        failure: Error that was raised.
        what: Name of the task that failed, such as "run".
        diverged: Hint where the objective became infinite, unless the error has one.
        smaller: Settings to make smaller where there is not enough memory.
    """
    kind = type(failure).__name__
    if isinstance(failure, StorageError):
        print(f"nstbench: the {what} stopped: {failure}", file=sys.stderr)
        return 1
    if isinstance(failure, NonFiniteObjectiveError):
        hint = failure.hint or diverged
    elif isinstance(failure, MemoryError) or kind == "OutOfMemoryError":
        hint = f"There is not enough memory: try {smaller}"
    elif kind == "BrokenProcessPool":
        hint = "Perhaps there is not enough memory: try fewer processes, with trainer.threads=1"
    elif isinstance(failure, OSError) and failure.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS}:
        hint = "Give another folder: output=…"
    else:
        raise failure
    reason = (str(failure).splitlines() or [kind])[0].rstrip(".")
    print(f"nstbench: the {what} failed: {reason}. {hint}.", file=sys.stderr)
    return 1
