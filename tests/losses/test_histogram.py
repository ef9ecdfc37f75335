"""Histogram losses against NumPy, and what a user would notice of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance
from torch import Tensor

from nstbench.losses.histogram import Histogram, PixelHistogram

LOSSES = {"exact": Histogram(), "binned": Histogram(bins=256), "pixels": PixelHistogram()}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def maps(*shape: int, seed: int = 0, relu: bool = False) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.relu() if relu else x


def matched(x: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Return every channel ``(C, M)`` with another distribution, rank by rank; no two values are equal."""
    levels = (np.argsort(np.argsort(x, axis=1), axis=1) + 0.5) / x.shape[1]
    rows = zip(quantiles, levels, strict=True)
    return np.stack([np.quantile(q, u, method="hazen") for q, u in rows])


def histogram_oracle(F: Tensor, P: Tensor) -> float:
    x, y = F[0].flatten(1).numpy(), P[0].flatten(1).numpy()
    return float(((x - matched(x, y)) ** 2).mean())


@pytest.mark.parametrize("of_style", [(5, 6), (4, 9), (1, 1)])
def test_histogram_is_the_published_formula(of_style: tuple[int, int]) -> None:
    F, P = maps(1, 4, 5, 6), maps(1, 4, *of_style, seed=1)
    loss = Histogram()
    assert loss(F, loss.target(P)).item() == pytest.approx(histogram_oracle(F, P), rel=1e-10)


def test_binned_histograms_are_those_of_the_published_code() -> None:
    """With no two values in one bin, ranks are exact, and only the style's values are rounded."""
    P = 3 * torch.rand(1, 2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    F = P.flatten(2)[..., torch.randperm(20, generator=torch.Generator().manual_seed(2))].view_as(P)
    F = F.clone()
    F[0, 0, 0, 0] = P[0, 0].max() + 5  # outside of the style's range
    loss = Histogram(bins=100_000)
    x, y = F[0].flatten(1).numpy(), P[0].flatten(1).numpy()
    rounded = []
    for channel in y:
        count, edges = np.histogram(channel, 100_000)
        centres = (edges[1:] + edges[:-1]) / 2
        rounded.append(np.repeat(centres, count))
    expected = ((x - matched(x, np.stack(rounded))) ** 2).mean()
    assert loss(F, loss.target(P)).item() == pytest.approx(expected, rel=1e-5)


def test_the_values_of_a_bin_are_spread_evenly_over_it() -> None:
    P = torch.tensor([0.0, 0.1, 0.2, 1.0, 3.9, 4.0]).view(1, 1, 2, 3)
    expected = [1 / 6, 3 / 6, 5 / 6, 1.5, 3.25, 3.75]  # bins of width 1, with 3, 1, 0 and 2 values
    torch.testing.assert_close(Histogram(bins=4).target(P).quantiles.flatten(), torch.tensor(expected))


def test_more_bins_come_closer_to_the_exact_value() -> None:
    F, P = maps(1, 8, 20, 20), 2 * maps(1, 8, 15, 20, seed=1) + 1
    exact = Histogram()
    value = exact(F, exact.target(P))
    errors = [(b(F, b.target(P)) - value).abs().item() for b in (Histogram(bins=n) for n in (4, 256, 16384))]
    assert errors[0] > errors[1] > errors[2]
    assert errors[1] < 0.01 * value.item()


@pytest.mark.parametrize("shape", [(5, 6), (3, 4)])
def test_the_gradient_is_that_of_a_constant_match(shape: tuple[int, int]) -> None:
    loss = Histogram()
    F, target = maps(2, 3, 5, 6).requires_grad_(), loss.target(maps(1, 3, *shape, seed=1))
    (gradient,) = torch.autograd.grad(loss(F, target).sum(), F)
    for f, g in zip(F.detach(), gradient, strict=True):
        R = matched(f.flatten(1).numpy(), target.quantiles[0].numpy())
        torch.testing.assert_close(g.flatten(1), 2 * (f.flatten(1) - torch.from_numpy(R)) / f.numel())
    assert torch.autograd.gradcheck(lambda f: loss(f, target), F, eps=1e-7, atol=1e-6)


@each_loss
def test_a_binned_match_is_a_constant_of_the_gradient_too(loss: Histogram) -> None:
    F = maps(1, 3, 6, 6, relu=True).requires_grad_()
    target = loss.target(maps(1, 3, 6, 6, seed=1))
    (gradient,) = torch.autograd.grad(loss(F, target).sum(), F)
    moved = F.detach() - gradient * F.numel() / 2  # to where F - R = 0
    sorted_moved = moved.flatten(2).sort(dim=2).values
    torch.testing.assert_close(sorted_moved, target.quantiles, rtol=1e-6, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(shape=st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 7)), seed=st.integers(0, 1000))
def test_it_is_zero_at_any_rearrangement_of_the_style_and_positive_elsewhere(
    shape: tuple[int, int, int], seed: int
) -> None:
    P, loss = maps(1, *shape, seed=seed, relu=True), Histogram()
    order = torch.randperm(shape[1] * shape[2], generator=torch.Generator().manual_seed(seed))
    assert loss(P.flatten(2)[..., order].view_as(P), loss.target(P)).item() == pytest.approx(0, abs=1e-12)
    assert loss(P + 0.1, loss.target(P)).item() == pytest.approx(0.01)


