"""A watch for optimisations that stall: the objective could fall, but the optimiser's steps are no use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import torch

from nstbench.modules.member import Evaluation, EvaluationCallback, Member
from nstbench.objective.objective import Objective

WINDOW = 50
"""Evaluations over which the objective has to move."""

MOVED = 1e-2
"""Relative range of the objective over the window, below which it has hardly moved."""

GAIN, TIMES = 5e-3, 10
"""Decrease by one step against the gradient that shows that the objective could fall: relative to the
objective, and as a multiple of how far it moved in the whole window."""

LEVELS = (1 / 64, 1 / 16, 1 / 4, 1.0, 4.0, 16.0)
"""Lengths of that step, as the root mean square over pixels, in levels of 8 bits."""


class StallWatch(EvaluationCallback):
    """Tell, once, when the objective has hardly moved although one step along its gradient would lower it.

    A flat curve alone is no stall: it is also what an optimisation at its minimum has. So where the
    objective has moved by less than 1 % over 50 evaluations, steps of several lengths are tried against the
    gradient. It is a stall if one of them lowers the objective by 0.5 %, and ten times as far as it moved in
    those 50. A trial costs an evaluation of the gradient and six of the objective, on a copy of the canvas,
    and draws no random numbers.

    What causes a stall: L-BFGS that keeps no pair since the objective's values are tiny (``y·s ≤ 1e-10``), or
    whose first, unscaled steps are far too short or too long; a learning rate that is far too small.

    Args:
        tell: Function that is called with the message.
        optimizer: Node of the optimiser, for what to change.
        told: Whether an earlier attempt of the run has told.
    """

    def __init__(
        self, tell: Callable[[str], None], optimizer: Mapping[str, Any], *, told: bool = False
    ) -> None:
        self.tell, self.advice, self.told = tell, _advice(optimizer), told
        self.stage = 0
        self.totals: deque[float] = deque(maxlen=WINDOW + 1)

    def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
        """Test the last values, once in every window."""
        if self.told or member.blocks is not None:  # a gradient in blocks takes as long as many steps
            return
        if evaluation.stage != self.stage:
            self.stage = evaluation.stage
            self.totals.clear()
        self.totals.append(evaluation.values.total)
        if len(self.totals) <= WINDOW or evaluation.index % WINDOW:
            return
        now = evaluation.values.total
        moved = max(self.totals) - min(self.totals)
        if moved > MOVED * abs(now):
            return
        gain, levels = _largest_gain(member, evaluation)
        if gain > max(GAIN * abs(now), TIMES * moved):
            self.told = True
            share, gained = moved / abs(now), gain / abs(now)
            self.tell(
                f"the run stalls at evaluation {evaluation.index}: over the last {WINDOW} the objective "
                f"moved by {share:.1g} of itself, but one step of {levels:.2g} grey levels against its "
                f"gradient lowers it by {gained:.1%}. {self.advice}"
            )


def _largest_gain(member: Member, evaluation: Evaluation) -> tuple[float, float]:
    """Return by how much a step against the gradient lowers the objective at most, and the step's levels."""
    picture = evaluation.picture.clone().requires_grad_()
    objective = Objective([member.terms], member.device)
    with torch.enable_grad():
        start = objective(member.encode(picture), picture)[0].sum()
        (gradient,) = torch.autograd.grad(start, picture)
    direction = gradient / gradient.square().mean().sqrt()
    gains = {}
    with torch.no_grad():
        for levels in LEVELS:
            moved = picture - levels / 255 * direction
            gains[levels] = float(start - objective(member.encode(moved), moved)[0].sum())
    # Not a number where the gradient is 0: then no comparison with it is true.
    best = max(gains, key=lambda levels: gains[levels])
    return gains[best], best


def _advice(optimizer: Mapping[str, Any]) -> str:
    if str(optimizer.get("_target_", "")).endswith("LBFGS"):
        if "relative_curvature" in optimizer and optimizer["relative_curvature"] is None:
            return "Type optimizer=lbfgs_relative, or multiply all weights by one large factor."
        return "Type optimizer=lbfgs_torch optimizer.line_search_fn=strong_wolfe."
    return f"Raise optimizer.lr, now {optimizer.get('lr', 'at its default')}."
