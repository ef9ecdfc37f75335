"""L-BFGS for a batch: every canvas as `torch.optim.LBFGS` would move it alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from nstbench.canvas.pixels import Pixels
from nstbench.encoders.random import RandomVGG
from nstbench.losses.functional.gram import gram_matrix
from nstbench.optimizers.lbfgs import LBFGS
from nstbench.optimizers.rows import can_be_batched, join_states, keep_rows, state_of_row

B, N = 4, 40
Objective = Callable[[Tensor], Tensor]


def torch_lbfgs(x: Tensor, **settings: Any) -> torch.optim.LBFGS:
    own = {"max_iter": 1, "history_size": 5, "tolerance_grad": 0.0, "tolerance_change": 0.0, **settings}
    return torch.optim.LBFGS([x], **own)


def quadratic(rows: slice = slice(None), size: float = 1.0) -> Objective:
    """Return ½xᵀAx - bᵀx for each of B canvases, of very different scales."""
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(B, N, N, generator=generator, dtype=torch.float64)
    A = A @ A.transpose(1, 2) / N + 0.1 * torch.eye(N, dtype=torch.float64)
    b = torch.randn(B, N, generator=generator, dtype=torch.float64)
    b = size * b * torch.tensor([1.0, 1e-3, 1e-7, 10.0], dtype=torch.float64)[:, None]
    A, b = A[rows], b[rows]
    return lambda x: 0.5 * torch.einsum("bi,bij,bj->b", x, A, x) - (b * x).sum(1)


def descend(optimizer: torch.optim.Optimizer, x: Tensor, objective: Objective, steps: int) -> list[Tensor]:
    values = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = objective(x)
        value.sum().backward()
        values.append(value.detach())
        return values[-1] if isinstance(optimizer, LBFGS) else value.sum()

    for _ in range(steps):
        optimizer.step(closure)
    return values


def zeros(rows: int = B, dtype: torch.dtype = torch.float64) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.zeros(rows, N, dtype=dtype))


@pytest.mark.parametrize("lr", [1.0, 0.3])
def test_each_canvas_of_a_quadratic_moves_as_it_would_alone(lr: float) -> None:
    x = zeros()
    values = torch.stack(descend(LBFGS([x], lr=lr, history_size=5), x, quadratic(), 80))
    for i in range(B):
        alone = zeros(1)
        expected = torch.cat(descend(torch_lbfgs(alone, lr=lr), alone, quadratic(slice(i, i + 1)), 80))
        torch.testing.assert_close(values[:, i], expected, rtol=1e-9, atol=1e-20)
        torch.testing.assert_close(x[i], alone[0], rtol=1e-9, atol=1e-14)


def test_canvases_that_skip_pairs_keep_histories_of_their_own() -> None:
    x = zeros()
    optimizer = LBFGS([x], lr=0.3, history_size=5)
    descend(optimizer, x, quadratic(), 80)  # long after some have converged to where y·s is below 1e-10
    newest = optimizer.state[x]["newest"]
    assert len(set(newest)) > 1
    assert newest[2] == -1  # its values are so small that PyTorch's rule never remembers anything


def test_one_canvas_of_a_style_objective_is_torchs_to_rounding() -> None:
    encoder = RandomVGG(shape="vgg11", width=0.0625).double()
    layers = ["relu1_1", "relu2_1", "relu3_1"]
    picture = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        targets = {layer: gram_matrix(f) for layer, f in encoder(picture[:1], layers).items()}

    def objective(x: Tensor) -> Tensor:
        features = encoder(x, layers)
        errors = [((gram_matrix(f) - targets[name]) ** 2).sum((1, 2)) for name, f in features.items()]
        return torch.stack(errors).sum(0)

    ours, theirs = (torch.nn.Parameter(picture[1:].clone()) for _ in range(2))
    found = torch.cat(descend(LBFGS([ours], history_size=5), ours, objective, 60))
    expected = torch.cat(descend(torch_lbfgs(theirs), theirs, objective, 60))
    assert expected[-1] < 0.1 * expected[0]
    # Rounding of 1e-16 grows with every step of a method that divides by differences of gradients.
    torch.testing.assert_close(found[:30], expected[:30], rtol=1e-9, atol=0)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_a_canvas_without_a_gradient_stays_and_the_others_go_on() -> None:
    x = zeros()
    still = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    descend(LBFGS([x], history_size=5), x, lambda x: still * quadratic()(x), 20)
    assert torch.equal(x[1], torch.zeros(N, dtype=torch.float64))
    alone = zeros(1)
    descend(torch_lbfgs(alone), alone, quadratic(slice(0, 1)), 20)
    torch.testing.assert_close(x[0], alone[0], rtol=1e-9, atol=1e-14)


def test_not_a_number_in_one_canvas_stays_there() -> None:
    x = zeros()
    broken = torch.tensor([1.0, float("nan"), 1.0, 1.0], dtype=torch.float64)
    descend(LBFGS([x], history_size=5), x, lambda x: broken * quadratic()(x), 20)
    alone = zeros(1)
    descend(torch_lbfgs(alone), alone, quadratic(slice(3, 4)), 20)
    torch.testing.assert_close(x[3], alone[0], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_a_start_that_curves_the_wrong_way_is_left_whatever_the_scale(scale: float) -> None:
    """Near its top ``cos`` is concave, so no pair is kept, and PyTorch's steps have the length ``lr·‖g‖``."""
    x = torch.nn.Parameter(torch.full((1, N), 1e-3, dtype=torch.float64))
    values = descend(LBFGS([x], relative_curvature=1e-8), x, lambda x: scale * x.cos().sum(1), 80)
    assert float(values[-1]) < -0.99 * N * scale


