"""Nearest hypercolumns against NumPy, and their gradient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nstbench.losses.nearest_neighbor import NearestNeighbor
from nstbench.objective.objective import Objective
from nstbench.objective.term import Term


def seen(batch: int = 1, side: tuple[int, int] = (16, 24), seed: int = 0) -> list[Tensor]:
    """A picture, and maps of a half, a quarter and an eighth of its size."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, *side), *((c, side[0] // s, side[1] // s) for c, s in ((4, 2), (5, 4), (6, 8)))]
    return [torch.rand(batch, *shape, generator=generator, dtype=torch.float64) for shape in shapes]


def one(features: Sequence[Tensor], i: int) -> list[Tensor]:
    return [f[i : i + 1] for f in features]


def interpolated(F: np.ndarray, axis: int, new: int) -> np.ndarray:
    """Linear interpolation by the tent: as wide as the coarser of the two grids, cut off at the border."""
    old = F.shape[axis]
    width = max(old / new, 1)
    centres = (np.arange(new) + 0.5) * old / new
    tent = np.maximum(0, 1 - np.abs(np.arange(old) + 0.5 - centres[:, None]) / width)
    tent /= tent.sum(1, keepdims=True)
    return np.moveaxis(np.tensordot(tent, F, axes=(1, axis)), 0, axis)


