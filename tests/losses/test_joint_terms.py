"""The objectives of several runs on one batch: each canvas's value and gradient as if it were alone."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from test_every_formulation import loss_of, maps_of, seen
from torch import Tensor

from nstbench.config.files import groups
from nstbench.config.schema import Role
from nstbench.losses.base import CANVAS
from nstbench.losses.gram import Gram
from nstbench.losses.total_variation import TotalVariation
from nstbench.objective.objective import Objective, TermError
from nstbench.objective.term import Term

STACKABLE = [
    (role, option)
    for role in get_args(Role)
    for option in groups()[f"loss/{role}"]
    if option != "none" and loss_of(role, option).stackable
]


def test_what_most_studies_use_is_computed_for_all_runs_at_once() -> None:
    assert {("content", "features"), ("style", "gram"), ("style", "moments"), ("regularizer", "tv")} <= {
        *STACKABLE
    }


def term(name: str, option: str, view: str, seed: int, weight: float) -> Term:
    loss = loss_of(name.split("/")[0], option)
    own = Term(name, loss, {view: 0.5}, weight, seed)
    own.compute_targets([[pictures(1, seed)]])
    own.scales = {part.key: 1 / loss.unit(own.targets.get(part.key)) for part in own.parts}
    return own


def pictures(batch: int, seed: int) -> dict[str, Tensor]:
    maps = maps_of("usual", batch=batch, seed=seed)
    return {CANVAS: maps["canvas"], "layer": maps["layer"], "deep": maps["deep"]}


def view_of(role: str, option: str) -> str:
    loss: Any = loss_of(role, option)
    if seen(loss, role, {"canvas": "canvas", "layer": "layer", "deep": "deep"}) == "canvas":  # type: ignore[dict-item]
        return CANVAS
    (view,) = loss.views(["layer", "deep"])[:1]
    return str(view)


def evaluated(terms: list[list[Term]], features: dict[str, Tensor]) -> tuple[Tensor, list[Tensor], Any]:
    leaves = {name: f.clone().requires_grad_() for name, f in features.items()}
    maps = {k: v for k, v in leaves.items() if k != CANVAS}
    total, values = Objective(terms)(maps, leaves[CANVAS])
    gradients = torch.autograd.grad(total.sum(), list(leaves.values()), allow_unused=True)
    return total.detach(), [g for g in gradients if g is not None], values.read()


def check(terms: list[list[Term]], features: dict[str, Tensor]) -> None:
    """Compare a batch with its canvases, each with its own objective alone."""
    total, gradients, values = evaluated(terms, features)
    for i, own in enumerate(terms):
        of_canvas = {name: f[i : i + 1] for name, f in features.items()}
        expected, own_gradients, (alone,) = evaluated([own], of_canvas)
        torch.testing.assert_close(total[i : i + 1], expected, rtol=1e-5, atol=1e-7)
        assert values[i].total == float(total[i])
        assert list(values[i].weighted) == list(alone.weighted) == [term.name for term in own]
        assert values[i].weighted == pytest.approx(alone.weighted, rel=1e-5, abs=1e-7)
        assert values[i].unweighted == pytest.approx(alone.unweighted, rel=1e-5, abs=1e-7)
        for whole, one in zip(gradients, own_gradients, strict=True):
            torch.testing.assert_close(whole[i : i + 1], one, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("role", "option"), STACKABLE, ids=[f"{r}={o}" for r, o in STACKABLE])
def test_a_formulation_that_says_so_can_take_the_targets_of_a_batch(role: str, option: str) -> None:
    view = view_of(role, option)
    terms = [[term(f"{role}/x", option, view, seed, 1.0 + seed)] for seed in range(3)]
    assert len(Objective(terms).joint) == 1
    check(terms, pictures(3, 9))


def test_runs_of_different_terms_have_each_their_own() -> None:
    def of(*styles: str, seed: int) -> list[Term]:
        terms = [term(f"style/{s}", s, "layer", seed, 1.0 + seed) for s in styles]
        return [*terms, term("regularizer/tv", "tv", CANVAS, seed, 0.5)]

    terms = [
        of("gram", seed=0),
        of("sliced_wasserstein", seed=1),
        of("gram", "moments", seed=2),
        of("sliced_wasserstein", seed=3),
        of("moments", seed=4),
    ]
    joint = {(j.term.name, *j.rows) for j in Objective(terms).joint}
    assert joint == {
        ("style/gram", 0, 2),
        ("style/sliced_wasserstein", 1),  # it samples: each run has its own draw
        ("style/sliced_wasserstein", 3),
        ("style/moments", 2, 4),
        ("regularizer/tv", 0, 1, 2, 3, 4),
    }
    check(terms, pictures(5, 9))


def test_one_formulation_with_other_settings_is_another() -> None:
    terms = [Term("style/gram", Gram(n), {"layer": 1.0}, 1.0) for n in ("paper", "paper", "authors")]
    for own in terms:
        own.compute_targets([[pictures(1, 0)]])
    assert [j.rows for j in Objective([[own] for own in terms]).joint] == [[0, 1], [2]]
    check([[own] for own in terms], pictures(3, 9))


class Power(TotalVariation):
    """A loss that keeps a setting in a private attribute."""

    def __init__(self, power: float) -> None:
        super().__init__()
        self._power = power

    def forward(self, features: Tensor, target: Tensor | None, guide: Tensor | None = None) -> Tensor:
        return super().forward(features, target) ** self._power


def test_settings_in_private_attributes_are_settings() -> None:
    terms = [[Term("regularizer/power", Power(power), {CANVAS: 1.0}, 1.0)] for power in (1.0, 3.0, 3.0)]
    for (own,) in terms:
        own.compute_targets([[pictures(1, 0)]])
    assert [j.rows for j in Objective(terms).joint] == [[0], [1, 2]]
    check(terms, pictures(3, 9))


def test_there_are_as_many_canvases_as_objectives() -> None:
    with pytest.raises(ValueError, match="an objective of 1 canvases was called with 2"):
        Objective([[term("regularizer/tv", "tv", CANVAS, 0, 1.0)]])({}, torch.rand(2, 3, 8, 8))


def test_a_term_that_raises_says_for_which_canvases() -> None:
    class Broken(TotalVariation):
        stackable = False

        def forward(self, features: Tensor, target: Tensor | None, guide: Tensor | None = None) -> Tensor:
            raise RuntimeError("out of order")

    good, bad = (Term("regularizer/tv", kind(), {CANVAS: 1.0}, 1.0) for kind in (TotalVariation, Broken))
    with pytest.raises(TermError, match="out of order") as failure:
        Objective([[good], [bad]])({}, torch.rand(2, 3, 8, 8))
    assert failure.value.rows == [1]
