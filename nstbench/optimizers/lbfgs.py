"""L-BFGS for a batch of canvases, each of which has its own history, step and convergence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

_CURVATURE = 1e-10  # torch.optim.LBFGS skips an update below it
_DECREASE = 1e-4  # Armijo's constant: part of the decrease by the slope that a step has to bring
_SHORTEST, _LONGEST = 0.1, 0.5  # of a step that was too long, by that of the one tried instead
_SHORTENED = 6  # times, at most, in a row
_FURTHEST = 0.1  # that parameters move in one step (root mean square), by the distance between the bounds


class LBFGS(torch.optim.Optimizer):
    """Limited-memory BFGS with one evaluation per step, for parameters ``(B, …)`` whose rows are canvases.

    ``x ← x - t·H·g``, where H·g comes from each canvas's own last m pairs of steps s and changes of the
    gradient y, by the two-loop recursion, vectorised over the batch. For one canvas it is
    ``torch.optim.LBFGS`` with ``max_iter=1``, to the rounding of sums: one evaluation per step; the first
    step has the length ``min(1, 1/‖g‖₁)·lr``, later ones ``lr``; a pair with too little curvature is not
    kept; H begins with ``y·s / y·y`` of the last pair; a canvas whose gradient is below
    ``tolerance_grad``, or that would no longer descend, stays where it is.

    In every step, one small transfer to the host decides which canvases move and which pairs are kept.

    With ``line_search=backtracking``, a canvas whose objective did not fall by the step before, by Armijo's
    test, returns along it: to the minimum of the parabola through both values and the slope, but to a tenth
    of the step at least and half of it at most. Every trial is a step of its own, so that canvases of
    a batch search independently. If six shorter steps do not help either, it goes back to where the step
    began, and forgets its pairs. Nocedal & Wright, algorithm 3.1 and equation 3.58.

    With ``bounds``, the parameters are kept within them, as by L-BFGS-B: a parameter on a bound whose
    derivative pushes it outwards takes no part in the step (which is H·g of the others), and one that would
    cross a bound stops there. A step is no longer than a tenth of the way between the bounds (root mean
    square): one to a corner of the box can lower the objective and lead nowhere. s is the step as taken.
    Two-metric projection: Bertsekas, Projected
    Newton methods (1982); unlike L-BFGS-B it has no search along the projected path.

    Nocedal & Wright, Numerical Optimization (2006), algorithm 7.4.

    Args:
        params: Parameters of the canvases, all with the batch as their first dimension.
        lr: Length of a step, in Newton steps.
        history_size: Number m of pairs that are kept.
        tolerance_grad: Largest derivative at which a canvas counts as converged.
        tolerance_change: Slope along the step below which a canvas no longer moves.
        relative_curvature: Smallest curvature ε: pairs with ``y·s > ε·‖y‖·‖s‖`` are kept, and each step is
            twice as long as the last until there is one. None: pairs with ``y·s > 1e-10`` are kept, and
            steps before the first have the length ``lr·‖g‖``, as in PyTorch. That depends on the scale of the
            objective: a tiny one hardly falls.
        line_search: None or ``backtracking``. For objectives that are one function of the canvas: not where
            a term draws samples anew at every step.

    Attributes:
        bounds: Least and largest value of the parameters; None: there are no bounds. Not a setting, but a
            property of what is optimised (`nstbench.canvas.base.Canvas.bounds`).

    Raises:
        ValueError: A setting is too small, or parameters differ in their first dimension.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1.0,
        history_size: int = 10,
        tolerance_grad: float = 0.0,
        tolerance_change: float = 0.0,
        relative_curvature: float | None = None,
        line_search: Literal["backtracking"] | None = None,
    ) -> None:
        if lr < 0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if history_size < 1:
            raise ValueError(f"history_size is 1 or more, not {history_size}")
        if relative_curvature is not None and relative_curvature < 0:
            raise ValueError(f"relative_curvature is 0 or more, not {relative_curvature}")
        if line_search not in (None, "backtracking"):
            raise ValueError(f"line_search is null or backtracking, not {line_search}")
        settings = {
            "lr": lr,
            "history_size": history_size,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "relative_curvature": relative_curvature,
            "line_search": line_search,
        }
        super().__init__(params, settings)
        self.bounds: tuple[float, float] | None = None
        self._parameters: list[Tensor] = self.param_groups[0]["params"]
        if len({len(p) for p in self._parameters}) > 1:
            raise ValueError("the parameters of a batch have one first dimension")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Evaluate once, and take one step with every canvas; return what ``closure`` returns.

        Args:
            closure: Function that computes gradients and returns the objective: with a line search, that of
                every canvas, ``(B,)``.
        """
        with torch.enable_grad():
            value = closure()
        settings = self.param_groups[0]
        g = torch.cat([_rows(_gradient(p)) for p in self._parameters], dim=1)
        state = self.state[self._parameters[0]] or self._begin(g, settings["history_size"])
        H = _History(state)

        y, s = g - state["gradient"], state["direction"] * state["length"][:, None]
        ys = _dot(y, s)
        least = _CURVATURE
        if (relative := settings["relative_curvature"]) is not None:
            least = relative * y.norm(dim=1) * s.norm(dim=1)
        free = self._free(g)
        downhill = g if free is None else g * free
        moves = downhill.abs().amax(dim=1) > settings["tolerance_grad"]
        values = value.detach().reshape(-1) if isinstance(value, Tensor) else torch.tensor([value])
        back = self._too_long(values, state)
        restart = back & (state["shortened"] >= _SHORTENED)
        moving, curved, returning, restarting = torch.stack([moves, ys > least, back, restart]).tolist()
        begun = [m and n > 0 and not r for m, n, r in zip(moving, state["steps"], returning, strict=True)]
        H.add(s, y, ys, [b and c for b, c in zip(begun, curved, strict=True)])

        d = H.times(-downhill)
        if free is not None:
            d = d * free
        t = torch.full_like(ys, settings["lr"])
        if not all(state["steps"]):
            first = torch.tensor([n == 0 for n in state["steps"]], device=t.device)
            t = torch.where(first, t * (1 / downhill.abs().sum(dim=1)).clamp(max=1), t)
        if relative is not None and min(state["newest"]) < 0:
            pairless = [n > 0 > k for n, k in zip(state["steps"], state["newest"], strict=True)]
            t = torch.where(torch.tensor(pairless, device=t.device), 2 * state["length"], t)
        if self.bounds is not None:
            furthest = _FURTHEST * (self.bounds[1] - self.bounds[0])
            t = torch.minimum(t, furthest / d.square().mean(dim=1).sqrt().clamp(min=1e-30))
        descends = ~(_dot(g, d) > -settings["tolerance_change"])
        t_moved = torch.where(moves & descends, t, 0.0)
        changed = {"direction": d, "gradient": g, "length": t}
        if settings["line_search"] is not None:
            shorter = torch.where(restart, 0.0, self._shorter(values, state))
            t_moved = torch.where(back, shorter - state["length"], t_moved)
            d = torch.where(back[:, None], state["direction"], d)
            state["length"] = torch.where(back, shorter, state["length"])
            state["shortened"] = torch.where(back & ~restart, state["shortened"] + 1, 0)
            changed["value"] = values
            moves, moving = moves & ~back, [m and not r for m, r in zip(moving, returning, strict=True)]
        changed["direction"] = self._move(t_moved, d)
        for name, new in changed.items():
            where = moves.view(-1, *[1] * (new.dim() - 1))
            state[name] = new if all(moving) else torch.where(where, new, state[name])
        state["steps"] = [n + m for n, m in zip(state["steps"], moving, strict=True)]
        H.forget([row for row, restarts in enumerate(restarting) if restarts])
        return value

    def _too_long(self, values: Tensor, state: dict[str, Any]) -> Tensor:
        """Return which canvases are to return along their last step."""
        if self.param_groups[0]["line_search"] is None:
            return torch.zeros_like(state["length"], dtype=torch.bool)
        slope = _dot(state["gradient"], state["direction"])
        allowed: Tensor = state["value"] + _DECREASE * state["length"] * slope
        return ~(values <= allowed)

    def _shorter(self, values: Tensor, state: dict[str, Any]) -> Tensor:
        """Return the length of a step to take in place of the last one, for each canvas."""
        t: Tensor = state["length"]
        slope = _dot(state["gradient"], state["direction"])
        minimum = -slope * t / (2 * (values - state["value"] - slope * t))
        part: Tensor = minimum.nan_to_num(_SHORTEST, _LONGEST, _SHORTEST).clamp(_SHORTEST, _LONGEST)
        return t * part

    def _free(self, g: Tensor) -> Tensor | None:
        """Return 0 for parameters on a bound that the gradient pushes outwards and 1 for others."""
        if self.bounds is None:
            return None
        x = torch.cat([_rows(p) for p in self._parameters], dim=1)
        low, high = self.bounds
        return 1.0 - (((x <= low) & (g > 0)) | ((x >= high) & (g < 0))).to(g.dtype)

    def _begin(self, g: Tensor, history: int) -> dict[str, Any]:
        """Return the state before the first step; every entry has the batch as its first dimension."""
        state: dict[str, Any] = self.state[self._parameters[0]]
        B = len(g)
        state["steps"] = [0] * B  # steps of each canvas; on the host, where it is decided which canvases move
        state["newest"] = [-1] * B  # place of the last pair in the history
        # A tensor (B, n) for each place, made when it is needed: a history that never fills takes no memory.
        state["changes"], state["moves"] = [], []
        state["rho"] = g.new_zeros(B, history)  # 1 / y·s; 0 where there is no pair, which then adds nothing
        state["scale"], state["length"] = g.new_ones(B), g.new_zeros(B)
        state["direction"], state["gradient"] = torch.zeros_like(g), torch.zeros_like(g)
        state["value"], state["shortened"] = g.new_full((B,), torch.inf), g.new_zeros(B)
        return state

    def _move(self, t: Tensor, d: Tensor) -> Tensor:
        """Move the parameters by ``t·d``, and return the direction in which they moved within the bounds."""
        offset, moved = 0, []
        for p in self._parameters:
            count = p[0].numel()
            part = d[:, offset : offset + count].view(p.shape)
            before = None if self.bounds is None else p.clone()
            p.addcmul_(part, t.view(-1, *[1] * (p.dim() - 1)))
            if self.bounds is not None and before is not None:
                moved.append(_rows(p.clamp_(*self.bounds) - before))
            offset += count
        if not moved:
            return d
        return torch.cat(moved, dim=1) / torch.where(t == 0, 1.0, t)[:, None]


class _History:
    """The pairs (s, y) of every canvas, in a ring for each canvas.

    The rings of all canvases share their places: place k of the ring is one tensor ``(B, n)``.

    Args:
        state: State of the optimiser, which holds the pairs.
    """

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state
        self.size: int = state["rho"].shape[1]

    def add(self, s: Tensor, y: Tensor, ys: Tensor, which: Sequence[bool]) -> None:
        """Add a pair for some canvases, in place of their oldest."""
        rows = [i for i, chosen in enumerate(which) if chosen]
        if not rows:
            return
        newest: list[int] = self.state["newest"]
        newest = [(n + 1) % self.size if chosen else n for n, chosen in zip(newest, which, strict=True)]
        self.state["newest"] = newest
        moves, changes, rho = self.state["moves"], self.state["changes"], self.state["rho"]
        scale = ys / _dot(y, y)
        places = {newest[i] for i in rows}
        if len(rows) == len(newest) and len(places) == 1:
            (k,) = places
            moves[k:], changes[k:] = [s, *moves[k + 1 :]], [y, *changes[k + 1 :]]
            rho[:, k], self.state["scale"] = 1 / ys, scale
            return
        # The canvases use different places only after one of them skipped a pair.
        for _ in range(max(places) + 1 - len(moves)):
            moves.append(torch.zeros_like(s))
            changes.append(torch.zeros_like(y))
        for k in places:
            at = torch.tensor([i for i in rows if newest[i] == k], device=s.device)
            for kept, new in ((moves, s), (changes, y)):
                kept[k] = kept[k].index_copy(0, at, new[at])
            rho[at, k] = 1 / ys[at]
            self.state["scale"][at] = scale[at]

    def forget(self, rows: Sequence[int]) -> None:
        """Forget the pairs of some canvases, whose next step is like their first."""
        for row in rows:
            self.state["steps"][row], self.state["newest"][row] = 0, -1
            self.state["rho"][row], self.state["scale"][row] = 0.0, 1.0

    def times(self, q: Tensor) -> Tensor:
        """Return the inverse Hessian times ``q``, ``(B, n)``, by the two-loop recursion; q is overwritten."""
        pairs = [self._pair(age) for age in range(len(self.state["moves"]))]
        alphas = []
        for s, y, rho in pairs:
            alpha = _dot(s, q) * rho
            q.addcmul_(y, alpha[:, None], value=-1)
            alphas.append(alpha)
        r = q.mul_(self.state["scale"][:, None])
        for (s, y, rho), alpha in zip(reversed(pairs), reversed(alphas), strict=True):
            beta = _dot(y, r) * rho
            r.addcmul_(s, (alpha - beta)[:, None])
        return r

    def _pair(self, age: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return each canvas's pair of an age, 0 the newest, and its ρ."""
        s, y, rho = self.state["moves"], self.state["changes"], self.state["rho"]
        # The places that are filled come first; before the ring is full, a canvas that skipped pairs begins
        # later: its places beyond the newest have ρ = 0.
        places = [(n - age) % len(s) for n in self.state["newest"]]
        if len(set(places)) == 1:
            return s[places[0]], y[places[0]], rho[:, places[0]]
        rows = list(enumerate(places))
        at = torch.arange(len(places), device=rho.device), torch.tensor(places, device=rho.device)
        return torch.stack([s[k][i] for i, k in rows]), torch.stack([y[k][i] for i, k in rows]), rho[at]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner product of every row, ``(B,)``."""
    return (a * b).sum(dim=1)


def _rows(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1)


def _gradient(p: Tensor) -> Tensor:
    return torch.zeros_like(p) if p.grad is None else p.grad
