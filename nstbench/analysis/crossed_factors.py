"""Statistics of pairs of pictures that share pictures: two crossed random factors.

A study crosses content and style pictures, so its pairs are not independent: all pairs with one style
picture are correlated. Tests that take them as independent claim a difference that does not exist up to
55 times in 100 instead of 5. Both factors are random here (Clark, The Language-as-Fixed-Effect Fallacy,
1973), and some pairs of a study may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import stdtr, stdtrit

from nstbench.analysis import statistics as st
from nstbench.analysis.statistics import Floats

LEAST = 3
"""Least number of pictures of a role for conclusions about other pictures of it."""

# Satterthwaite's degrees of freedom are estimates, which are sometimes far too high for few pictures.
# This has little effect at 5 %, but a large one in the tail, where the smallest p of many tests is: of 17
# equal formulations on 3 x 30 pictures, where content makes half of the variance, one is claimed to be
# better in 65 studies of 100; with this bound in none.
_DF_AT_MOST = 1.5


@dataclass(frozen=True)
class Sample:
    """The pairs of pictures of a comparison, as a sample of all pictures.

    Rows of all matrices ``(pairs, k)`` are the pairs, in the order in which the sample was made.

    Attributes:
        levels: Number of different pictures of each role.
        unit: Independent unit: ``pair``, ``content``, ``style``, ``group`` (of pairs that share pictures
            with no other group), or ``crossed``: content and style pictures both, as random factors.
        fixed: Role with too few pictures for conclusions about others, which hold for these only; or None.
        unit_numbers: Number of each pair's unit; not used if ``crossed``.
        factors: Number of each pair's picture, for each role.
    """

    levels: Mapping[str, int]
    unit: str
    fixed: str | None
    unit_numbers: NDArray[np.int_]
    factors: tuple[NDArray[np.int_], ...]

    @classmethod
    def of(cls, pairs: pd.Index) -> Sample:
        """Return the sample of pairs given by an index: by content and style picture, or one of them."""
        roles = [str(name) for name in pairs.names]
        factors = tuple(pd.factorize(pairs.get_level_values(role))[0] for role in roles)
        sizes = [int(codes.max()) + 1 for codes in factors]
        levels = dict(zip(roles, sizes, strict=True))
        more = int(np.argmax(sizes))
        if len(roles) == 1:
            return cls(levels, roles[0], None, factors[0], factors)
        if min(sizes) < LEAST:
            return cls(levels, roles[more], roles[1 - more], factors[more], factors)
        groups, of_group = _groups(*factors)
        if len(pairs) - sum(sizes) + groups == 0:  # the graph of pictures and pairs has no cycles
            names = {sizes[0]: roles[0], sizes[1]: roles[1], len(pairs): "pair"}
            return cls(levels, names.get(groups, "group"), None, of_group, factors)
        return cls(levels, "crossed", None, np.arange(len(pairs)), factors)

    @property
    def size(self) -> int:
        """Number of units; if they are crossed, the smaller number of pictures."""
        return min(self.levels.values()) if self.unit == "crossed" else int(self.unit_numbers.max()) + 1

    def units(self, values: ArrayLike) -> Floats:
        """Return the mean of each unit ``(units, k)``; if crossed, the values of the pairs."""
        x = np.asarray(values, dtype=np.float64)
        if self.unit == "crossed":
            return x
        sums = _sums(x, self.unit_numbers)
        return np.asarray(sums / np.bincount(self.unit_numbers)[:, None])

    def mean(self, values: ArrayLike) -> Floats:
        """Return the mean ``(k,)`` over units."""
        return np.asarray(self.units(values).mean(axis=0))

    def interval(self, values: ArrayLike) -> tuple[Floats, Floats]:
        """Return the ends of the 95 % interval of the mean: bootstrap over units, or by `error` and t."""
        if self.unit != "crossed":
            return st.mean_interval(self.units(values))
        mean = self.mean(values)
        error, df = self.error(values)
        half = stdtrit(df, 1 - st.ALPHA / 2) * error
        return mean - half, mean + half

    def p(self, differences: ArrayLike) -> Floats:
        """Return the two-sided p ``(k,)`` that the mean is 0: signed rank over units, or t by `error`."""
        if self.unit != "crossed":
            return st.signed_rank(self.units(differences))
        mean = np.abs(self.mean(differences))
        error, df = self.error(differences)
        t = np.divide(mean, error, out=np.where(mean > 0, np.inf, 0.0), where=error > 0)
        return np.asarray(2 * stdtr(df, -t))

    def sign_flip(self, differences: ArrayLike) -> Floats:
        """Return p of the sign-flip test over units; NaN for crossed pictures, which are not independent."""
        units = self.units(differences)
        return np.full(units.shape[1], np.nan) if self.unit == "crossed" else st.sign_flip(units)

    def favours(self, differences: ArrayLike, *, higher_is_better: bool) -> NDArray[np.int_]:
        """Return which one the test of `p` finds better: 1 the first, -1 the second, 0 neither."""
        units = self.units(differences)
        if self.unit != "crossed":
            return st.favours(units, higher_is_better=higher_is_better)
        side: NDArray[np.int_] = np.sign(units.mean(axis=0)).astype(int)
        return side if higher_is_better else -side

    def can_be_significant(self, tests: int) -> bool:
        """Return whether a difference can be significant with this number of pictures and tests."""
        return self.unit == "crossed" or st.smallest_p(self.size) * tests <= st.ALPHA

    def error(self, values: ArrayLike) -> tuple[Floats, Floats]:
        """Return the standard error of the mean over crossed pairs and its degrees of freedom, ``(k,)`` each.

        With N pairs, u the deviations from the mean, and U_c their sum over the pairs of a content picture::

            V_C = n_C / (n_C - 1) sum_c U_c^2 / N^2          (V_S alike)
            V   = max(V_C + V_S - V_CS, V_C, V_S),  V_CS = MS_CS / N
            df  = V^2 / (V_C^2 / f_C + V_S^2 / f_S + V_CS^2 / f_CS), within f and 1.5 f, f = min(f_C, f_S)

        MS_CS is the mean square, with f_CS degrees of freedom, of the residuals of an additive model of
        content and style; ``f_C = N^2 / sum_c n_c^2 - 1``. If no pair is missing these are the mean squares
        and degrees of freedom of the analysis of variance: ``V_C = MS_C / N``, ``f_C = n_C - 1``, and
        without the maximum and the bounds the test is Clark's quasi F'. That estimate may be near 0 by
        chance, hence the maximum; V_C + V_S alone would be min F', twice too large without effects of
        pictures.

        Source:
            Clark, The Language-as-Fixed-Effect Fallacy (1973), for the quasi F; Cameron, Gelbach and
            Miller, Robust Inference with Multiway Clustering (2011), for missing pairs and df >= f.
        """
        x = np.asarray(values, dtype=np.float64)
        n = len(x)
        u = x - x.mean(axis=0)
        variances, dfs = [], []
        for codes in self.factors:
            counts = np.bincount(codes)
            k = len(counts)
            variances.append(k / (k - 1) * (_sums(u, codes) ** 2).sum(axis=0) / n**2)
            dfs.append(float(n**2 / (counts**2).sum() - 1))
        residuals, df_residuals = _additive_residuals(u, *self.factors)
        both = (residuals**2).sum(axis=0) / df_residuals / n
        v = np.maximum(variances[0] + variances[1] - both, np.maximum(variances[0], variances[1]))
        parts = variances[0] ** 2 / dfs[0] + variances[1] ** 2 / dfs[1] + both**2 / df_residuals
        least = min(dfs)
        df = np.divide(v**2, parts, out=np.full_like(v, least), where=parts > 0)
        return np.sqrt(v), np.clip(df, least, _DF_AT_MOST * least)


def least_t(tests: int, pictures: int) -> float:
    """Return the least number of standard errors at which a mean over crossed pictures can be significant.

    Args:
        tests: Number of tests that p is corrected for.
        pictures: Smaller number of content and style pictures.
    """
    return float(-stdtrit(_DF_AT_MOST * (pictures - 1), st.ALPHA / 2 / tests))


def _sums(x: Floats, codes: NDArray[np.int_]) -> Floats:
    sums = np.zeros((int(codes.max()) + 1, x.shape[1]))
    np.add.at(sums, codes, x)
    return sums


def _groups(a: NDArray[np.int_], b: NDArray[np.int_]) -> tuple[int, NDArray[np.int_]]:
    """Return the number of groups of pairs that share no picture with other groups, and each pair's group."""
    first = int(a.max()) + 1
    size = first + int(b.max()) + 1
    shares = coo_array((np.ones(len(a)), (a, first + b)), shape=(size, size))
    groups, of_picture = connected_components(shares, directed=False)
    return int(groups), pd.factorize(of_picture[a])[0]


def _additive_residuals(u: Floats, a: NDArray[np.int_], b: NDArray[np.int_]) -> tuple[Floats, int]:
    design = np.hstack([np.eye(int(codes.max()) + 1)[codes] for codes in (a, b)])
    basis, sizes, _ = np.linalg.svd(design, full_matrices=False)
    basis = basis[:, sizes > 1e-9 * sizes[0]]
    return u - basis @ (basis.T @ u), len(u) - basis.shape[1]
