"""Statistics of paired measurements: intervals, tests, corrections.

A matrix ``(n, k)`` has a row for each unit and a column for each of the k values compared. Units are
independent: pairs of pictures if no two share a picture, else as in `nstbench.analysis.crossed_factors`.
The sample is of pictures: conclusions are about other pictures. Seeds are repeated measurements of one
pair; as independent samples they would overstate the evidence, so they are averaged before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtrit
from scipy.stats import rankdata, wilcoxon

Floats = NDArray[np.float64]

ALPHA = 0.05
_EXACT_UP_TO = 50  # units; above, the normal approximation of the signed-rank test has 3 correct digits
_FLIPS = 10_000


def mean_interval(
    values: ArrayLike, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[Floats, Floats]:
    """Return the ends of the bootstrap interval of the mean over the first axis.

    The expanded percentile interval: quantiles of the means of resampled rows, at
    ``Phi(-sqrt(n / (n - 1)) t_{n-1})`` in place of 2.5 %. The plain percentile interval is too narrow
    by about that factor when n is small (for 20 normal samples it covers 93 %).

    Args:
        values: Values ``(n,)`` or ``(n, k)``; the same rows are drawn in all columns.
        confidence: Fraction of intervals that should contain the true mean.
        resamples: Number of bootstrap samples.
        seed: Seed of the resampling.

    Returns:
        Lower and upper ends, each of the shape of the mean; NaN if n is 1.

    Source:
        Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69 (2015).
    """
    x = np.asarray(values, dtype=np.float64)
    n = len(x)
    if n < 2:
        undefined = np.full(x.shape[1:], np.nan)
        return undefined, undefined.copy()
    # The number of times that each row is drawn: resampled means are then a matrix product.
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    means = (counts / n) @ x
    tail = expanded_tail(n, confidence)
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def expanded_tail(n: int, confidence: float = 0.95) -> float:
    """Return the fraction to cut from each end of the bootstrap distribution of the mean of n samples."""
    t = stdtrit(n - 1, (1 + confidence) / 2)
    return float(ndtr(-math.sqrt(n / (n - 1)) * t))


def win_rate(differences: ArrayLike, *, higher_is_better: bool) -> Floats:
    """Return the fraction of rows of ``(n, k)`` whose difference is an improvement; 0 counts half."""
    d = np.asarray(differences, dtype=np.float64) * (1 if higher_is_better else -1)
    return np.asarray(((d > 0) + 0.5 * (d == 0)).mean(axis=0))


def mean_ranks(values: ArrayLike, *, higher_is_better: bool) -> Floats:
    """Return the mean over rows of ``(n, k)`` of each column's rank in the row; 1 is the best."""
    x = np.asarray(values, dtype=np.float64)
    return np.asarray(rankdata(-x if higher_is_better else x, axis=1).mean(axis=0))


def signed_rank(differences: ArrayLike) -> Floats:
    """Return the two-sided p of Wilcoxon's signed-rank test for each column of ``(n, m)``.

    Exact up to 50 units, with ties too; zeros are dropped (Wilcoxon 1945). A column of zeros has p = 1.
    """
    d = np.asarray(differences, dtype=np.float64)
    p = np.ones(d.shape[1])
    if not len(d):
        return p
    sizes = np.sort(np.abs(d), axis=0)
    plain = (sizes[0] > 0) & (np.diff(sizes, axis=0) > 0).all(axis=0)
    if plain.any():
        p[plain] = wilcoxon(d[:, plain], axis=0, method="exact" if len(d) <= _EXACT_UP_TO else "auto").pvalue
    for column in np.flatnonzero(~plain):
        nonzero = d[d[:, column] != 0, column]
        if 0 < len(nonzero) <= _EXACT_UP_TO:
            p[column] = _signed_rank_with_ties(nonzero)
        elif len(nonzero):
            p[column] = wilcoxon(nonzero).pvalue
    return p


