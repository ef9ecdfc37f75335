"""The regularisers of the range against plain NumPy, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nstbench.losses.base import Loss
from nstbench.losses.pixel_range import AlphaNorm, PixelRange


def pictures(*shape: int, seed: int = 0) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 0.5 + x  # a third of the values is outside [0, 1]


each_loss = pytest.mark.parametrize("loss", [PixelRange(), AlphaNorm()], ids=lambda x: type(x).__name__)


def test_the_excess_is_squared_and_averaged() -> None:
    x = pictures(1, 3, 4, 5)
    excess = np.maximum(0, np.maximum(-x.numpy(), x.numpy() - 1))
    assert PixelRange()(x, None).item() == pytest.approx((excess**2).mean(), rel=1e-12)


def test_a_picture_in_its_range_costs_nothing_and_pulls_at_nothing() -> None:
    x = pictures(1, 3, 4, 5).sigmoid()
    x[..., 0], x[..., 1] = 0, 1
    x.requires_grad_()
    value = PixelRange()(x, None)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    assert value.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize(("alpha", "center"), [(6.0, 0.5), (2.0, 0.45), (1.5, 0.5)])
def test_the_alpha_norm_is_the_published_formula_as_a_mean(alpha: float, center: float) -> None:
    x = pictures(1, 3, 4, 5)
    published = (np.abs(255 * (x.numpy() - center)) ** alpha).sum()  # for a range of 255
    value = AlphaNorm(alpha, center)(x, None).item()
    assert x.numel() * 127.5**alpha * value == pytest.approx(published, rel=1e-12)


def test_black_and_white_cost_one_and_mid_grey_nothing() -> None:
    x = torch.tensor([0.0, 1.0, 0.5]).view(3, 1, 1, 1).expand(3, 3, 4, 4)
    assert AlphaNorm()(x, None).tolist() == [1.0, 1.0, 0.0]


@each_loss
def test_gradients_agree_with_finite_differences(loss: Loss) -> None:
    x = (1.4 * pictures(2, 3, 3, 4).sigmoid() - 0.2).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: loss(p, None), x, eps=1e-6, atol=1e-7, rtol=1e-5)


@each_loss
def test_a_canvas_does_not_feel_its_neighbours_in_the_batch(loss: Loss) -> None:
    x = pictures(3, 3, 4, 5)
    torch.testing.assert_close(loss(x, None), torch.cat([loss(p[None], None) for p in x]), rtol=1e-12, atol=0)


def test_the_unit_of_the_alpha_norm_is_the_remembered_picture_and_that_of_the_excess_is_one() -> None:
    x = pictures(2, 3, 4, 5)
    norm = AlphaNorm()
    assert torch.equal(norm.unit(norm.target(x)), norm(x, None))
    assert torch.equal(norm.unit(None), torch.ones(1))
    assert torch.equal(PixelRange().unit(None), torch.ones(1))


@each_loss
def test_flat_and_half_precision_pictures_give_finite_float32(loss: Loss) -> None:
    for shade in (0.0, 0.5, 1.0, 3.0):
        x = torch.full((1, 3, 1, 1), shade, dtype=torch.bfloat16, requires_grad=True)
        value = loss(x, None)
        value.sum().backward()
        assert value.dtype == torch.float32
        assert torch.isfinite(value).all()
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()


@each_loss
def test_a_guide_is_refused(loss: Loss) -> None:
    with pytest.raises(ValueError, match="takes no guide"):
        loss(pictures(1, 3, 4, 4), None, torch.ones(1, 1, 4, 4))


def test_a_norm_without_a_slope_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        AlphaNorm(alpha=0.5)
