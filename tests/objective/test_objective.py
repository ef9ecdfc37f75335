"""The objective: terms, weights, units."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from nstbench.losses.base import CANVAS, JointLoss, Loss
from nstbench.losses.content import FeatureReconstruction
from nstbench.losses.gram import Gram
from nstbench.losses.pixel_range import PixelRange
from nstbench.losses.total_variation import TotalVariation
from nstbench.objective.objective import Objective
from nstbench.objective.term import Term
from nstbench.objective.units import gradient_norms, set_units
from nstbench.objective.values import Values

MIX = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def encode(pictures: Tensor) -> dict[str, Tensor]:
    """A toy encoder of two layers in float64."""
    first = torch.einsum("nc,bchw->bnhw", MIX, pictures.double()).relu()
    deeper = torch.cat([first, first.flip(1) ** 2], dim=1)
    return {"first": first, "second": torch.nn.functional.avg_pool2d(deeper, 2)}


def picture(seed: int, batch: int = 1, size: int = 8) -> Tensor:
    return torch.rand(
        batch, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def make(style_weight: float = 10.0, normalization: str = "paper") -> list[Term]:
    terms = [
        Term("content/features", FeatureReconstruction(), {"second": 1.0}, 2.0),
        Term("style/gram", Gram(normalization), {"first": 0.5, "second": 0.5}, style_weight),
        Term("regularizer/tv", TotalVariation(), {CANVAS: 1.0}, 0.5),
    ]
    terms[0].compute_targets([[encode(picture(1))]])
    terms[1].compute_targets([[encode(picture(2, size=6))]])
    return terms


def evaluate(terms: list[Term], canvases: Tensor) -> tuple[Tensor, list[Values]]:
    """Evaluate one objective on every canvas of a batch."""
    total, values = Objective([terms] * len(canvases))(encode(canvases), canvases)
    return total, values.read()


def test_the_total_is_the_sum_of_weighted_terms_and_terms_of_weighted_layers() -> None:
    canvas = picture(3, batch=2)
    total, values = evaluate(make(), canvas)
    assert total.tolist() == [each.total for each in values]
    for each in values:
        assert each.total == pytest.approx(sum(each.weighted.values()))
        assert each.weighted["style/gram"] == pytest.approx(10.0 * each.unweighted["style/gram"])
    loss, features = Gram(), encode(canvas)
    by_hand = sum(
        0.5 * loss(features[layer], loss.target(encode(picture(2, size=6))[layer])) for layer in features
    )
    assert isinstance(by_hand, Tensor)
    assert [each.unweighted["style/gram"] for each in values] == pytest.approx(by_hand.tolist())


def test_the_objective_of_a_canvas_is_its_own() -> None:
    terms, canvas = make(), picture(3, batch=3)
    together = evaluate(terms, canvas)[0]
    alone = torch.cat([evaluate(terms, c[None])[0] for c in canvas])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=0)


def test_layers_are_asked_of_the_encoder_once_and_the_canvas_never() -> None:
    assert Objective([make()]).layers == ["second", "first"]


def test_an_objective_without_terms_or_with_two_of_one_name_is_refused() -> None:
    term = Term("style/gram", Gram(), {"first": 1.0}, 1.0)
    for terms in ([], [term, term]):
        with pytest.raises(ValueError, match="terms"):
            Objective([terms])


def test_paper_units_leave_the_formulas_alone() -> None:
    terms, canvas = make(), picture(3)
    before = evaluate(terms, canvas)[0]
    set_units(terms, "paper", encode, canvas)
    torch.testing.assert_close(evaluate(terms, canvas)[0], before)


def test_in_units_of_the_target_a_canvas_without_features_has_the_value_one() -> None:
    terms, canvas = make(), picture(3)
    set_units(terms, "unit", encode, canvas)
    nothing = {layer: torch.zeros_like(f) for layer, f in encode(canvas).items()}
    (values,) = Objective([terms])(nothing, canvas)[1].read()
    assert values.unweighted["content/features"] == pytest.approx(1.0)
    assert values.unweighted["style/gram"] == pytest.approx(1.0)


def in_unit(unit: str, normalization: str) -> float:
    terms, canvas = make(normalization=normalization), picture(3)
    set_units(terms, unit, encode, canvas)
    return evaluate(terms, canvas)[1][0].unweighted["style/gram"]


def test_constants_of_a_formula_do_not_matter_but_in_paper_units() -> None:
    for normalization in ("pystiche", "authors", "johnson", "gordicaleksa", "unnormalized"):
        assert in_unit("paper", normalization) != pytest.approx(in_unit("paper", "paper"), rel=0.1)
        assert in_unit("unit", normalization) == pytest.approx(in_unit("unit", "paper"), rel=1e-9)
    assert in_unit("gradient", "pystiche") == pytest.approx(in_unit("gradient", "paper"), rel=1e-9)


def test_gradient_units_keep_a_formulas_balance_of_layers() -> None:
    """`authors` divides by N⁴, so weighs a layer of many channels less than `paper` does."""
    assert in_unit("gradient", "authors") != pytest.approx(in_unit("gradient", "paper"), rel=0.01)


def test_in_gradient_units_every_term_pulls_with_its_weight() -> None:
    terms, canvas = make(style_weight=7.0), picture(3, batch=2)
    set_units(terms, "gradient", encode, canvas)
    norms = gradient_norms(terms, encode, canvas)
    for term in terms:
        pull = term.weight * norms[term.name]
        torch.testing.assert_close(
            pull, torch.full((2,), term.weight, dtype=torch.float64), rtol=1e-6, atol=0
        )


def test_content_at_the_content_picture_is_measured_on_noise() -> None:
    terms = make()
    set_units(terms, "gradient", encode, picture(1))
    scale = terms[0].scales["second"].item()
    terms[0].scales = {}
    noise = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))[None].double()
    expected = gradient_norms(terms, encode, noise)["content/features"].item()
    assert scale == pytest.approx(1 / expected, rel=1e-9)


@pytest.mark.parametrize("rounding", [0.0, 1e-7, 1e-4])
def test_a_kink_at_the_content_picture_is_not_taken_for_a_gradient(rounding: float) -> None:
    term = Term("content/l1", Absolute(), {"second": 1.0}, 1.0)
    term.compute_targets([[encode(picture(1))]])
    set_units([term], "gradient", encode, picture(1))
    expected = term.scales["second"].item()
    set_units([term], "gradient", encode, picture(1) + rounding * picture(2))
    assert expected != 1
    assert term.scales["second"].item() == pytest.approx(expected)


class Absolute(Loss):
    """A loss with a kink at its target."""

    def target(self, features: Tensor, guide: Tensor | None = None) -> Tensor:
        return features

    def forward(self, features: Tensor, target: Tensor, guide: Tensor | None = None) -> Tensor:
        return (features - target).abs().mean((1, 2, 3))


def test_a_term_that_pulls_nowhere_keeps_its_published_unit() -> None:
    terms = [Term("regularizer/range", PixelRange(), {CANVAS: 1.0}, 1.0)]
    set_units(terms, "gradient", encode, torch.full((1, 3, 8, 8), 0.5))
    assert terms[0].scales[CANVAS].item() == 1.0


def test_several_style_pictures_blend() -> None:
    term = Term("style/gram", Gram(), {"first": 1.0}, 1.0)
    term.compute_targets([[encode(picture(4))], [encode(picture(5))]], [1.0, 0.0])
    only = Term("style/gram", Gram(), {"first": 1.0}, 1.0)
    only.compute_targets([[encode(picture(4))]])
    canvas = encode(picture(3))
    torch.testing.assert_close(term(canvas), only(canvas))


class Sampled(Loss):
    """A loss that draws one number."""

    redraw_every = 3

    def target(self, features: Tensor, guide: Tensor | None = None) -> float:
        return torch.rand(1, generator=self.generator()).item()

    def forward(self, features: Tensor, target: float, guide: Tensor | None = None) -> Tensor:
        return torch.rand(1, generator=self.generator(), dtype=features.dtype) + 0 * features.mean((1, 2, 3))


def test_what_a_loss_samples_is_fixed_between_draws_and_belongs_to_seed_term_and_layer() -> None:
    canvas = picture(1)

    def values(step: int, seed: int = 0, name: str = "style/sampled") -> dict[str, float]:
        term = Term(name, Sampled(), {"first": 1.0, "second": 1.0}, 1.0, seed)
        term.compute_targets([[encode(canvas)]])
        term.set_draw(step)
        return {layer: v.item() for layer, v in term.per_layer(encode(canvas)).items()}

    assert values(0) == values(1) == values(2)
    others = [values(3), values(6), values(0, seed=1), values(0, name="style/other")]
    drawn = [v for each in [values(0), *others] for v in each.values()]
    assert len(set(drawn)) == len(drawn) == 10


class Pairs(JointLoss):
    """Looks at neighbouring layers together."""

    def views(self, layers: Sequence[str]) -> list[str]:
        return [f"{a}+{b}" for a, b in itertools.pairwise(layers)]

    def target(self, features: Sequence[Tensor], guide: Tensor | None = None) -> Tensor:
        first, second = features
        return first.mean((1, 2, 3)) * second.mean((1, 2, 3))

    def forward(self, features: Sequence[Tensor], target: Tensor, guide: Tensor | None = None) -> Tensor:
        return (self.target(features) - target) ** 2


def test_a_joint_loss_sees_its_layers_together() -> None:
    loss = Pairs()
    term = Term("style/pairs", loss, dict.fromkeys(loss.views(["first", "second"]), 1.0), 1.0)
    assert Objective([[term]]).layers == ["first", "second"]
    term.compute_targets([[encode(picture(1))]])
    seen, other = encode(picture(1)), encode(picture(2))
    assert term(seen).item() == 0
    by_hand = other["first"].mean() * other["second"].mean() - seen["first"].mean() * seen["second"].mean()
    torch.testing.assert_close(term.per_layer(other)["first+second"], (by_hand**2)[None])
