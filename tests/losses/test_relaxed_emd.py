"""STROTSS' style loss against NumPy, and what must hold of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from nstbench.losses.relaxed_emd import RelaxedEMD

Array = npt.NDArray[np.float64]


def picture(height: int = 6, width: int = 8, seed: int = 0, batch: int = 1) -> list[Tensor]:
    """Return a picture and two feature maps of it, as an encoder would give them."""
    g = torch.Generator().manual_seed(seed)
    sizes = [(3, height, width), (4, height, width), (5, height // 2, width // 2)]
    maps = [torch.rand(batch, *size, generator=g, dtype=torch.float64) for size in sizes]
    return [maps[0], *(m + 0.1 for m in maps[1:])]


def hypercolumns(maps: list[Tensor]) -> Array:
    """Return all hypercolumns as rows."""
    size = maps[0].shape[2:]
    same = [torch.nn.functional.interpolate(m, size, mode="bilinear", align_corners=False) for m in maps]
    return np.asarray(torch.cat(same, 1)[0].flatten(1).T)


def relaxed(C: Array) -> float:
    return float(max(C.min(1).mean(), C.min(0).mean()))


def cosine(X: Array, Y: Array) -> Array:
    return np.asarray(1 - (X @ Y.T) / np.linalg.norm(X, axis=1)[:, None] / np.linalg.norm(Y, axis=1))


def oracle(canvas: list[Tensor], style: list[Tensor], moments: float, palette: float) -> float:
    X, Y = hypercolumns(canvas), hypercolumns(style)
    value = relaxed(cosine(X, Y))
    covariances = np.cov(X.T, bias=True) - np.cov(Y.T, bias=True)
    value += moments * (np.abs(X.mean(0) - Y.mean(0)).mean() + np.abs(covariances).mean())
    # The authors' decorrelation, to six digits: a rotation, and so without effect.
    R = np.array([[0.577350] * 3, [-0.577350, 0.788675, -0.211325], [-0.577350, -0.211325, 0.788675]])
    colours, theirs = (X[:, :3] - 0.5) @ R.T, (Y[:, :3] - 0.5) @ R.T
    apart = np.sqrt(((colours[:, None] - theirs[None]) ** 2).sum(2) / 3)
    return float(value + palette * relaxed(cosine(colours, theirs) + apart))


@pytest.mark.parametrize(("moments", "palette"), [(1.0, 0.5), (0.0, 0.0), (2.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("size", [(6, 8), (4, 10), (10, 6)])
def test_the_value_is_that_of_the_paper(size: tuple[int, int], moments: float, palette: float) -> None:
    loss = RelaxedEMD(samples=100, style_samples=100, moments=moments, palette=palette)
    canvas, style = picture(*size, seed=1), picture(6, 8, seed=2)
    expected = oracle(canvas, style, moments, palette)
    np.testing.assert_allclose(loss(canvas, loss.target(style)).item(), expected, rtol=3e-6)


def test_the_gradient_is_that_of_the_value() -> None:
    loss = RelaxedEMD(samples=9, style_samples=7)
    target = loss.target(picture(seed=2))
    maps = [m.requires_grad_() for m in picture(4, 4, seed=1)]
    assert torch.autograd.gradcheck(lambda *m: loss(m, target), maps)


def test_it_is_nothing_at_the_style_picture_and_only_there() -> None:
    loss = RelaxedEMD(samples=20, style_samples=20)
    style = [m.float() for m in picture(seed=3)]
    style[0][..., :2] = 0.5  # colours without a hue
    target = loss.target(style)
    leaves = [m.clone().requires_grad_() for m in style]
    value = loss(leaves, target)
    assert abs(value.item()) < 1e-6
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(value.sum(), leaves))
    assert loss([m * 1.2 for m in style], target).item() > 1e-2


def test_the_pixels_come_first_and_once() -> None:
    assert RelaxedEMD().views(["relu1_1", "relu2_1"]) == ["canvas+relu1_1+relu2_1"]
    assert RelaxedEMD().views(["relu1_1", "canvas"]) == ["canvas+relu1_1"]
    with pytest.raises(ValueError, match="must be the picture"):
        RelaxedEMD().target(picture()[1:])


def test_each_canvas_and_each_target_is_its_own() -> None:
    loss = RelaxedEMD(samples=12, style_samples=15)
    canvas, shared, own = picture(seed=1, batch=3), picture(seed=2), picture(4, 4, seed=3, batch=3)
    for style in (shared, own):
        together = loss(canvas, loss.target(style))
        assert together.shape == (3,)
        for i in range(3):
            theirs = [m[i : i + 1] for m in style] if style is own else style
            alone = loss([m[i : i + 1] for m in canvas], loss.target(theirs))
            torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=0)


def test_a_draw_is_the_seed_s_and_few_positions_need_none() -> None:
    loss = RelaxedEMD(samples=10, style_samples=10, redraw_every=5)
    canvas, target = picture(seed=1), loss.target(picture(seed=2))
    first = loss(canvas, target)
    loss.seed = 1
    second = loss(canvas, target)
    loss.seed = 0
    assert loss(canvas, target).item() == first.item() != second.item()
    everything = RelaxedEMD(samples=48)
    value = everything(canvas, target)
    everything.seed = 1
    assert everything(canvas, target).item() == value.item()


def test_a_region_is_compared_with_a_region() -> None:
    loss = RelaxedEMD(samples=100, style_samples=100)
    style = picture(seed=2)
    left = torch.zeros(1, 1, 6, 8)
    left[..., :4] = 1.0
    # Fine maps alone: a coarse one is read across the border of the region.
    canvas = [torch.cat([m[..., :4], 9 * m[..., 4:]], 3) for m in style[:2]]
    assert loss(canvas, loss.target(style[:2], left), left).item() == pytest.approx(0, abs=1e-12)
    assert loss(canvas, loss.target(style[:2])).item() > 0.1


def test_a_blend_holds_both_pictures() -> None:
    loss = RelaxedEMD(samples=200, style_samples=200)
    one, two = picture(seed=1)[:2], picture(seed=2)[:2]
    blended = loss.blend([loss.target(one), loss.target(two)], [0.5, 0.5])
    assert blended.columns.shape == (1, 7, 48)  # as many as one picture has: half of each
    both = loss([torch.cat([a, b], 3) for a, b in zip(one, two, strict=True)], blended).item()
    assert both < loss(one, blended).item()
    assert both < loss(two, blended).item()
    only = loss.blend([loss.target(one), loss.target(two)], [1.0, 0.0])
    torch.testing.assert_close(only.mean, loss.target(one).mean)


@pytest.mark.parametrize(("moments", "palette"), [(1.0, 0.5), (0.0, 0.0)])
def test_a_unit_is_the_value_of_a_black_canvas_without_features(moments: float, palette: float) -> None:
    loss = RelaxedEMD(moments=moments, palette=palette)
    target = loss.target(picture(seed=2, batch=2))
    blank = [torch.zeros_like(m) for m in picture(batch=2)]
    torch.testing.assert_close(loss.unit(target), loss(blank, target), rtol=1e-12, atol=0)
    assert (loss.unit(target) >= 0.5).all()


def test_pictures_of_one_colour_give_numbers() -> None:
    loss = RelaxedEMD(samples=30, style_samples=30)
    busy = [m.float() for m in picture()]
    nothing, grey = [0 * m for m in busy], [0 * m + 0.5 for m in busy]
    dead = [busy[0], *nothing[1:]]
    for canvas, style in ((nothing, busy), (busy, nothing), (grey, grey), (grey, busy), (busy, dead)):
        leaves = [m.clone().requires_grad_() for m in canvas]
        value = loss(leaves, loss.target(style))
        slopes = torch.autograd.grad(value.sum(), leaves)
        assert torch.isfinite(value).all()
        assert all(torch.isfinite(g).all() for g in slopes)
    one = [m[..., :1, :1] for m in busy]
    assert loss(one, loss.target(one)).item() == pytest.approx(0, abs=1e-6)


def test_half_precision_features_are_compared_in_float32() -> None:
    loss = RelaxedEMD()
    halves = [[m.float() if i == 0 else m.bfloat16() for i, m in enumerate(picture(seed=s))] for s in (1, 2)]
    value = loss(halves[0], loss.target(halves[1]))
    assert value.dtype == torch.float32
    assert torch.isfinite(value).all()
