"""Means and standard deviations of channels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nstbench.losses.moments import Moments


def maps(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return scale * (drawn + 0.3).relu()


@pytest.mark.parametrize(("normalization", "ddof", "epsilon"), [("mmd", 0, 0.0), ("adain", 1, 1e-5)])
@pytest.mark.parametrize("of_style", [(5, 6), (3, 9)])
def test_it_is_the_published_formula(
    normalization: str, ddof: int, epsilon: float, of_style: tuple[int, int]
) -> None:
    F, P = maps(1, 4, 5, 6), maps(1, 4, *of_style, seed=1)
    f, p = (x[0].numpy().reshape(4, -1) for x in (F, P))
    deviations = [np.sqrt(x.var(axis=1, ddof=ddof) + epsilon) for x in (f, p)]
    expected = ((f.mean(1) - p.mean(1)) ** 2 + (deviations[0] - deviations[1]) ** 2).sum() / 4
    loss = Moments(normalization)
    assert loss(F, loss.target(P)).item() == pytest.approx(float(expected), rel=1e-10)


def test_channels_that_hardly_vary_keep_a_gradient_of_ordinary_size() -> None:
    """σ's slope is at most 1/√M for any σ but 0: a bound, not the 1/σ of its formula."""
    loss = Moments()
    target = loss.target(maps(1, 1, 4, 4))
    pattern = torch.tensor([1.0, -1.0]).repeat(8).view(1, 1, 4, 4)
    norms = []
    for contrast in (1e-3, 1e-6, 1e-15):
        F = (contrast * pattern).requires_grad_()
        (slope,) = torch.autograd.grad(loss(F, target).sum(), F)
        norms.append(slope.norm().item())
    assert norms == pytest.approx([norms[0]] * 3, rel=0.01)
    assert norms[0] < 10
