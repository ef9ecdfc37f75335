"""Sorting, quantiles and the monotone map, against NumPy and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import Tensor

from nstbench.losses.functional.quantiles import ascending, remap, resampled


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def values(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


either_precision = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


@settings(max_examples=30, deadline=None)
@given(of=st.integers(1, 40), to=st.integers(1, 40), seed=st.integers(0, 1000))
def test_quantiles_at_other_numbers_of_positions_are_numpys(of: int, to: int, seed: int) -> None:
    x = ascending(values(2, 3, of, seed=seed))
    levels = (np.arange(to) + 0.5) / to
    expected = np.moveaxis(np.quantile(x.numpy(), levels, axis=-1, method="hazen"), 0, -1)
    np.testing.assert_allclose(resampled(x, to).numpy(), expected, rtol=1e-10, atol=1e-12)


@either_precision
@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 70)),
    rounded=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_a_value_moves_to_the_quantile_of_its_rank(
    dtype: torch.dtype, shape: tuple[int, int, int], rounded: bool, seed: int
) -> None:
    x = values(*shape, seed=seed, dtype=dtype)
    x = x.round() if rounded else x  # many equal values, among them 0 and -0
    Q = ascending(values(*shape, seed=seed + 1, dtype=dtype))
    moved = remap(x, Q, seeded())
    order = np.lexsort((moved.numpy(), x.numpy()), axis=-1)  # among equal values, any order will do
    np.testing.assert_array_equal(np.take_along_axis(moved.numpy(), order, -1), Q.numpy())


@settings(max_examples=30, deadline=None)
@given(positions=st.integers(1, 300), channels=st.integers(1, 6), seed=st.integers(0, 1000))
def test_the_fast_way_on_the_cpu_is_the_general_one(positions: int, channels: int, seed: int) -> None:
    x = (2 * values(2, channels, positions, seed=seed)).round().float()
    Q = ascending(values(1, channels, positions, seed=seed + 1).float())
    fast, general = remap(x, Q, seeded(seed)), remap(x.double(), Q.double(), seeded(seed))
    assert torch.equal(fast.double(), general)


def test_rows_longer_and_shorter_than_a_block_are_all_moved() -> None:
    for shape in ((2, 3, 70_000), (1, 500, 300)):
        x = values(*shape, dtype=torch.float32)
        torch.testing.assert_close(remap(x, ascending(x), seeded()), x, rtol=0, atol=0)


@either_precision
def test_equal_values_are_ranked_in_no_order_of_space_or_of_another_channel(dtype: torch.dtype) -> None:
    side = 64
    x = torch.zeros(1, 2, side, side, dtype=dtype)
    x[..., 1::2] = 1 + values(1, 2, side, side // 2, dtype=dtype).abs()  # half of the map is 0
    Q = torch.linspace(0, 1, side * side, dtype=dtype).expand(1, 2, -1)
    moved = remap(x.flatten(2), Q, seeded()).view(2, side, side)
    tied = moved[:, :, ::2].numpy()
    assert tied.max() < 0.5  # they share the lower half of the distribution
    row, column = np.indices(tied.shape[1:])
    for of_channel in tied:
        assert abs(spearmanr(of_channel.ravel(), row.ravel()).statistic) < 0.08
        assert abs(spearmanr(of_channel.ravel(), column.ravel()).statistic) < 0.08
        assert abs(spearmanr(of_channel[:, :-1].ravel(), of_channel[:, 1:].ravel()).statistic) < 0.08
    assert abs(spearmanr(tied[0].ravel(), tied[1].ravel()).statistic) < 0.08


@either_precision
def test_the_order_of_equal_values_belongs_to_the_draw(dtype: torch.dtype) -> None:
    x = torch.zeros(1, 2, 50, dtype=dtype)
    Q = torch.arange(50, dtype=dtype).expand(1, 2, 50)
    assert torch.equal(remap(x, Q, seeded(1)), remap(x, Q, seeded(1)))
    assert not torch.equal(remap(x, Q, seeded(1)), remap(x, Q, seeded(2)))
    batch = remap(x.expand(3, 2, 50), Q, seeded(1))
    assert torch.equal(batch, remap(x, Q, seeded(1)).expand(3, 2, 50))


def test_what_is_sorted_is_left_as_it_was() -> None:
    x = values(1, 2, 30, dtype=torch.float32)
    before = x.clone()
    ascending(x), remap(x, x, seeded())
    assert torch.equal(x, before)
