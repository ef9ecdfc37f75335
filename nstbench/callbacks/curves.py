"""Loss curves: a row of curves.csv, and a point in the dashboards, every k evaluations."""

from __future__ import annotations

import time
from pathlib import Path

from nstbench.modules.member import Evaluation, EvaluationCallback, Member
from nstbench.objective.values import Values
from nstbench.tracking.dashboards import Dashboards
from nstbench.tracking.files import append_row, drop_rows


class Curves(EvaluationCallback):
    """Write the objective and its terms as they fall.

    Columns: ``evaluation`` (made so far), ``step``, ``stage``, ``seconds`` of optimisation over all
    attempts, ``loss/total``, ``loss/<term>`` (weighted; they sum to the total), ``value/<term>``
    (unweighted, in the run's unit) and ``draw/<term>`` for terms that sample: the number of the draw
    that the value belongs to; a jump of the value at another one is the draw's. Each row is written
    at once: a killed run loses none.

    Args:
        path: Path of curves.csv.
        dashboards: Dashboards of the run.
        every: Evaluations between rows. The first evaluation always has one.
        evaluations: Evaluations made by an interrupted attempt; later rows are dropped, as they will be
            written again.
        seconds: Seconds spent by interrupted attempts.
    """

    def __init__(
        self,
        path: Path,
        dashboards: Dashboards,
        every: int,
        *,
        evaluations: int = 0,
        seconds: float = 0.0,
    ) -> None:
        self.path, self.dashboards, self.every, self.evaluations = path, dashboards, every, evaluations
        self.seconds_before, self.started = seconds, time.monotonic()
        drop_rows(path, evaluations)

    @property
    def seconds(self) -> float:
        """Seconds of optimisation so far, over all attempts."""
        return self.seconds_before + time.monotonic() - self.started

    def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
        """Write a row if one is due."""
        if evaluation.index % self.every == 0:
            self.write(member, evaluation.values)

    def write(self, member: Member, values: Values) -> None:
        """Write a row for the canvas as it is at present."""
        scalars, progress = scalars_of(values), member.progress
        index, stage, seconds = progress.evaluations, progress.stage, round(self.seconds, 4)
        draws = {f"draw/{name}": number for name, number in member.draws.items()}
        row = {"evaluation": index, "step": progress.step, "stage": stage, "seconds": seconds}
        append_row(self.path, {**row, **{k: repr(v) for k, v in scalars.items()}, **draws})
        self.dashboards.log(index, {**scalars, **draws, "stage": stage, "seconds": seconds})


def scalars_of(values: Values) -> dict[str, float]:
    """Return every value, named as in curves and dashboards."""
    return {
        "loss/total": values.total,
        **{f"loss/{name}": value for name, value in values.weighted.items()},
        **{f"value/{name}": value for name, value in values.unweighted.items()},
    }