def test_a_relative_curvature_learns_from_objectives_with_tiny_values() -> None:
    """PyTorch's y·s > 1e-10 remembers nothing of them, and stalls."""
    tiny = quadratic(slice(0, 1), size=1e-8)
    best = float(tiny(torch.linalg.solve(_hessian(tiny), -_slope(tiny))[None]))
    absolute, relative = zeros(1), zeros(1)
    slow = descend(LBFGS([absolute], lr=0.3), absolute, tiny, 60)[-1]
    fast = descend(LBFGS([relative], lr=0.3, relative_curvature=1e-10), relative, tiny, 60)[-1]
    assert float(fast) - best < 1e-3 * (float(slow) - best)


def _slope(objective: Objective) -> Tensor:
    x = torch.zeros(N, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(objective(x[None]).sum(), x)
    return slope


def _hessian(objective: Objective) -> Tensor:
    return torch.autograd.functional.hessian(lambda x: objective(x[None]).sum(), torch.zeros(N).double())


def make(name: str) -> Callable[[Tensor], torch.optim.Optimizer]:
    kinds: dict[str, Callable[[Tensor], torch.optim.Optimizer]] = {
        "lbfgs": lambda x: LBFGS([x], history_size=5),
        "adam": lambda x: torch.optim.Adam([x], lr=0.05, betas=(0.9, 0.99)),
        "sgd": lambda x: torch.optim.SGD([x], lr=0.05, momentum=0.9),
        "rmsprop": lambda x: torch.optim.RMSprop([x], lr=0.01),
    }
    return kinds[name]


@pytest.mark.parametrize("name", ["lbfgs", "adam", "sgd", "rmsprop"])
def test_single_runs_go_on_as_a_batch_of_which_some_go_on_alone(name: str) -> None:
    whole = [zeros(1) for _ in range(B)]
    for i, x in enumerate(whole):
        descend(make(name)(x), x, quadratic(slice(i, i + 1)), 30)

    parts = [zeros(1) for _ in range(B)]
    singles = [make(name)(x) for x in parts]
    for i, (x, single) in enumerate(zip(parts, singles, strict=True)):
        descend(single, x, quadratic(slice(i, i + 1)), 9)
    canvas = Pixels()
    canvas.paint(torch.cat([p.detach() for p in parts]))
    batch = make(name)(canvas.pixels)
    batch.load_state_dict(join_states([state_of_row(single, 0, 1) for single in singles]))
    descend(batch, canvas.pixels, quadratic(), 10)

    left = [0, 2, 3]  # one leaves
    keep_rows(batch, canvas, left, B)
    whole_batch = quadratic()
    descend(batch, canvas.pixels, lambda x: _of_rows(whole_batch, x, left), 5)

    for row, i in enumerate(left):
        parts[i].data = canvas.pixels.data[row : row + 1].clone()
        single = make(name)(parts[i])
        single.load_state_dict(state_of_row(batch, row, len(left)))
        descend(single, parts[i], quadratic(slice(i, i + 1)), 6)
        torch.testing.assert_close(parts[i], whole[i], rtol=1e-8, atol=1e-13)


def _of_rows(objective: Objective, x: Tensor, rows: list[int]) -> Tensor:
    """Evaluate some rows of a batch's objective."""
    whole = torch.zeros(B, N, dtype=x.dtype).index_copy(0, torch.tensor(rows), x)
    return objective(whole)[rows]


def test_canvases_that_remember_different_numbers_of_steps_go_on_as_a_batch() -> None:
    """One begins later than the other, as where a batch is continued in another company."""
    parts, steps = [zeros(1), zeros(1)], [2, 7]
    singles = [LBFGS([x], history_size=5) for x in parts]
    for i, (x, single) in enumerate(zip(parts, singles, strict=True)):
        descend(single, x, quadratic(slice(i, i + 1)), steps[i])
    canvas = torch.nn.Parameter(torch.cat([p.detach() for p in parts]))
    batch = LBFGS([canvas], history_size=5)
    batch.load_state_dict(join_states([state_of_row(single, 0, 1) for single in singles]))
    descend(batch, canvas, quadratic(slice(0, 2)), 12)
    for i, (x, single) in enumerate(zip(parts, singles, strict=True)):
        descend(single, x, quadratic(slice(i, i + 1)), 12)
        torch.testing.assert_close(canvas[i], x[0], rtol=1e-8, atol=1e-13)


def test_a_history_takes_memory_for_the_steps_that_it_holds() -> None:
    x = zeros(1)
    optimizer = LBFGS([x], history_size=100)
    descend(optimizer, x, quadratic(slice(0, 1)), 6)
    assert len(optimizer.state[x]["moves"]) == len(optimizer.state[x]["changes"]) == 5


def test_what_a_batch_cannot_do_is_known() -> None:
    x = zeros(1)
    assert can_be_batched(LBFGS([x]))
    assert can_be_batched(torch.optim.AdamW([x]))
    assert not can_be_batched(torch_lbfgs(x))
    assert not can_be_batched(torch.optim.ASGD([x]))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lr", -1.0, "Invalid learning rate: -1.0"),
        ("history_size", 0, "history_size is 1 or more, not 0"),
        ("relative_curvature", -0.1, "relative_curvature is 0 or more, not -0.1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LBFGS([zeros(1)], **{name: value})


def descend_by_rows(optimizer: LBFGS, x: Tensor, objective: Objective, steps: int) -> Tensor:
    """Take steps, and return the objective of every canvas before each, ``(steps, B)``."""
    return torch.stack(descend(optimizer, x, objective, steps))


def test_within_bounds_it_finds_the_minimum_that_lbfgsb_finds() -> None:
    x = torch.nn.Parameter(torch.full((B, N), 0.5, dtype=torch.float64))
    optimizer = LBFGS([x], history_size=10, relative_curvature=1e-8, line_search="backtracking")
    optimizer.bounds = (0.0, 1.0)
    objective = quadratic()
    values = descend_by_rows(optimizer, x, objective, 200)
    assert bool(((x >= 0) & (x <= 1)).all())
    assert 0 < int(((x == 0) | (x == 1)).sum()) < x.numel()  # some bounds are active
    for row in range(B):

        def value_and_gradient(z: Any, row: int = row) -> tuple[float, Any]:
            whole = x.detach().clone()
            whole[row] = torch.from_numpy(z)
            whole.requires_grad_()
            value = objective(whole)[row]
            value.backward()
            assert whole.grad is not None
            return value.item(), whole.grad[row].numpy()

        found = minimize(
            value_and_gradient,
            [0.5] * N,
            jac=True,
            bounds=[(0.0, 1.0)] * N,
            method="L-BFGS-B",
            options={"ftol": 0.0, "gtol": 1e-14, "maxfun": 10_000},
        )
        assert float(values[-1][row]) == pytest.approx(found.fun, rel=1e-9)


def steep(x: Tensor) -> Tensor:
    """Return Rosenbrock's function of each row's pairs, whose curvature changes from place to place."""
    a, b = x[:, ::2], x[:, 1::2]
    return ((1 - a) ** 2 + 100 * (b - a**2) ** 2).sum(1)


def test_a_line_search_undoes_steps_that_raise_the_objective() -> None:
    x = torch.nn.Parameter(torch.linspace(-1.5, 1.5, B * N, dtype=torch.float64).view(B, N))
    values = descend_by_rows(LBFGS([x], line_search="backtracking"), x, steep, 300)
    above = (values[1:] > values.cummin(0).values[:-1]).T.tolist()
    longest = max(len(list(run)) for row in above for up, run in groupby(row) if up)
    assert 1 <= longest <= 8  # a step that was too long is followed by shorter ones until one is good
    assert float(steep(x).max()) < 1e-6


def test_in_a_batch_each_canvas_searches_as_it_would_alone() -> None:
    start = torch.linspace(-1.5, 1.5, B * N, dtype=torch.float64).view(B, N)
    together = torch.nn.Parameter(start.clone())
    values = descend_by_rows(LBFGS([together], line_search="backtracking"), together, steep, 60)
    for row in range(B):
        alone = torch.nn.Parameter(start[row : row + 1].clone())
        alone_values = descend_by_rows(LBFGS([alone], line_search="backtracking"), alone, steep, 60)
        torch.testing.assert_close(alone_values[:, 0], values[:, row], rtol=1e-6, atol=1e-12)


def test_another_line_search_is_refused() -> None:
    with pytest.raises(ValueError, match="null or backtracking"):
        LBFGS([zeros()], line_search="strong_wolfe")  # type: ignore[arg-type]


def test_a_canvas_that_no_shorter_step_helps_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pairs, which led nowhere, are forgotten, and it goes on from where the step began."""
    x = torch.nn.Parameter(torch.linspace(-1.5, 1.5, B * N, dtype=torch.float64).view(B, N))
    optimizer = LBFGS([x], line_search="backtracking")
    descend_by_rows(optimizer, x, steep, 40)
    state = optimizer.state[x]
    while float(state["shortened"].max()) > 0:  # until all have just taken a step from a place that was good
        descend_by_rows(optimizer, x, steep, 1)
    began, at = state["value"].clone(), x.detach() - state["length"][:, None] * state["direction"]
    walls = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)  # for one canvas everything else is worse
    for _ in range(8):
        descend_by_rows(optimizer, x, lambda z: steep(z) + walls * 1e9 * (z != at).any(1), 1)
    torch.testing.assert_close(x.detach()[0], at[0], rtol=0, atol=1e-9)
    assert float(state["rho"][0].max()) == 0
    assert min(state["newest"][1:]) >= 0
    values = descend_by_rows(optimizer, x, steep, 200)
    assert float(values[-1][0]) < float(began[0])


def test_with_bounds_no_step_goes_to_a_corner() -> None:
    x = torch.nn.Parameter(torch.full((B, N), 0.5, dtype=torch.float64))
    optimizer = LBFGS([x], relative_curvature=1e-8, line_search="backtracking", lr=100.0)
    optimizer.bounds = (0.0, 1.0)
    before = x.detach().clone()
    for _ in range(20):
        descend_by_rows(optimizer, x, quadratic(size=1e3), 1)
        assert float((x.detach() - before).square().mean(1).sqrt().max()) <= 0.1 + 1e-9
        before = x.detach().clone()
