"""The sliced Wasserstein loss against NumPy, and what a user would notice of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nstbench.losses.sliced_wasserstein import SlicedWasserstein


def maps(*shape: int, seed: int = 0, relu: bool = False) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.relu() if relu else x


def directions(loss: SlicedWasserstein, channels: int) -> np.ndarray:
    """Return the vectors of the loss's draw, ``(D, C)``: unit vectors from its generator."""
    V = torch.randn(loss.directions or channels, channels, generator=loss.generator()).double()
    return np.asarray(V / V.norm(dim=1, keepdim=True))


def sliced_oracle(loss: SlicedWasserstein, F: Tensor, P: Tensor) -> float:
    x, y = F[0].flatten(1).numpy(), P[0].flatten(1).numpy()
    levels = (np.arange(x.shape[1]) + 0.5) / x.shape[1]
    total = 0.0
    for v in (V := directions(loss, len(x))):
        style = np.quantile(v @ y, levels, method="hazen")
        total += ((np.sort(v @ x) - style) ** 2).mean()
    return total / len(V)


@pytest.mark.parametrize("number", [None, 1, 9])
@pytest.mark.parametrize("of_style", [(5, 6), (4, 9), (1, 1)])
def test_sliced_wasserstein_is_the_published_formula(number: int | None, of_style: tuple[int, int]) -> None:
    F, P = maps(1, 4, 5, 6), maps(1, 4, *of_style, seed=1)
    loss = SlicedWasserstein(number)
    assert loss(F, loss.target(P)).item() == pytest.approx(sliced_oracle(loss, F, P), rel=1e-6)


@pytest.mark.parametrize("of_style", [(4, 5), (3, 4)])
def test_gradients_agree_with_finite_differences(of_style: tuple[int, int]) -> None:
    loss = SlicedWasserstein()
    F, target = maps(2, 3, 4, 5).requires_grad_(), loss.target(maps(1, 3, *of_style, seed=1))
    assert torch.autograd.gradcheck(lambda f: loss(f, target), F, eps=1e-7, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(shape=st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 7)), seed=st.integers(0, 1000))
def test_it_is_zero_at_any_rearrangement_of_the_style_and_positive_elsewhere(
    shape: tuple[int, int, int], seed: int
) -> None:
    P, loss = maps(1, *shape, seed=seed, relu=True), SlicedWasserstein()
    order = torch.randperm(shape[1] * shape[2], generator=torch.Generator().manual_seed(seed))
    assert loss(P.flatten(2)[..., order].view_as(P), loss.target(P)).item() == pytest.approx(0, abs=1e-12)
    assert loss(P + 0.1, loss.target(P)).item() > 1e-6


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), degree=st.floats(1e-2, 1e2))
def test_it_scales_by_the_square(seed: int, degree: float) -> None:
    F, P, loss = maps(2, 3, 5, 6, seed=seed), maps(1, 3, 4, 4, seed=seed + 1), SlicedWasserstein()
    value, scaled = loss(F, loss.target(P)), loss(degree * F, loss.target(degree * P))
    torch.testing.assert_close(scaled, degree**2 * value, rtol=1e-9, atol=0)


def test_it_sees_what_histograms_of_channels_miss() -> None:
    P = maps(1, 1, 8, 8)
    loss = SlicedWasserstein()
    together, apart = torch.cat([P, P], dim=1), torch.cat([P, P.flip(3)], dim=1)
    assert loss(apart, loss.target(together)).item() > 0.01


def test_distributions_that_share_their_moments_are_told_apart() -> None:
    """Two values ±1 and three values with the same mean and variance have the same Gram matrix."""
    two = torch.tensor([-1.0, 1.0] * 12).view(1, 1, 4, 6)
    three = torch.tensor([-(2**0.5), *[0.0] * 2, 2**0.5] * 6).view(1, 1, 4, 6)
    assert two.square().mean().item() == pytest.approx(three.square().mean().item())
    loss = SlicedWasserstein()
    assert loss(two, loss.target(three)).item() > 0.1


@pytest.mark.parametrize("targets", [1, 3])
def test_a_canvas_does_not_feel_its_neighbours_in_the_batch(targets: int) -> None:
    loss = SlicedWasserstein()
    F, P = maps(3, 4, 5, 6, relu=True), maps(targets, 4, 6, 6, seed=1)
    together = loss(F, loss.target(P))
    alone = [loss(F[i : i + 1], loss.target(P[i % targets : i % targets + 1])) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-10, atol=0)


