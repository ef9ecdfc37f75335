"""Pairs that share pictures: the test is that of a known analysis, and claims no more than it may."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nstbench.analysis import statistics as st
from nstbench.analysis.crossed_factors import Sample, least_t


def pairs(*chosen: tuple[int, int]) -> pd.MultiIndex:
    return pd.MultiIndex.from_tuples(chosen, names=["content", "style"])


def grid(contents: int, styles: int, *, without: tuple[int, ...] = ()) -> Sample:
    every = [(c, s) for c in range(contents) for s in range(styles)]
    return Sample.of(pairs(*(pair for place, pair in enumerate(every) if place not in without)))


def simulated(
    sample: Sample, shares: tuple[float, float], columns: int, *, skewed: bool = False
) -> np.ndarray:
    """Return differences of mean 0 and variance 1, with these shares due to content and style."""
    rng = np.random.default_rng(0)

    def draw(rows: int) -> np.ndarray:
        size = (rows, columns)
        return np.asarray(rng.exponential(size=size) - 1 if skewed else rng.normal(size=size))

    of_role = [
        share**0.5 * draw(number)[codes]
        for share, number, codes in zip(shares, sample.levels.values(), sample.factors, strict=True)
    ]
    left: np.ndarray = (1 - sum(shares)) ** 0.5 * draw(len(sample.unit_numbers))
    return left + of_role[0] + of_role[1]


def test_by_hand_an_analysis_of_variance() -> None:
    # 6, plus -3 0 3 by content, -2 0 2 by style, and 1 -1 0, -1 1 0, 0 0 0. Sums of squares: content
    # 3 (9 + 9) = 54 with 2 degrees of freedom, style 3 (4 + 4) = 24 with 2, what is left 4 with 4.
    d = np.array([2, 2, 5, 3, 7, 8, 7, 9, 11.0])[:, None]
    error, df = grid(3, 3).error(d)
    assert error[0] == pytest.approx(((27 + 12 - 1) / 9) ** 0.5)
    assert 38**2 / (27**2 / 2 + 12**2 / 2 + 1**2 / 4) > 3  # Satterthwaite's; at most 1.5 times 2
    assert df[0] == 3
    d = np.array([0, 0, 3, 3, 7, 8, 9, 11, 13.0])[:, None]  # content -5 0 5: 150 with 2, the rest the same
    error, df = grid(3, 3).error(d)
    assert error[0] == pytest.approx(((75 + 12 - 1) / 9) ** 0.5)
    assert df[0] == pytest.approx(86**2 / (75**2 / 2 + 12**2 / 2 + 1**2 / 4))
    assert grid(3, 3).p(d)[0] == pytest.approx(2 * stats.t.sf(d.mean() / error[0], df[0]))
    low, high = grid(3, 3).interval(d)
    assert [low[0], high[0]] == pytest.approx(stats.t.interval(0.95, df[0], d.mean(), error[0]))


@pytest.mark.parametrize("role", [0, 1])
def test_where_one_picture_decides_it_is_the_t_test_of_its_means(role: int) -> None:
    effect = np.random.default_rng(3).normal(0.4, 1.0, size=(6, 4))
    sample = grid(6, 6)
    d = effect[sample.factors[role]]
    np.testing.assert_allclose(sample.p(d), stats.ttest_1samp(effect, 0).pvalue)


def test_the_error_is_never_below_that_of_one_factor_alone() -> None:
    sample = grid(5, 7)
    d = simulated(sample, (0.0, 0.0), 500)
    error, _ = sample.error(d)
    for role in (0, 1):
        means = pd.DataFrame(d).groupby(sample.factors[role]).mean().to_numpy()
        assert (error >= stats.sem(means) * (1 - 1e-9)).all()


SHARES = [(0.0, 0.0), (0.2, 0.0), (0.0, 0.5), (0.2, 0.2), (0.5, 0.2), (0.5, 0.5)]
DESIGNS = {
    "3x3": grid(3, 3),
    "5x5": grid(5, 5),
    "3x10": grid(3, 10),
    "10x10": grid(10, 10),
    "4x6 without 7": grid(4, 6, without=(0, 5, 9, 10, 14, 17, 20)),
}


@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("design", DESIGNS)
def test_a_difference_that_does_not_exist_is_claimed_at_most_6_times_in_100(
    design: str, shares: tuple[float, float]
) -> None:
    sample = DESIGNS[design]
    assert sample.unit == "crossed"
    d = simulated(sample, shares, 4000)
    assert (sample.p(d) <= 0.05).mean() <= 0.062
    low, high = sample.interval(d)
    assert ((low <= 0) & (high >= 0)).mean() >= 0.938
    # As of independent pairs, the signed ranks would claim far more.
    if design == "5x5" and max(shares) >= 0.2:
        assert (st.signed_rank(d) <= 0.05).mean() > 0.10


def test_with_skewed_effects_it_is_about_that_of_a_t_test() -> None:
    sample = grid(5, 5)
    assert (sample.p(simulated(sample, (0.2, 0.2), 4000, skewed=True)) <= 0.05).mean() <= 0.06
    of_few = simulated(sample, (0.5, 0.5), 4000, skewed=True)  # sums of ten skewed numbers, nothing else
    assert (sample.p(of_few) <= 0.05).mean() <= 0.10


@pytest.mark.parametrize(("design", "least"), [("5x5", 0.7), ("10x10", 0.85), ("3x10", 0.5)])
def test_a_difference_that_exists_is_found(design: str, least: float) -> None:
    sample = DESIGNS[design]
    contents, styles = sample.levels.values()
    error = (0.2 / contents + 0.2 / styles + 0.6 / (contents * styles)) ** 0.5
    d = simulated(sample, (0.2, 0.2), 2000) + 3.5 * error  # with known variances: 94 in 100
    assert (sample.p(d) <= 0.05).mean() > least


@pytest.mark.parametrize("design", ["3x3", "3x10", "5x5"])
def test_of_17_equal_formulations_on_shared_pictures_a_winner_is_seldom_claimed(design: str) -> None:
    sample = DESIGNS[design]
    first, second = np.triu_indices(17, 1)
    studies = 200
    x = simulated(sample, (0.5, 0.2), 17 * studies).reshape(-1, 17, studies)
    claimed = sum((st.holm(sample.p(x[:, first, k] - x[:, second, k])) <= 0.05).any() for k in range(studies))
    assert claimed / studies <= 0.05


def test_what_the_unit_is() -> None:
    assert grid(3, 3).unit == "crossed"
    assert grid(1, 8).unit == "style"
    assert grid(1, 8).fixed == "content"
    assert (grid(8, 2).unit, grid(8, 2).fixed) == ("content", "style")
    own = Sample.of(pairs(*((k, k) for k in range(7))))
    assert (own.unit, own.size, own.fixed) == ("pair", 7, None)
    nested = Sample.of(pairs(*((k // 3, k) for k in range(12))))  # each content with its own styles
    assert (nested.unit, nested.size) == ("content", 4)
    chains = Sample.of(
        pairs(*((2 * k + a, 2 * k + b) for k in range(6) for a, b in ((0, 0), (0, 1), (1, 1))))
    )
    assert (chains.unit, chains.size) == ("group", 6)
    assert Sample.of(pd.Index(list("abc"), name="style")).unit == "style"


def test_independent_units_have_the_signed_rank_test_and_the_bootstrap_of_their_means() -> None:
    d = np.random.default_rng(0).normal(0.5, 1.0, size=(16, 3))
    sample = grid(2, 8)
    of_style = d.reshape(2, 8, 3).mean(axis=0)
    np.testing.assert_allclose(sample.p(d), st.signed_rank(of_style))
    np.testing.assert_allclose(sample.sign_flip(d), st.sign_flip(of_style))
    np.testing.assert_allclose(sample.interval(d), st.mean_interval(of_style))
    assert sample.can_be_significant(3)
    assert not sample.can_be_significant(136)
    assert np.isnan(grid(3, 3).sign_flip(d[:9])).all()


def test_equal_things_differ_by_nothing_and_a_constant_difference_is_certain() -> None:
    sample = grid(4, 4)
    d = np.zeros((16, 2))
    d[:, 1] = 0.25
    assert sample.p(d).tolist() == [1.0, 0.0]
    np.testing.assert_allclose(sample.interval(d), [[0, 0.25], [0, 0.25]])
    assert sample.favours(d, higher_is_better=False).tolist() == [0, -1]


def test_how_large_a_difference_must_be_is_where_p_is_significant() -> None:
    assert 2 * stats.t.sf(least_t(1, 10), 13.5) == pytest.approx(0.05)
    assert 136 * 2 * stats.t.sf(least_t(136, 3), 3) == pytest.approx(0.05)
