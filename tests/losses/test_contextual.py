"""The contextual loss against NumPy, and what must hold of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nstbench.losses.contextual import Contextual


def features(height: int = 5, width: int = 6, seed: int = 0, batch: int = 1, channels: int = 7) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.rand(batch, channels, height, width, generator=g, dtype=torch.float64)


def oracle(x: Tensor, y: Tensor, h: float) -> float:
    X, Y = x[0].flatten(1).T.numpy(), y[0].flatten(1).T.numpy()
    X, Y = X - Y.mean(0), Y - Y.mean(0)
    cosine = X @ Y.T / np.linalg.norm(X, axis=1)[:, None] / np.linalg.norm(Y, axis=1)
    d = (1 - cosine) / 2
    w = np.exp((1 - d / (d.min(1, keepdims=True) + 1e-5)) / h)
    CX = w / w.sum(1, keepdims=True)
    return float(-np.log(CX.max(0).mean()))


@pytest.mark.parametrize("bandwidth", [0.1, 0.5])
@pytest.mark.parametrize("size", [(5, 6), (3, 4), (9, 5)])
def test_the_value_is_that_of_the_paper(size: tuple[int, int], bandwidth: float) -> None:
    loss = Contextual(bandwidth, samples=100)
    x, y = features(*size, seed=1), features(seed=2)
    np.testing.assert_allclose(loss(x, loss.target(y)).item(), oracle(x, y, bandwidth), rtol=1e-10)


def test_the_gradient_is_that_of_the_value() -> None:
    loss = Contextual(0.5)
    target = loss.target(features(3, 3, seed=2))
    assert torch.autograd.gradcheck(lambda x: loss(x, target), features(3, 4, seed=1).requires_grad_())


@pytest.mark.parametrize(
    ("times", "samples", "expected"),
    [(1, 100, 0.0), (1, 20, 0.0), (2, 100, math.log(2)), (3, 100, math.log(3))],
)
def test_at_the_style_picture_it_counts_how_often_each_feature_is_there(
    times: int, samples: int, expected: float
) -> None:
    y = features(seed=2).float().repeat(1, 1, times, 1)
    loss = Contextual(samples=samples)
    leaf = y.clone().requires_grad_()
    value = loss(leaf, loss.target(y))
    assert value.item() == pytest.approx(expected, abs=0.02)
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    assert torch.isfinite(slope).all()
    assert loss(features(seed=1).float(), loss.target(y)).item() > 0.5


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-2, 1e2))
def test_positions_and_scale_do_not_matter(seed: int, scale: float) -> None:
    loss = Contextual(0.5)
    x, y = features(seed=seed), features(3, 7, seed=seed + 1)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(seed))
    shuffled = scale * x.flatten(2)[..., order].view_as(x)
    torch.testing.assert_close(loss(shuffled, loss.target(scale * y)), loss(x, loss.target(y)))


def test_each_canvas_and_each_target_is_its_own() -> None:
    loss = Contextual(0.5, samples=16)
    x, shared, own = features(seed=1, batch=3), features(seed=2), features(4, 4, seed=3, batch=3)
    for y in (shared, own):
        together = loss(x, loss.target(y))
        assert together.shape == (3,)
        for i in range(3):
            alone = loss(x[i : i + 1], loss.target(y[i : i + 1] if y is own else y))
            torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=0)


def test_a_draw_is_the_seed_s_and_few_positions_need_none() -> None:
    loss, everything = Contextual(samples=10, redraw_every=2), Contextual(samples=30)
    x, target = features(seed=1), loss.target(features(seed=2))
    first, whole = loss(x, target), everything(x, target)
    loss.seed = everything.seed = 1
    assert loss(x, target).item() != first.item()
    assert everything(x, target).item() == whole.item()
    loss.seed = 0
    assert loss(x, target).item() == first.item()


def test_a_region_is_compared_with_a_region() -> None:
    loss = Contextual()
    y = features(seed=2)
    left = torch.zeros(1, 1, 5, 6)
    left[..., :3] = 1.0
    x = torch.cat([y[..., :3], features(seed=1)[..., 3:]], 3)
    assert loss(x, loss.target(y, left), left).item() == pytest.approx(0, abs=1e-6)
    assert loss(x, loss.target(y)).item() > 0.1


def test_a_blend_asks_for_the_features_of_both() -> None:
    loss = Contextual()
    one, two = features(seed=1), features(seed=2)
    blended = loss.blend([loss.target(one), loss.target(two)], [0.5, 0.5])
    assert blended.shape == (1, 7, 30)
    both = loss(torch.cat([one, two], 3), blended)
    assert both.item() < loss(one, blended).item()
    assert both.item() < loss(two, blended).item()


def test_pictures_of_one_colour_give_numbers() -> None:
    loss = Contextual()
    flat, busy = torch.full((1, 7, 5, 6), 0.3), features().float()
    mean = busy.mean((2, 3), keepdim=True).expand_as(busy)
    for canvas, style in ((flat, busy), (busy, flat), (flat, flat), (mean, busy), (0 * flat, 0 * flat)):
        leaf = canvas.clone().requires_grad_()
        value = loss(leaf, loss.target(style))
        (slope,) = torch.autograd.grad(value.sum(), leaf)
        assert torch.isfinite(value).all()
        assert torch.isfinite(slope).all()
    one = features(1, 1)
    assert loss(one, loss.target(one)).item() == pytest.approx(0, abs=1e-6)


def test_half_precision_is_compared_in_float32_and_the_unit_is_one() -> None:
    loss = Contextual()
    target = loss.target(features(seed=1).bfloat16())
    value = loss(features(seed=2).bfloat16(), target)
    assert value.dtype == torch.float32
    assert torch.isfinite(value).all()
    assert loss.unit(target).item() == 1
