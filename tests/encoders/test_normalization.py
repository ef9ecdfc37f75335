"""The scale that gives a channel a mean activation of 1, estimated from few pictures."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nstbench.encoders.normalization import activation_scale, count_channels

means = st.lists(st.floats(0, 1e3, width=32), min_size=1, max_size=30).map(torch.tensor)


@given(means, st.integers(1, 20), st.floats(0.5, 50))
def test_no_scale_is_more_than_a_few_times_that_of_the_mean_channel(
    means: Tensor, pictures: int, prior: float
) -> None:
    scale = activation_scale(means, pictures, prior)
    if means.mean() > 1e-3:
        assert float(scale.max() * means.mean()) <= (pictures + prior) / prior * 1.001
    assert torch.isfinite(scale).all()
    assert (scale > 0).all()


def test_without_a_prior_it_is_the_papers() -> None:
    torch.testing.assert_close(
        activation_scale(torch.tensor([2.0, 0.5, 0.0]), 6, prior=0), torch.tensor([0.5, 2.0, 1.0])
    )


@pytest.mark.parametrize("mean", [0.01, 1.0, 100.0])
def test_of_many_pictures_it_is_the_papers(mean: float) -> None:
    scale = activation_scale(torch.tensor([mean, 1.0]), 10**7)
    assert float(scale[0]) == pytest.approx(1 / mean, rel=1e-3)


def test_a_channel_with_the_layers_mean_is_scaled_to_one() -> None:
    assert activation_scale(torch.full((4,), 8.0), 12).tolist() == [0.125] * 4


def test_dead_and_rare_channels_are_counted() -> None:
    assert count_channels(torch.tensor([0.0, 0.001, 1.0, 1.0])) == (4, 1, 1)
    assert count_channels(torch.zeros(3)) == (3, 3, 0)