def _signed_rank_with_ties(d: Floats) -> float:
    # The distribution of the sum of the positive ranks, rank by rank; twice the ranks are integers.
    ranks = np.rint(2 * rankdata(np.abs(d))).astype(int)
    ways = np.zeros(ranks.sum() + 1)
    ways[0] = 1
    for rank in ranks:
        ways[rank:] += ways[: len(ways) - rank].copy()
    positive = int(ranks[d > 0].sum())
    tail = min(positive, len(ways) - 1 - positive)
    return min(1.0, float(2 * ways[: tail + 1].sum() / ways.sum()))


def sign_flip(differences: ArrayLike, *, seed: int = 0) -> Floats:
    """Return the two-sided p of the sign-flip permutation test of the mean, per column of ``(n, m)``.

    Exact up to 13 units: all ``2^n`` patterns of signs. Above, 10,000 random ones with a fixed seed, which
    include the observed pattern (Phipson and Smyth 2010).
    """
    d = np.asarray(differences, dtype=np.float64)
    n, m = d.shape
    if 2**n <= _FLIPS:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(_FLIPS, n))
        signs[0] = 1
    observed = np.abs(d.sum(axis=0)) * (1 - 1e-12)  # rounding errors must not exclude the observed one
    p = [
        (np.abs(signs @ d[:, at : at + 256]) >= observed[at : at + 256]).mean(axis=0)
        for at in range(0, m, 256)
    ]
    return np.concatenate(p) if p else np.empty(0)


def holm(p: ArrayLike) -> Floats:
    """Return p corrected for the number of tests: ``max_{j <= i} min(1, (m - j + 1) p_(j))``.

    Source:
        Holm, A Simple Sequentially Rejective Multiple Test Procedure (1979).
    """
    raw = np.asarray(p, dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    steps = raw[order] * (len(raw) - np.arange(len(raw)))
    corrected = np.empty_like(raw)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return corrected


def smallest_p(units: int) -> float:
    """Return the smallest p that the signed-rank and the sign-flip test can reach: ``2 / 2^n``."""
    return min(1.0, 2.0 ** (1 - units))


def units_needed(tests: int, alpha: float = ALPHA) -> int:
    """Return the least number of units for which `smallest_p` times the number of tests is at most alpha."""
    units = max(1, math.floor(1 - math.log2(alpha / max(1, tests))))
    return units if smallest_p(units) * tests <= alpha else units + 1


def favours(differences: ArrayLike, *, higher_is_better: bool) -> NDArray[np.int_]:
    """Return per column of ``(n, m)`` which one the signed ranks find better: 1 the first, -1 the second.

    0 if ranks and mean have opposite signs: a few large differences against many small ones.
    """
    d = np.asarray(differences, dtype=np.float64) * (1 if higher_is_better else -1)
    by_rank = np.sign((np.sign(d) * rankdata(np.abs(d), axis=0)).sum(axis=0))
    by_mean = np.sign(d.mean(axis=0))
    return np.where(by_rank == by_mean, by_rank, 0).astype(int)


TOO_FEW = "too few pictures to say"
INDISTINGUISHABLE = "indistinguishable at this number of pictures"


def verdicts(
    corrected: ArrayLike, side: Sequence[int] | NDArray[np.int_], *, can_be_significant: bool
) -> list[str]:
    """Return the verdict of each of a family of tests on its first against its second, as words.

    Args:
        corrected: Values of p of the whole family after `holm`.
        side: Better one of each couple, from `favours`.
        can_be_significant: Whether there are enough pictures for a difference to be significant.
    """
    p = np.asarray(corrected, dtype=np.float64)
    if not can_be_significant:
        return [TOO_FEW] * len(p)
    words = {1: "better", -1: "worse"}
    return [
        words[int(s)] if each <= ALPHA and s else INDISTINGUISHABLE for each, s in zip(p, side, strict=True)
    ]


def p_text(p: float) -> str:
    """Return ``p=0.012``, or ``p<0.001``."""
    return "p<0.001" if p < 0.001 else f"p={p:.3f}"
