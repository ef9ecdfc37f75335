"""A test of whether an objective no longer falls."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class Plateau:
    """A test of whether a series of values has stopped falling.

    The best value so far is compared with the best of ``evaluations`` ago: on a plateau it has fallen by
    less than ``tolerance`` of itself. A step of L-BFGS that increased the objective changes neither.

    Args:
        tolerance: Relative decrease below which the values are on a plateau.
        evaluations: Number of evaluations over which the decrease is measured.
    """

    def __init__(self, tolerance: float, evaluations: int) -> None:
        self.tolerance, self.evaluations = tolerance, evaluations
        self.best: deque[float] = deque(maxlen=evaluations + 1)

    def update(self, value: float) -> None:
        """Add the next value."""
        self.best.append(min(value, self.best[-1]) if self.best else value)

    def state_dict(self) -> list[float]:
        """Return the best values so far, for checkpoints."""
        return list(self.best)

    def load_state_dict(self, state: Sequence[float]) -> None:
        """Restore the best values of a checkpoint."""
        self.best.clear()
        self.best.extend(state)

    @property
    def reached(self) -> bool:
        """Whether the last values are on a plateau."""
        if len(self.best) <= self.evaluations:
            return False
        before, now = self.best[0], self.best[-1]
        return before - now <= self.tolerance * abs(before)