def test_a_guide_selects_a_region_of_canvas_and_style() -> None:
    loss, F, P = SlicedWasserstein(), maps(2, 4, 6, 6), maps(1, 4, 5, 5, seed=1)
    guide = torch.zeros(1, 1, 6, 6)
    guide[..., :2] = 0.8
    guide[..., 2] = 0.3
    of_style = torch.zeros(1, 1, 5, 5)
    of_style[..., 3:, :] = 1
    value = loss(F, loss.target(P, of_style), guide)
    torch.testing.assert_close(value, loss(F[..., :2], loss.target(P[..., 3:, :])), rtol=1e-10, atol=0)


def test_a_blend_is_the_barycentre_along_every_direction() -> None:
    loss, F = SlicedWasserstein(), maps(1, 3, 5, 6)
    P, Q = maps(1, 3, 5, 6, seed=1), 2 + maps(1, 3, 5, 6, seed=2)
    value = loss(F, loss.blend([loss.target(P), loss.target(Q)], [0.25, 0.75])).item()
    V = directions(loss, 3)
    x, p, q = (np.sort(V @ z[0].flatten(1).numpy(), axis=1) for z in (F, P, Q))
    assert value == pytest.approx(((x - 0.25 * p - 0.75 * q) ** 2).mean(), rel=1e-6)


def test_a_blend_of_blends_and_of_other_sizes_is_one_blend() -> None:
    loss, F = SlicedWasserstein(), maps(1, 3, 5, 6)
    P, Q, R = (loss.target(maps(1, 3, 5, 4 + i, seed=i)) for i in range(3))
    nested = loss.blend([loss.blend([P, Q], [0.5, 0.5]), R], [0.5, 0.5])
    torch.testing.assert_close(loss(F, nested), loss(F, loss.blend([P, Q, R], [0.25, 0.25, 0.5])))
    same = loss.blend([P, P], [0.25, 0.75])
    torch.testing.assert_close(loss(F, same), loss(F, P))
    torch.testing.assert_close(loss.unit(same), loss.unit(P))


def test_a_unit_is_the_value_of_a_canvas_without_features_over_all_directions() -> None:
    P, loss = maps(2, 4, 5, 6, relu=True), SlicedWasserstein(directions=100_000)
    target = loss.target(P)
    torch.testing.assert_close(loss.unit(target), loss(torch.zeros_like(P), target), rtol=0.02, atol=0)


def test_directions_belong_to_the_draw() -> None:
    loss, F, P = SlicedWasserstein(), maps(1, 4, 5, 6), maps(1, 4, 5, 6, seed=1)
    target, values = loss.target(P), []
    for seed in (1, 1, 2, 1):
        loss.seed = seed
        values.append(loss(F, target).item())
        assert values[-1] == pytest.approx(sliced_oracle(loss, F, P), rel=1e-6)
    assert values[0] == values[1] == values[3] != values[2]
    other = maps(1, 4, 3, 7, seed=2)  # one target serves canvases of any size
    assert loss(other, target).item() == pytest.approx(sliced_oracle(loss, other, P), rel=1e-6)
    assert len(np.unique(directions(SlicedWasserstein(50), 4), axis=0)) == 50


@pytest.mark.parametrize(
    ("canvas", "style"),
    [
        (torch.full((1, 3, 4, 4), 0.7), maps(1, 3, 5, 5)),
        (maps(1, 3, 4, 4), torch.full((1, 3, 5, 5), 0.7)),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 5, 5)),
        (maps(1, 3, 1, 1), maps(1, 3, 5, 5)),
        (maps(1, 3, 4, 4), maps(1, 3, 1, 1)),
        (maps(1, 1, 4, 4), maps(1, 1, 2, 3)),
    ],
    ids=["constant canvas", "constant style", "zeros", "one position", "style of one", "one channel"],
)
def test_degenerate_maps_give_a_finite_value_and_gradient(canvas: Tensor, style: Tensor) -> None:
    loss, F = SlicedWasserstein(), canvas.float().requires_grad_()
    value = loss(F, loss.target(style.float()))
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert F.grad is not None
    assert torch.isfinite(F.grad).all()


def test_half_precision_features_are_compared_in_float32() -> None:
    loss = SlicedWasserstein()
    target = loss.target((300 * maps(1, 4, 6, 6, seed=1)).to(torch.bfloat16))
    value = loss((300 * maps(1, 4, 5, 6)).to(torch.bfloat16), target)
    assert value.dtype == torch.float32
    assert torch.isfinite(value).all()


def test_no_directions_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one direction"):
        SlicedWasserstein(directions=0)
