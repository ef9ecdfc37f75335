"""The Laplacian loss against SciPy, and what must hold of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import laplace
from torch import Tensor

from nstbench.losses.laplacian import Laplacian


def picture(height: int = 25, width: int = 30, seed: int = 0, batch: int = 1) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, height, width, generator=g, dtype=torch.float64)


def edges(x: Tensor, pool: int) -> np.ndarray:
    """Return the sum of the channels' Laplacians, with SciPy's sign, of the pooled picture."""
    h, w = x.shape[2] // pool, x.shape[3] // pool
    pooled = x[0, :, : h * pool, : w * pool].numpy().reshape(3, h, pool, w, pool).mean((2, 4))
    return np.asarray(sum(laplace(channel)[1:-1, 1:-1] for channel in pooled))


@pytest.mark.parametrize(
    ("pools", "weights", "scale"), [([4], [1.0], 1.0), ([1], [2.0], 1.0), ([2, 8], [100.0, 1600.0], 255.0)]
)
def test_the_value_is_that_of_the_paper(pools: list[int], weights: list[float], scale: float) -> None:
    loss = Laplacian(pools, weights, range=scale)
    x, c = picture(seed=1), picture(seed=2)
    expected = sum(
        w * np.mean((scale * (edges(x, p) - edges(c, p))) ** 2) for p, w in zip(pools, weights, strict=True)
    )
    target = loss.target(c)
    np.testing.assert_allclose(loss(x, target).item(), expected, rtol=1e-10)
    grey = torch.full_like(c, 0.4)
    np.testing.assert_allclose(loss.unit(target).item(), loss(grey, target).item(), rtol=1e-10)


def test_the_gradient_is_that_of_the_value() -> None:
    loss = Laplacian([1, 2], [1.0, 3.0])
    target = loss.target(picture(6, 7, seed=2))
    assert torch.autograd.gradcheck(lambda x: loss(x, target), picture(6, 7, seed=1).requires_grad_())


def test_light_and_hue_are_free_edges_are_not() -> None:
    loss = Laplacian()
    c = picture(seed=1)
    target = loss.target(c)
    assert loss(c, target).item() == 0.0
    ramp = torch.linspace(0, 1, 30, dtype=torch.float64)
    assert loss(0.3 + c + ramp, target).item() < 1e-25
    assert loss(c.flip(1), target).item() < 1e-25
    assert loss(1.1 * c, target).item() > 1e-6


def test_each_canvas_and_each_target_is_its_own() -> None:
    loss = Laplacian([2, 4], [1.0, 2.0])
    x, shared, own = picture(seed=1, batch=3), picture(seed=2), picture(seed=3, batch=3)
    for c in (shared, own):
        together = loss(x, loss.target(c))
        assert together.shape == (3,)
        for i in range(3):
            alone = loss(x[i : i + 1], loss.target(c[i : i + 1] if c is own else c))
            torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=0)


def test_a_region_counts_by_its_own_size() -> None:
    loss = Laplacian([1], [1.0])
    x, c = picture(seed=1), picture(seed=2)
    left = torch.zeros(2, 1, 25, 30, dtype=torch.float64)
    left[0, ..., :10] = 1.0
    both = x.expand(2, -1, -1, -1)
    ours, nowhere = loss(both, loss.target(c), left).tolist()
    expected = np.mean((edges(x, 1) - edges(c, 1))[:, :9] ** 2)
    assert ours == pytest.approx(expected, rel=1e-10)
    assert nowhere == 0.0


def test_a_picture_of_one_colour_gives_numbers() -> None:
    loss = Laplacian()
    flat = torch.full((1, 3, 16, 16), 0.5, requires_grad=True)
    value = loss(flat, loss.target(flat.detach()))
    (slope,) = torch.autograd.grad(value.sum(), flat)
    assert value.item() == 0.0
    assert slope.abs().max().item() == 0.0


def test_half_precision_is_compared_in_float32() -> None:
    loss = Laplacian()
    assert loss(picture(seed=1).bfloat16(), loss.target(picture(seed=2).bfloat16())).dtype == torch.float32


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="16x16 squares needs three"):
        Laplacian([16], [1.0]).target(picture())
    with pytest.raises(ValueError, match="one size"):
        Laplacian()(picture(), Laplacian().target(picture(40, 30)))
    with pytest.raises(ValueError, match="one weight for each"):
        Laplacian([4, 16])
