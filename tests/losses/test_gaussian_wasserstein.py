"""The Wasserstein-2 distance of Gaussians, where features are many and where they are few."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from nstbench.losses.gaussian_wasserstein import GaussianWasserstein


def maps(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return scale * (drawn + 0.3).relu()


def oracle(F: Tensor, P: Tensor) -> float:
    """Write the formula out, with matrix roots from SciPy."""
    f, p = (x.numpy().reshape(x.shape[0], -1) for x in (F, P))
    S, T = np.cov(f, ddof=0), np.cov(p, ddof=0)
    values, vectors = np.linalg.eigh(T)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    middle = sqrtm(root @ S @ root + 1e-18 * np.eye(len(S))).real
    return float(((f.mean(1) - p.mean(1)) ** 2).sum() + np.trace(S + T - 2 * middle))


@pytest.mark.parametrize("of_canvas", [(5, 6), (2, 2)], ids=["full rank", "canvas of few positions"])
@pytest.mark.parametrize("of_style", [(3, 9), (1, 4)], ids=["full rank", "style of few positions"])
def test_it_is_the_formula(of_canvas: tuple[int, int], of_style: tuple[int, int]) -> None:
    F, P = maps(1, 6, *of_canvas), maps(1, 6, *of_style, seed=1)
    expected = oracle(F[0], P[0])
    for normalization, divisor in (("sum", 1), ("mean", 6)):
        loss = GaussianWasserstein(normalization)
        assert loss(F, loss.target(P)).item() == pytest.approx(expected / divisor, rel=1e-7)


def test_for_independent_channels_it_is_the_distance_of_means_and_deviations() -> None:
    """Covariances that commute: W² = Σ (μ - μ̂)² + (σ - σ̂)²."""
    signs = torch.tensor([[1, 1, -1, -1], [1, -1, 1, -1]], dtype=torch.float64).view(1, 2, 2, 2)
    scales = torch.tensor([2.0, 3.0], dtype=torch.float64).view(1, 2, 1, 1)
    loss = GaussianWasserstein("sum")
    value = loss(signs * scales + 1, loss.target(signs))
    assert value.item() == pytest.approx((1 + 1) + (2 - 1) ** 2 + (3 - 1) ** 2, rel=1e-12)


@pytest.mark.parametrize("positions", [(4, 4), (24, 24)], ids=["16 positions", "576 positions"])
def test_in_float32_with_many_channels_the_style_picture_is_at_zero_with_no_gradient(
    positions: tuple[int, int],
) -> None:
    """As at relu5_1: a spectrum over many orders, more channels than positions or about as many."""
    mixing = torch.randn(128, 128, generator=torch.Generator().manual_seed(5)) * torch.logspace(0, -3, 128)
    features = torch.einsum("ij,bjhw->bihw", mixing, maps(1, 128, *positions).float())
    loss = GaussianWasserstein()
    target = loss.target(features)
    F = features.clone().requires_grad_()
    value = loss(F, target)
    (slope,) = torch.autograd.grad(value.sum(), F)
    (pull,) = torch.autograd.grad(loss(0.5 * F, target).sum(), F)
    assert abs(value.item()) < 1e-6 * loss.unit(target).item()
    assert slope.norm() < 1e-3 * pull.norm()


def test_in_float32_the_value_and_gradient_are_those_of_float64() -> None:
    F, P = maps(1, 48, 5, 6), maps(1, 48, 9, 9, seed=1)  # 30 positions for 48 channels
    loss = GaussianWasserstein()
    found = []
    for dtype in (torch.float32, torch.float64):
        f = F.to(dtype).requires_grad_()
        value = loss(f, loss.target(P.to(dtype)))
        found.append((value.double(), torch.autograd.grad(value.sum(), f)[0].double()))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-6, atol=0)
    assert (found[0][1] - found[1][1]).norm() < 1e-4 * found[1][1].norm()


def test_minimising_it_reaches_the_styles_mean_and_covariance() -> None:
    loss = GaussianWasserstein()
    style = maps(1, 5, 6, 6, seed=1)
    target = loss.target(style)
    F = (0.1 * maps(1, 5, 5, 5)).requires_grad_()
    optimizer = torch.optim.LBFGS([F], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(F, target).sum()
        value.backward()
        return value

    optimizer.step(closure)
    reached = loss.target(F.detach())
    torch.testing.assert_close(reached.mean, target.mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(reached.covariance, target.covariance, rtol=1e-3, atol=1e-3)


def test_targets_of_different_ranks_may_share_a_batch() -> None:
    flat = maps(1, 5, 3, 4)
    flat[:, 2:] = 0  # rank 2
    P = torch.cat([maps(1, 5, 3, 4, seed=1), flat])
    F = maps(2, 5, 4, 4, seed=2)
    loss = GaussianWasserstein("sum")
    values = loss(F, loss.target(P))
    for f, p, value in zip(F, P, values, strict=True):
        assert value.item() == pytest.approx(oracle(f, p), rel=1e-6)
