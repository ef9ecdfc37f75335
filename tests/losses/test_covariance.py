"""Covariance matrices of features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nstbench.losses.covariance import Covariance


def maps(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return scale * (drawn + 0.3).relu()


@pytest.mark.parametrize("means", [False, True])
@pytest.mark.parametrize("of_style", [(5, 6), (3, 9)])
def test_it_is_the_stated_formula(means: bool, of_style: tuple[int, int]) -> None:
    F, P = maps(1, 4, 5, 6), maps(1, 4, *of_style, seed=1)
    f, p = (x[0].numpy().reshape(4, -1) for x in (F, P))
    expected = ((np.cov(f, ddof=0) - np.cov(p, ddof=0)) ** 2).sum()
    if means:
        expected += ((np.outer(f.mean(1), f.mean(1)) - np.outer(p.mean(1), p.mean(1))) ** 2).sum()
    loss = Covariance(means=means)
    assert loss(F, loss.target(P)).item() == pytest.approx(float(expected) / (4 * 4**2), rel=1e-11)


def test_without_means_a_constant_may_be_added_to_every_channel() -> None:
    P = maps(1, 4, 5, 6)
    moved = P + torch.tensor([3.0, -1.0, 0.5, 9.0], dtype=torch.float64).view(1, 4, 1, 1)
    assert Covariance(means=False)(moved, Covariance().target(P)).item() < 1e-25
    assert Covariance(means=True)(moved, Covariance().target(P)).item() > 1


def test_a_small_variation_about_a_large_mean_is_not_cancelled() -> None:
    """FFᵀ/M - μμᵀ in float32 would have no right digit here."""
    small = maps(1, 3, 20, 20)
    exact = Covariance().target(small)[1]
    found = Covariance().target((small + 3000).float())[1]
    torch.testing.assert_close(found.double(), exact, rtol=1e-2, atol=1e-4)