def test_an_order_of_channels_that_share_a_histogram_is_not_seen() -> None:
    """What the loss misses: it sees each channel alone."""
    P = maps(1, 1, 8, 8)
    F = torch.cat([P, P.flip(3)], dim=1)
    assert Histogram()(F, Histogram().target(torch.cat([P, P], dim=1))).item() == pytest.approx(0, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), degree=st.floats(1e-2, 1e2))
def test_it_bounds_scipys_wasserstein_distance_and_scales_by_the_square(seed: int, degree: float) -> None:
    F, P = maps(1, 1, 6, 6, seed=seed), maps(1, 1, 6, 6, seed=seed + 1)
    loss = Histogram()
    value = loss(F, loss.target(P)).item()
    assert wasserstein_distance(F.flatten().numpy(), P.flatten().numpy()) <= value**0.5 * (1 + 1e-9)
    scaled = loss(degree * F, loss.target(degree * P)).item()
    assert scaled == pytest.approx(degree**2 * value, rel=1e-9)


@each_loss
@pytest.mark.parametrize("targets", [1, 3])
def test_a_canvas_does_not_feel_its_neighbours_in_the_batch(loss: Histogram, targets: int) -> None:
    F, P = maps(3, 4, 5, 6, relu=True), maps(targets, 4, 6, 6, seed=1)
    together = loss(F, loss.target(P))
    alone = [loss(F[i : i + 1], loss.target(P[i % targets : i % targets + 1])) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-12, atol=0)


@each_loss
def test_a_guide_selects_a_region_of_canvas_and_style(loss: Histogram) -> None:
    F, P = maps(2, 4, 6, 6), maps(1, 4, 5, 5, seed=1)
    guide = torch.zeros(1, 1, 6, 6)
    guide[..., :2] = 0.8
    guide[..., 2] = 0.3
    of_style = torch.zeros(1, 1, 5, 5)
    of_style[..., 3:, :] = 1
    value = loss(F, loss.target(P, of_style), guide)
    torch.testing.assert_close(value, loss(F[..., :2], loss.target(P[..., 3:, :])), rtol=1e-12, atol=0)


@each_loss
def test_a_blend_has_the_mean_of_the_quantiles(loss: Histogram) -> None:
    P, Q = maps(1, 2, 5, 5), 4 + 2 * maps(1, 2, 5, 5, seed=1)
    blended = loss.blend([loss.target(P), loss.target(Q)], [0.25, 0.75])
    mean = 0.25 * loss.target(P).quantiles + 0.75 * loss.target(Q).quantiles
    torch.testing.assert_close(blended.quantiles, mean)
    of_sizes = loss.blend([loss.target(P), loss.target(maps(1, 2, 7, 8, seed=2))], [0.5, 0.5])
    assert of_sizes.quantiles.shape == (1, 2, 56)
    assert (of_sizes.low <= of_sizes.quantiles).all()
    assert (of_sizes.quantiles <= of_sizes.high).all()
    assert torch.isfinite(loss(P, of_sizes)).all()


@pytest.mark.parametrize("bins", [None, 16])
def test_a_unit_is_the_value_of_a_canvas_without_features(bins: int | None) -> None:
    P, loss = maps(2, 4, 5, 6, relu=True), Histogram(bins)
    target = loss.target(P)
    torch.testing.assert_close(loss.unit(target), loss(torch.zeros_like(P), target), rtol=1e-12, atol=0)


def test_the_unit_of_pixels_is_the_value_of_a_grey_canvas_alike_for_light_and_dark() -> None:
    P, loss = maps(2, 3, 5, 6).sigmoid() * 0.3, PixelHistogram()
    target = loss.target(P)
    torch.testing.assert_close(loss.unit(target), loss(torch.full_like(P, 0.5), target))
    torch.testing.assert_close(loss.unit(loss.target(1 - P)), loss.unit(target))
    assert loss.target_picture == "style"


@each_loss
def test_random_ranks_belong_to_the_draw_and_do_not_change_the_exact_value(loss: Histogram) -> None:
    F = torch.zeros(1, 2, 8, 8, dtype=torch.float64, requires_grad=True)
    target = loss.target(maps(1, 2, 8, 8, seed=1))
    values, gradients = [], []
    for seed in (1, 1, 2):
        loss.seed = seed
        values.append(loss(F, target))
        gradients.append(torch.autograd.grad(values[-1].sum(), F)[0])
    torch.testing.assert_close(values[0], values[2], rtol=1e-12, atol=0)
    assert torch.equal(gradients[0], gradients[1])
    assert not torch.equal(gradients[0], gradients[2])


@each_loss
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
def test_degenerate_maps_give_a_finite_value_and_gradient(
    loss: Histogram, canvas: Tensor, style: Tensor
) -> None:
    F = canvas.float().requires_grad_()
    value = loss(F, loss.target(style.float()))
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert F.grad is not None
    assert torch.isfinite(F.grad).all()


@each_loss
def test_half_precision_features_are_compared_in_float32(loss: Histogram) -> None:
    F = (300 * maps(1, 4, 5, 6)).to(torch.bfloat16)
    value = loss(F, loss.target((300 * maps(1, 4, 6, 6, seed=1)).to(torch.bfloat16)))
    assert value.dtype == torch.float32
    assert torch.isfinite(value).all()


def test_no_bins_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one bin"):
        Histogram(bins=0)
