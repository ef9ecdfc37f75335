"""What pairs of pictures say about other pictures, where pairs share pictures.

A study crosses content and style pictures, so its pairs are not independent: all pairs with one style
picture lean the same way. Taking them as independent claims a difference that does not exist up to 55
times in 100 instead of 5. Both factors are random here (Clark, The Language-as-Fixed-Effect Fallacy,
1973), and a study may lack some pairs.
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
"""Pictures of a role, below which nothing can be said of other pictures of it."""

# Satterthwaite's degrees of freedom are estimates, and those of few pictures now and then far too high.
# That hardly shows at 5 %, but it does in the tail where the smallest p of many tests is found: of 17
# equal formulations on 3 x 30 pictures, where content makes half of the variance, one is claimed to be
# better in 65 studies of 100; with this bound in none.
_DF_AT_MOST = 1.5


@dataclass(frozen=True)
class Sample:
    """The pairs of pictures of a comparison, as a sample of all pictures.

    Rows of all matrices ``(pairs, k)`` are the pairs, in the order in which the sample was made.

    Attributes:
        levels: number of different pictures of each role.
        unit: what is independent: ``pair``, ``content``, ``style``, ``group`` (of pairs that share pictures
            with no other group), or ``crossed``: content and style pictures both, as random factors.
        fixed: the role of too few pictures to speak of others: claims hold with these; or none.
        of_unit: of each pair, the number of its unit; not used where it is ``crossed``.
        factors: of each role, the number of the picture of each pair.
    """

    levels: Mapping[str, int]
    unit: str
    fixed: str | None
    of_unit: NDArray[np.int_]
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
        if len(pairs) - sum(sizes) + groups == 0:  # no two pictures meet again by another way
            names = {sizes[0]: roles[0], sizes[1]: roles[1], len(pairs): "pair"}
            return cls(levels, names.get(groups, "group"), None, of_group, factors)
        return cls(levels, "crossed", None, np.arange(len(pairs)), factors)

    @property
    def size(self) -> int:
        """Number of units; the smaller number of pictures where they are crossed."""
        return min(self.levels.values()) if self.unit == "crossed" else int(self.of_unit.max()) + 1

    def units(self, values: ArrayLike) -> Floats:
        """Return the mean of each unit ``(units, k)``; of crossed pairs, the pairs themselves."""
        x = np.asarray(values, dtype=np.float64)
        if self.unit == "crossed":
            return x
        sums = _sums(x, self.of_unit)
        return np.asarray(sums / np.bincount(self.of_unit)[:, None])

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
        """Return p of the sign-flip test over units; NaN for crossed pictures, for it takes independence."""
        units = self.units(differences)
        return np.full(units.shape[1], np.nan) if self.unit == "crossed" else st.sign_flip(units)

    def favours(self, differences: ArrayLike, *, higher_is_better: bool) -> NDArray[np.int_]:
        """Return what the test of `p` speaks for: 1 the first, -1 the second, 0 neither."""
        units = self.units(differences)
        if self.unit != "crossed":
            return st.favours(units, higher_is_better=higher_is_better)
        side: NDArray[np.int_] = np.sign(units.mean(axis=0)).astype(int)
        return side if higher_is_better else -side

    def can_say(self, tests: int) -> bool:
        """Tell whether so many pictures can bear out any difference in a family of tests."""
        return self.unit == "crossed" or st.smallest_p(self.size) * tests <= st.ALPHA

    def error(self, values: ArrayLike) -> tuple[Floats, Floats]:
        """Return the standard error of the mean over crossed pairs and its degrees of freedom, ``(k,)`` each.

        With N pairs, u the deviations from the mean, and U_c their sum over the pairs of a content picture::

            V_C = n_C / (n_C - 1) sum_c U_c^2 / N^2          (V_S alike)
            V   = max(V_C + V_S - V_CS, V_C, V_S),  V_CS = MS_CS / N
            df  = V^2 / (V_C^2 / f_C + V_S^2 / f_S + V_CS^2 / f_CS), within f and 1.5 f, f = min(f_C, f_S)

        MS_CS is the mean square, with f_CS degrees of freedom, of what an additive model of content and
        style leaves; ``f_C = N^2 / sum_c n_c^2 - 1``. Where no pair is missing these are the mean squares
        and degrees of freedom of the analysis of variance: ``V_C = MS_C / N``, ``f_C = n_C - 1``, and
        without the maximum and the bounds the test is Clark's quasi F'. That estimate may fall to nothing
        by chance, hence the maximum; V_C + V_S alone would be min F', twice too large if no picture matters.

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
        left, df_left = _additive_residuals(u, *self.factors)
        both = (left**2).sum(axis=0) / df_left / n
        v = np.maximum(variances[0] + variances[1] - both, np.maximum(variances[0], variances[1]))
        parts = variances[0] ** 2 / dfs[0] + variances[1] ** 2 / dfs[1] + both**2 / df_left
        least = min(dfs)
        df = np.divide(v**2, parts, out=np.full_like(v, least), where=parts > 0)
        return np.sqrt(v), np.clip(df, least, _DF_AT_MOST * least)


def least_t(tests: int, pictures: int) -> float:
    """Return from how many standard errors on a mean over crossed pictures is significant, at best.

    Args:
        tests: of the family that p is corrected for.
        pictures: the smaller number of content and style pictures.
    """
    return float(-stdtrit(_DF_AT_MOST * (pictures - 1), st.ALPHA / 2 / tests))


def _sums(x: Floats, codes: NDArray[np.int_]) -> Floats:
    sums = np.zeros((int(codes.max()) + 1, x.shape[1]))
    np.add.at(sums, codes, x)
    return sums


def _groups(a: NDArray[np.int_], b: NDArray[np.int_]) -> tuple[int, NDArray[np.int_]]:
    """Return the number of groups of pairs that share no picture with another group, and each pair's."""
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
