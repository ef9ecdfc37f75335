"""When an objective no longer falls."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class Plateau:
    """Tells when a series of values has stopped falling.

    The best value so far is compared with the best of ``evaluations`` ago: on a plateau it has fallen by
    less than ``tolerance`` of itself. A step of L-BFGS that went too far changes neither.

    Args:
        tolerance: the relative fall that counts as none.
        evaluations: over which it is measured.
    """

    def __init__(self, tolerance: float, evaluations: int) -> None:
        self.tolerance, self.evaluations = tolerance, evaluations
        self.best: deque[float] = deque(maxlen=evaluations + 1)

    def update(self, value: float) -> None:
        """Take the next value."""
        self.best.append(min(value, self.best[-1]) if self.best else value)

    def state_dict(self) -> list[float]:
        """Return what it has heard, for checkpoints."""
        return list(self.best)

    def load_state_dict(self, state: Sequence[float]) -> None:
        """Take up what another had heard."""
        self.best.clear()
        self.best.extend(state)

    @property
    def reached(self) -> bool:
        """Whether the values heard last are on a plateau."""
        if len(self.best) <= self.evaluations:
            return False
        before, now = self.best[0], self.best[-1]
        return before - now <= self.tolerance * abs(before)
