"""Intervals cover, tests agree with SciPy, corrections with a hand, and noise is called noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats

from nstbench.analysis import statistics as st


@pytest.mark.parametrize("n", [5, 20, 60])
def test_the_interval_is_scipys_percentile_interval_at_the_expanded_level(n: int) -> None:
    x = np.random.default_rng(n).gamma(2.0, size=n)
    low, high = st.mean_interval(x)
    level = 1 - 2 * st.expanded_tail(n)
    theirs = stats.bootstrap(
        (x,), np.mean, confidence_level=level, method="percentile", rng=1, n_resamples=10_000
    )
    width = high - low
    assert low == pytest.approx(theirs.confidence_interval.low, abs=0.04 * width)
    assert high == pytest.approx(theirs.confidence_interval.high, abs=0.04 * width)


def test_the_expanded_level_is_that_of_hesterbergs_table() -> None:
    # What Teachers Should Know About the Bootstrap, the adjusted one-sided alpha for 2.5 %.
    assert st.expanded_tail(10) == pytest.approx(0.0086, abs=1e-4)
    assert st.expanded_tail(20) == pytest.approx(0.0159, abs=1e-4)
    assert st.expanded_tail(100_000) == pytest.approx(0.025, abs=1e-4)


@pytest.mark.parametrize("n", [9, 20])
def test_the_interval_of_the_mean_covers_it_as_often_as_it_says(n: int) -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(n, 2000))
    low, high = st.mean_interval(x, resamples=2000)
    coverage = ((low <= 3) & (high >= 3)).mean()
    assert 0.93 <= coverage <= 0.97


def test_an_interval_is_the_same_each_time_and_of_one_sample_there_is_none() -> None:
    x = np.random.default_rng(0).normal(size=(12, 3))
    np.testing.assert_array_equal(st.mean_interval(x), st.mean_interval(x))
    assert np.isnan(st.mean_interval(x[:1])).all()
    low, high = st.mean_interval(np.full((6, 1), 0.1))
    assert low == pytest.approx(0.1)
    assert high == pytest.approx(0.1)


@pytest.mark.parametrize("n", [1, 2, 9, 30, 80])
def test_the_signed_rank_test_is_scipys(n: int) -> None:
    d = np.random.default_rng(n).normal(0.3, 1.0, size=(n, 7))
    np.testing.assert_allclose(st.signed_rank(d), [stats.wilcoxon(column).pvalue for column in d.T])


def test_with_ties_and_zeros_the_signed_rank_test_counts_all_patterns_of_signs() -> None:
    d = np.random.default_rng(0).integers(-2, 5, size=(9, 12)).astype(float)
    for column, p in zip(d.T, st.signed_rank(d), strict=True):
        nonzero = column[column != 0]
        ranks = stats.rankdata(np.abs(nonzero))
        every = 1 - 2 * ((np.arange(2 ** len(ranks))[:, None] >> np.arange(len(ranks))) & 1)
        centred = np.abs(every @ ranks)
        assert p == pytest.approx((centred >= abs(np.sign(nonzero) @ ranks) - 1e-9).mean())
    assert st.signed_rank(np.zeros((5, 1))) == [1.0]


def test_the_sign_flip_test_is_scipys_permutation_test() -> None:
    d = np.random.default_rng(1).normal(0.5, 1.0, size=(10, 3))
    theirs = stats.permutation_test(
        (d,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", axis=0
    )
    np.testing.assert_allclose(st.sign_flip(d), theirs.pvalue)
    many = np.random.default_rng(2).normal(0.2, 1.0, size=(60, 2))
    np.testing.assert_allclose(st.sign_flip(many), stats.ttest_1samp(many, 0).pvalue, atol=0.02)


def test_holm_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1 is 0.02, 0.03, 0.06, 0.04, and none may fall below
    # the one before.
    np.testing.assert_allclose(st.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(st.holm([0.5, 0.6]), [1.0, 1.0])
    assert len(st.holm([])) == 0


@given(some.lists(some.floats(0, 1), min_size=1, max_size=20))
def test_holm_raises_p_keeps_its_order_and_is_no_harsher_than_bonferroni(p: list[float]) -> None:
    raw, corrected = np.array(p), st.holm(p)
    assert (corrected >= raw).all()
    assert (corrected <= np.minimum(1, len(p) * raw) + 1e-12).all()
    assert (np.diff(corrected[np.argsort(raw, kind="stable")]) >= 0).all()


@pytest.mark.parametrize("tests", [1, 3, 16, 136])
def test_the_units_needed_are_the_fewest_with_which_the_test_can_speak(tests: int) -> None:
    needed = st.units_needed(tests)
    one_sided = np.arange(1.0, needed + 1)[:, None]
    assert st.signed_rank(one_sided)[0] == st.smallest_p(needed)
    assert st.smallest_p(needed) * tests <= 0.05 < st.smallest_p(needed - 1) * tests
    assert st.verdicts([0.01] * tests, [1] * tests, can_be_significant=False) == [st.TOO_FEW] * tests
    assert st.verdicts([0.01] * tests, [-1] * tests, can_be_significant=True) == ["worse"] * tests


def test_two_equal_formulations_are_called_indistinguishable_about_95_percent_of_the_time() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(15, 1000))  # what pictures are hard is common to both
    d = (pictures + rng.normal(size=pictures.shape)) - (pictures + rng.normal(size=pictures.shape))
    side = st.favours(d, higher_is_better=True)
    p = st.signed_rank(d)
    said = [st.verdicts([each], [s], can_be_significant=True)[0] for each, s in zip(p, side, strict=True)]
    assert 0.935 <= said.count(st.INDISTINGUISHABLE) / 1000 <= 0.975
    assert abs(said.count("better") - said.count("worse")) < 30


def test_of_many_equal_formulations_a_winner_is_seldom_claimed() -> None:
    rng = np.random.default_rng(0)
    claimed = 0
    for _ in range(200):
        d = rng.normal(size=(20, 1)) - rng.normal(size=(20, 10))  # ten against one baseline
        claimed += (st.holm(st.signed_rank(d)) <= 0.05).any()
    assert claimed / 200 <= 0.08


def test_wins_ranks_and_sides() -> None:
    x = np.array([[1.0, 2.0, 2.0], [3.0, 1.0, 5.0]])
    np.testing.assert_allclose(st.mean_ranks(x, higher_is_better=False), [1.5, 1.75, 2.75])
    np.testing.assert_allclose(st.mean_ranks(x, higher_is_better=True), [2.5, 2.25, 1.25])
    d = x - x[:, [1]]
    np.testing.assert_allclose(st.win_rate(d, higher_is_better=True), [0.5, 0.5, 0.75])
    outlier = np.array([[1.0], [1.1], [1.2], [1.3], [-9.0]])  # ranks say better, the mean says worse
    assert st.favours(outlier, higher_is_better=True) == [0]
    assert st.favours(outlier[:4], higher_is_better=False) == [-1]
    assert st.verdicts([0.01], [0], can_be_significant=True) == [st.INDISTINGUISHABLE]