def hypercolumns(features: list[Tensor], stride: int) -> np.ndarray:
    size = [side // stride for side in features[0].shape[2:]]
    resized = [
        interpolated(interpolated(f[0].numpy() / f.shape[1], 1, size[0]), 2, size[1]) for f in features[1:]
    ]
    return np.concatenate([r.reshape(len(r), -1) for r in resized]).T


def oracle(canvas: list[Tensor], style: np.ndarray, stride: int, center: bool) -> float:
    mine = hypercolumns(canvas, stride)
    m, s = (x - x.mean(0) if center else x for x in (mine, style))
    cosine = (m @ s.T) / np.linalg.norm(m, axis=1)[:, None] / np.linalg.norm(s, axis=1)
    matched = style[cosine.argmax(1)]
    distances = 1 - (mine * matched).sum(1) / np.linalg.norm(mine, axis=1) / np.linalg.norm(matched, axis=1)
    return distances.mean()


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("stride", [2, 4, 5])
def test_the_value_is_that_of_the_formula(stride: int, center: bool) -> None:
    F, S, R = seen(2), seen(1, (24, 16), 1), seen(1, (16, 16), 2)
    loss = NearestNeighbor(stride, center)
    one_picture, joined = loss.target(S), loss.join([loss.target(S), loss.target(R)])
    of_two = np.concatenate([hypercolumns(S, stride), hypercolumns(R, stride)])
    for target, style in ((one_picture, hypercolumns(S, stride)), (joined, of_two)):
        value = loss(F, target)
        for i in range(2):
            assert value[i].item() == pytest.approx(oracle(one(F, i), style, stride, center), rel=1e-10)


def test_the_gradient_agrees_with_finite_differences() -> None:
    """Between changes of the matches, which are constants in it."""
    picture, *maps = seen(2, (8, 8))
    loss = NearestNeighbor()
    target = loss.target(seen(1, (16, 8), 1))
    inputs = [f.requires_grad_() for f in maps[:2]]
    assert torch.autograd.gradcheck(
        lambda *f: loss([picture, *f, maps[2]], target), inputs, eps=1e-6, atol=1e-7, rtol=1e-5
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-2, 1e2))
def test_a_canvas_is_its_own_zero_at_the_style_and_has_no_scale(seed: int, scale: float) -> None:
    F, S, loss = seen(3, seed=seed), seen(1, (24, 16), seed + 1), NearestNeighbor()
    target = loss.target(S)
    value = loss(F, target)
    assert value.shape == (3,)
    assert (value > 0).all()
    torch.testing.assert_close(
        value, torch.cat([loss(one(F, i), target) for i in range(3)]), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(loss(S, target), torch.zeros(1).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(loss([scale * f for f in F], target), value, rtol=1e-9, atol=0)
    assert loss.unit(target).item() == 1


def test_the_order_of_the_styles_places_does_not_matter() -> None:
    F, S, loss = seen(1), seen(1, seed=1), NearestNeighbor()
    target = loss.target(S)
    shuffled = type(target)(
        target.columns[..., torch.randperm(24, generator=torch.Generator().manual_seed(0))]
    )
    torch.testing.assert_close(loss(F, shuffled), loss(F, target), rtol=1e-12, atol=0)


def test_each_canvas_may_have_its_own_target_and_several_pictures_are_united() -> None:
    F, S, loss = seen(2), seen(2, seed=1), NearestNeighbor()
    alone = [loss(one(F, i), loss.target(one(S, i))) for i in range(2)]
    torch.testing.assert_close(loss(F, loss.target(S)), torch.cat(alone), rtol=1e-12, atol=0)
    both = [loss.target(S), loss.target(F)]
    torch.testing.assert_close(loss(F, loss.blend(both, [0.5, 0.5])), torch.zeros(2).double())
    with pytest.raises(ValueError, match="weights must be equal"):
        loss.blend(both, [0.1, 0.9])


def test_a_guide_selects_places_on_either_side() -> None:
    F, S, loss = seen(1), seen(1, seed=1), NearestNeighbor()
    guide = torch.zeros(1, 1, 8, 12)
    guide[..., :6] = 1  # the left half of the grid of 4 by 6
    target = loss.target(S, guide)
    left = torch.arange(24).view(4, 6)[:, :3].flatten()
    assert torch.equal(target.columns, loss.target(S).columns[..., left])
    style = hypercolumns(S, 4)[left]
    value = loss(F, target, guide).item()
    mine = hypercolumns(F, 4)[left]
    m, s = mine - mine.mean(0), style - style.mean(0)
    matched = style[(m @ s.T / np.linalg.norm(s, axis=1)).argmax(1)]
    cosines = (mine * matched).sum(1) / np.linalg.norm(mine, axis=1) / np.linalg.norm(matched, axis=1)
    assert value == pytest.approx(1 - cosines.mean(), rel=1e-10)


def test_layers_are_seen_together_or_split_with_the_canvas_for_its_size_alone() -> None:
    layers = ["relu1_1", "relu2_1"]
    assert NearestNeighbor().views(layers) == ["canvas+relu1_1+relu2_1"]
    assert NearestNeighbor(split=True).views(layers) == ["canvas+relu1_1", "canvas+relu2_1"]
    loss = NearestNeighbor(stride=2)
    term = Term("style/nearest_neighbor", loss, dict.fromkeys(loss.views(layers), 1.0), 1.0)
    assert Objective([[term]]).layers == layers
    names = ("canvas", *layers)
    term.compute_targets([[dict(zip(names, seen(1, seed=1), strict=False))]])
    picture, *maps = seen(1)
    value = term(dict(zip(names, (picture, *maps), strict=False)))
    assert torch.equal(value, term(dict(zip(names, (1 - picture, *maps), strict=False))))
    assert value.item() > 0


def test_turned_copies_are_those_by_right_angles() -> None:
    picture, loss = seen(1)[0], NearestNeighbor(rotations=True)
    copies = loss.copies(picture)
    assert [tuple(c.shape[2:]) for c in copies] == [(16, 24), (24, 16), (16, 24), (24, 16)]
    assert torch.equal(copies[0], picture)
    assert torch.equal(copies[2].flip(2, 3), picture)
    assert torch.equal(copies[1].flip(2, 3), copies[3])
    assert len(NearestNeighbor().copies(picture)) == 1


@pytest.mark.parametrize("blank", ["canvas", "style", "both", "one place"])
@pytest.mark.parametrize("center", [True, False])
def test_degenerate_maps_have_a_finite_value_and_gradient(blank: str, center: bool) -> None:
    F, S, loss = seen(1), seen(1, seed=1), NearestNeighbor(center=center)
    if blank == "one place":
        F, S = seen(1, (8, 8)), seen(1, (8, 8), 1)
        loss = NearestNeighbor(stride=8, center=center)
    if blank in ("canvas", "both"):
        F = [F[0], *(0 * f for f in F[1:])]
    if blank in ("style", "both"):
        S = [S[0], *(0 * f for f in S[1:])]
    maps = [f.requires_grad_() for f in F[1:]]
    value = loss([F[0], *maps], loss.target(S))
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert all(torch.isfinite(f.grad).all() for f in maps if f.grad is not None)
    if blank == "canvas":
        assert value.item() == 1  # nothing resembles anything


def test_half_precision_maps_are_compared_in_float32() -> None:
    F, S = ([100 * f.bfloat16() for f in seen(1, seed=seed)] for seed in (0, 1))
    loss = NearestNeighbor()
    value = loss(F, loss.target(S))
    assert value.dtype == torch.float32
    exact = loss([f.double() for f in F], loss.target([f.double() for f in S]))
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=0)


def test_a_stride_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        NearestNeighbor(stride=0)
