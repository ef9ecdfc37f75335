"""Sampling of positions, hypercolumns and cosine distances, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nstbench.losses.functional.hypercolumn import (
    cosine_distances,
    directions,
    draw,
    relaxed_emd,
    sample_hypercolumns,
    shortest,
    unite,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def test_a_draw_takes_all_in_order_or_some_once() -> None:
    assert draw(5, 5, generator()).tolist() == [0, 1, 2, 3, 4]
    some = draw(100, 20, generator())
    assert len(set(some.tolist())) == 20
    assert some.tolist() == draw(100, 20, generator()).tolist()
    assert some.tolist() != draw(100, 20, generator(1)).tolist()


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9), h=st.integers(1, 9), w=st.integers(1, 9))
def test_coarse_maps_are_read_where_bilinear_interpolation_reads_them(
    height: int, width: int, h: int, w: int
) -> None:
    h, w = min(h, height), min(w, width)
    fine, coarse = noise(2, 3, height, width), noise(2, 4, h, w, seed=1)
    columns = sample_hypercolumns([coarse, fine], height * width, generator())
    resized = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    expected = torch.cat([resized, fine], dim=1).flatten(2)
    torch.testing.assert_close(columns, expected, rtol=1e-6, atol=1e-6)  # interpolate weighs in float32


def test_sampled_hypercolumns_are_some_of_all() -> None:
    maps = [noise(1, 3, 8, 6), noise(1, 5, 4, 3, seed=1)]
    everything = sample_hypercolumns(maps, 48, generator())[0].T
    some = sample_hypercolumns(maps, 10, generator(3))[0].T
    found = [int((everything - column).abs().sum(1).argmin()) for column in some]
    assert len(set(found)) == 10
    torch.testing.assert_close(everything[found], some, rtol=0, atol=0)


def test_a_guide_of_any_size_keeps_to_its_region() -> None:
    rows = torch.arange(8.0).view(1, 1, 8, 1).expand(1, 1, 8, 6)
    lower_half = torch.tensor([[0.2], [1.0]]).view(1, 1, 2, 1)
    columns = sample_hypercolumns([rows], 100, generator(), lower_half)
    assert columns.shape == (1, 1, 24)
    assert set(columns.flatten().tolist()) == {4.0, 5.0, 6.0, 7.0}
    with pytest.raises(ValueError, match="one guide"):
        sample_hypercolumns([rows], 100, generator(), torch.ones(2, 1, 8, 6))
    with pytest.raises(ValueError, match="0 everywhere"):
        sample_hypercolumns([rows], 100, generator(), torch.zeros(1, 1, 8, 6))


def test_sampling_has_the_gradient_of_what_was_sampled() -> None:
    fine = noise(1, 2, 4, 3).requires_grad_()
    coarse = noise(1, 2, 2, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: sample_hypercolumns([a, b], 7, generator()), (fine, coarse))


def test_cosine_distances_are_those_of_numpy() -> None:
    x, y = noise(2, 6, 5), noise(1, 6, 7, seed=1)
    ours = cosine_distances(directions(x, 1e-9), directions(y, 1e-9))
    X, Y = x.numpy().transpose(0, 2, 1), y.numpy()[0].T
    for i in range(2):
        lengths = np.linalg.norm(X[i], axis=1)[:, None] * np.linalg.norm(Y, axis=1)
        np.testing.assert_allclose(ours[i], 1 - X[i] @ Y.T / lengths, rtol=1e-12, atol=1e-14)


def test_vectors_without_a_direction_are_alike_and_half_a_turn_from_none() -> None:
    x = torch.zeros(1, 4, 2, requires_grad=True)
    y = torch.eye(4)[None, :, :3]
    floor = shortest(y)
    u = directions(x, floor)
    torch.testing.assert_close(cosine_distances(u, u), torch.zeros(1, 2, 2))
    distances = cosine_distances(u, directions(y, floor))
    torch.testing.assert_close(distances, torch.full((1, 2, 3), 0.5))
    (slope,) = torch.autograd.grad(distances.sum(), x)
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize("floor", [0.0, 1e-3])
def test_maps_that_are_nothing_have_finite_directions(floor: float) -> None:
    x = torch.zeros(1, 3, 4, requires_grad=True)
    (slope,) = torch.autograd.grad((directions(x, floor) * torch.randn(1, 3, 4)).sum(), x)
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize("euclidean", [False, True])
@pytest.mark.parametrize(("n", "m"), [(9, 4), (4, 9), (1, 6), (6, 1)])
def test_relaxed_emd_is_that_of_numpy(n: int, m: int, euclidean: bool) -> None:
    x, y = noise(2, 3, n).requires_grad_(), noise(1, 3, m, seed=5)
    ours = relaxed_emd(x, y, 1e-9, euclidean=euclidean)
    for i in range(2):
        X, Y = x.detach().numpy()[i].T, y.numpy()[0].T
        C = 1 - (X / np.linalg.norm(X, axis=1)[:, None]) @ (Y / np.linalg.norm(Y, axis=1)[:, None]).T
        if euclidean:
            C += np.sqrt(((X[:, None] - Y[None]) ** 2).mean(2))
        expected = max(C.min(1).mean(), C.min(0).mean())
        np.testing.assert_allclose(ours[i].item(), expected, rtol=1e-10)
    assert torch.autograd.gradcheck(lambda a: relaxed_emd(a, y, 1e-9, euclidean=euclidean), x)


def test_united_samples_come_in_proportion() -> None:
    one, two, three = (torch.full((1, 2, n), float(n)) for n in (100, 60, 7))
    values = unite([one, two, three], [0.25, 0.75, 0.0], generator())[0, 0].tolist()
    assert set(values) == {100.0, 60.0}
    assert values.count(60.0) == pytest.approx(3 * values.count(100.0), abs=2)
    assert len(values) == pytest.approx(80, abs=1)  # all sixty of the scarcer
    per_canvas = unite([one, one.expand(3, -1, -1)], [0.5, 0.5], generator())
    assert per_canvas.shape == (3, 2, 100)
