"""What must hold of every loss of means and products: moments, covariances, their kernels and distances."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nstbench.losses.base import Loss
from nstbench.losses.covariance import Covariance
from nstbench.losses.gaussian_wasserstein import GaussianWasserstein
from nstbench.losses.mmd import GaussianMMD, LinearMMD, PolynomialMMD
from nstbench.losses.moments import Moments
from nstbench.losses.shifted_gram import ShiftedGram

SUMS: dict[str, Loss] = {
    "shifted_gram": ShiftedGram(),
    "moments-mmd": Moments("mmd"),
    "moments-adain": Moments("adain"),
    "covariance": Covariance(),
    "covariance-means": Covariance(means=True),
    "gaussian_wasserstein": GaussianWasserstein(),
    "gaussian_wasserstein-sum": GaussianWasserstein("sum"),
    "mmd_linear": LinearMMD(),
    "mmd_polynomial": PolynomialMMD(c=0.7),
}
ALL: dict[str, Loss] = {
    **SUMS,
    "mmd_gaussian": GaussianMMD("positions"),
    "mmd_gaussian-frequencies": GaussianMMD(),
}
shapes = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 7), st.integers(1, 7))
each_loss = pytest.mark.parametrize("loss", ALL.values(), ids=ALL.keys())
each_of_sums = pytest.mark.parametrize("loss", SUMS.values(), ids=SUMS.keys())


def maps(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return scale * (drawn + 0.3).relu()


@each_loss
@settings(max_examples=10, deadline=None)
@given(shape=shapes, seed=st.integers(0, 1000), scale=st.floats(1e-2, 1e2))
def test_zero_at_the_style_picture_and_never_negative(
    loss: Loss, shape: tuple[int, ...], seed: int, scale: float
) -> None:
    P = maps(*shape, seed=seed, scale=scale)
    target = loss.target(P)
    unit = loss.unit(target) + 1e-9
    assert (loss(P, target).abs() <= 1e-9 * unit).all()
    assert (loss(maps(*shape, seed=seed + 1, scale=scale), target) >= -1e-9 * unit).all()


@each_loss
def test_positive_elsewhere(loss: Loss) -> None:
    target = loss.target(maps(1, 4, 6, 6))
    assert (loss(maps(3, 4, 5, 7, seed=1), target) > 1e-4 * loss.unit(target)).all()


@each_loss
@pytest.mark.parametrize("of_style", [1, 3], ids=["one target", "a target each"])
def test_a_canvas_does_not_feel_its_neighbours_in_the_batch(loss: Loss, of_style: int) -> None:
    F, P = maps(3, 6, 5, 6), maps(of_style, 6, 3, 4, seed=1)
    together = loss(F, loss.target(P))
    alone = [loss(F[i : i + 1], loss.target(P[i % of_style : i % of_style + 1])) for i in range(3)]
    assert together.shape == (3,)
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-10, atol=0)


@each_loss
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000))
def test_where_things_are_does_not_matter(loss: Loss, seed: int) -> None:
    F = maps(1, 4, 4, 6, seed=seed)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(seed))
    target = loss.target(maps(1, 4, 5, 5, seed=seed + 1))
    shuffled = F.flatten(2)[..., order].view_as(F)
    torch.testing.assert_close(loss(shuffled, target), loss(F, target), rtol=1e-9, atol=1e-14)


@each_loss
def test_a_region_asks_for_what_a_picture_of_it_would(loss: Loss) -> None:
    F, P = maps(2, 4, 6, 6), maps(1, 4, 5, 5, seed=1)
    guide = torch.zeros(1, 1, 6, 6, dtype=torch.float64)
    guide[..., :2] = 1
    target = loss.target(P)
    torch.testing.assert_close(loss(F, target, guide), loss(F[..., :2], target), rtol=1e-10, atol=0)
    of_region, of_crop = loss.target(F[:1], guide), loss.target(F[:1, ..., :2])
    torch.testing.assert_close(loss(P, of_region), loss(P, of_crop), rtol=1e-10, atol=0)


@each_of_sums
def test_a_weight_of_a_guide_counts_a_position_that_many_times(loss: Loss) -> None:
    F, P = maps(1, 4, 1, 6), maps(1, 4, 5, 5, seed=1)
    guide = torch.tensor([1.0, 0.5, 0.5, 1.0, 0.0, 1.0], dtype=torch.float64).view(1, 1, 1, 6)
    counted = F[..., [0, 0, 1, 2, 3, 3, 5, 5]]
    target = loss.target(P)
    if isinstance(loss, Moments) and loss.normalization == "adain":
        guide = guide * 2  # M - 1 knows how many positions there are
    torch.testing.assert_close(loss(F, target, guide), loss(counted, target), rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    "loss", [v for k, v in ALL.items() if k != "shifted_gram"], ids=lambda v: type(v).__name__
)
def test_an_empty_region_is_refused(loss: Loss) -> None:
    if isinstance(loss, PolynomialMMD):
        loss = PolynomialMMD(1.0)
    with pytest.raises(ValueError, match="0 everywhere"):
        loss.target(maps(1, 3, 4, 4), torch.zeros(1, 1, 4, 4))


@each_loss
def test_blending_one_picture_with_itself_or_with_nothing_is_that_picture(loss: Loss) -> None:
    P, Q, F = maps(1, 4, 5, 6), maps(1, 4, 4, 4, seed=1), maps(1, 4, 5, 5, seed=2)
    targets = [loss.target(P), loss.target(Q)]
    alone = loss(F, targets[0])
    torch.testing.assert_close(loss(F, loss.blend(targets, [1.0, 0.0])), alone, rtol=1e-9, atol=0)
    twice = loss.blend([targets[0], targets[0]], [0.5, 0.5])
    torch.testing.assert_close(loss(F, twice), alone, rtol=1e-9, atol=0)


@each_loss
def test_a_blend_is_all_the_features_together(loss: Loss) -> None:
    if isinstance(loss, Moments) and loss.normalization == "adain":
        pytest.skip("dividing by M - 1 is no average")
    P, Q, F = maps(1, 4, 3, 8), maps(1, 4, 3, 8, seed=1), maps(1, 4, 5, 5, seed=2)
    blended = loss.blend([loss.target(P), loss.target(Q)], [0.5, 0.5])
    together = loss.target(torch.cat([P, Q], dim=3))
    torch.testing.assert_close(loss(F, blended), loss(F, together), rtol=1e-9, atol=0)


@each_loss
def test_a_unit_is_the_value_of_a_canvas_without_features(loss: Loss) -> None:
    target = loss.target(maps(2, 4, 5, 6))
    nothing = torch.zeros(2, 4, 5, 6, dtype=torch.float64)
    drawn = isinstance(loss, GaussianMMD) and loss.estimate == "frequencies"
    torch.testing.assert_close(loss.unit(target), loss(nothing, target), rtol=0.3 if drawn else 1e-10, atol=0)


@each_of_sums
def test_a_statistic_added_over_blocks_is_the_whole(loss: Loss) -> None:
    F = maps(2, 4, 6, 8)
    target = loss.target(maps(1, 4, 5, 5, seed=1))
    statistic = loss.statistic(F[..., :3]) + loss.statistic(F[..., 3:])
    torch.testing.assert_close(loss.compare(statistic, target), loss(F, target), rtol=1e-9, atol=0)


@each_loss
@pytest.mark.parametrize("of_canvas", [(3, 4), (1, 2)], ids=["many positions", "fewer than channels"])
def test_gradients_agree_with_finite_differences(loss: Loss, of_canvas: tuple[int, int]) -> None:
    F = (maps(2, 4, *of_canvas) + 0.1 * maps(2, 4, *of_canvas, seed=2)).requires_grad_()
    target = loss.target(maps(1, 4, 3, 3, seed=1))
    # Wide steps: a Wasserstein distance of few positions has 10⁻¹⁰ of noise, of a root of nearly nothing.
    assert torch.autograd.gradcheck(lambda f: loss(f, target), F, eps=1e-4, atol=1e-5, rtol=1e-5)


@each_of_sums
def test_gradients_in_a_region_agree_with_finite_differences(loss: Loss) -> None:
    F, guide = maps(2, 3, 3, 4).requires_grad_(), maps(2, 1, 3, 4, seed=3) + 0.1
    target = loss.target(maps(1, 3, 3, 3, seed=1))
    assert torch.autograd.gradcheck(lambda f: loss(f, target, guide), F, eps=1e-6, atol=1e-7, rtol=1e-5)


DEGENERATE = {
    "a constant picture": torch.full((2, 4, 3, 3), 0.7),
    "no features": torch.zeros(2, 4, 3, 3),
    "hardly any features": torch.full((2, 4, 3, 3), 1e-30).cumsum(2),
    "one position": torch.ones(2, 4, 1, 1),
    "silent channels": torch.tensor([1.0, 0, 2.0, 0]).view(1, 4, 1, 1) * maps(2, 4, 3, 3).float(),
    "huge features": maps(2, 4, 3, 3, scale=1e4).float(),
}


@each_loss
@pytest.mark.parametrize("canvas", DEGENERATE.values(), ids=DEGENERATE.keys())
def test_degenerate_pictures_have_finite_values_and_gradients(loss: Loss, canvas: Tensor) -> None:
    for style in [*DEGENERATE.values(), maps(1, 4, 5, 5).float()]:
        F = canvas.clone().requires_grad_()
        target = loss.target(style)
        value = loss(F, target)
        (slope,) = torch.autograd.grad(value.sum(), F)
        assert torch.isfinite(value).all()
        assert torch.isfinite(slope).all()
        assert torch.isfinite(loss.unit(target)).all()


@each_loss
def test_one_channel_is_enough(loss: Loss) -> None:
    target = loss.target(maps(1, 1, 5, 5))
    assert (loss(maps(2, 1, 4, 4, seed=1, scale=2.0), target) > 0).all()


@each_loss
def test_half_precision_features_are_compared_in_float32(loss: Loss) -> None:
    F, P = maps(1, 4, 6, 6, scale=300.0).bfloat16(), maps(1, 4, 5, 5, seed=1, scale=300.0).bfloat16()
    value = loss(F, loss.target(P))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), loss(F.double(), loss.target(P.double())), rtol=1e-3, atol=0)


@each_loss
def test_features_are_left_as_they_are(loss: Loss) -> None:
    F = maps(1, 4, 5, 5)
    before = F.clone()
    loss(F, loss.target(F))
    assert torch.equal(F, before)
