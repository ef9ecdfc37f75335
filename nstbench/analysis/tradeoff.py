"""The trade-off between style and content over weights: fronts and their hypervolumes.

Source: Yeh et al., Improving Style Transfer with Calibrated Metrics (WACV 2020; arXiv 2019), for plots
of effectiveness against coherence; Zitzler and Thiele, Multiobjective Evolutionary Algorithms (1999), for
the hypervolume.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from nstbench.analysis import judges
from nstbench.analysis.comparison import compare_couples, over_pictures
from nstbench.analysis.criteria import higher_is_better
from nstbench.analysis.crossed_factors import Sample
from nstbench.analysis.grouping import PICTURES, Groups, text
from nstbench.analysis.records import Study
from nstbench.analysis.settings import short_names
from nstbench.analysis.statistics import Floats
from nstbench.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Tradeoff:
    """The trade-off of style and content of each compared value, over the other swept settings.

    Attributes:
        by: Compared setting.
        style: Metric of style.
        content: Metric of content.
        style_higher: Whether a higher value of the style metric is better.
        content_higher: Whether a higher value of the content metric is better.
        along: Settings that vary between the points of a front.
        points: Table with a row for each compared value and combination of these settings: of, at
            (``weights.style=10``), style and content (means over pictures and seeds), style_low,
            style_high, content_low, content_high, runs, on_front (of its own value), on_common_front
            (of all values).
        fronts: Table with a row for each compared value, best first: of, hypervolume with its interval low,
            high, and as fractions of the rectangle between the best and the worst corner: share,
            share_low, share_high; points.
        tests: Table of the couples with more than one point each: first, second, difference of
            hypervolumes with its interval, p, verdict.
        reference: Worst style and worst content of all points: the corner of the hypervolumes.
        best: Best style and best content of all points: the opposite corner.
        notes: Sentences on runs that were left out, and warnings.
    """

    by: str
    style: str
    content: str
    style_higher: bool
    content_higher: bool
    along: tuple[str, ...]
    points: pd.DataFrame
    fronts: pd.DataFrame
    tests: pd.DataFrame
    reference: tuple[float, float]
    best: tuple[float, float]
    notes: tuple[str, ...]


def pareto_front(points: ArrayLike) -> NDArray[np.bool_]:
    """Return for each of ``(n, 2)`` points, both criteria to be minimised, whether no other dominates it.

    A point dominates another if it is as good in both and better in one; equal points do not.
    """
    x = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    front = np.zeros(len(x), dtype=bool)
    lowest, first_at_lowest = np.inf, np.nan  # least second criterion so far, and its point
    for place in np.lexsort((x[:, 1], x[:, 0])):
        first, second = x[place]
        front[place] = second < lowest or (second == lowest and first == first_at_lowest)
        if second < lowest:
            lowest, first_at_lowest = second, first
    return front


def hypervolume(points: ArrayLike, reference: Sequence[float]) -> float:
    """Return the area that ``(n, 2)`` points dominate, both criteria to be minimised, up to a corner.

    With the front in order of the first criterion, and ``x_{n+1} = r_1``::

        sum_i (x_{i+1} - x_i) (r_2 - y_i)
    """
    return _hypervolume(np.asarray(points, dtype=np.float64).reshape(-1, 2), reference)[0]


def _hypervolume(x: Floats, reference: Sequence[float]) -> tuple[float, Floats]:
    """Return the hypervolume and its gradient for the points, 0 for those not on the front."""
    gradient = np.zeros_like(x)
    inside = (x < np.asarray(reference)).all(axis=1)
    chosen = np.flatnonzero(inside)[pareto_front(x[inside])]
    order = chosen[np.argsort(x[chosen, 0], kind="stable")]
    widths = np.diff(np.append(x[order, 0], reference[0]))
    heights = reference[1] - x[order, 1]
    gradient[order, 0] = -np.diff(heights, prepend=0.0)
    gradient[order, 1] = -widths
    return float(widths @ heights), gradient


def tradeoff(study: Study, groups: Groups, style: str, content: str) -> Tradeoff:
    """Return the trade-off of two metrics for each compared value.

    Its points vary in the swept settings other than pictures, seed and the compared ones, usually
    ``weights.style``. All points are means over the same pairs of pictures and seeds. The area is that up
    to the worst corner of all points, which is taken as fixed; so it is 0 for a value whose only point is
    the worst in one metric. A hypervolume is not a mean over pairs; its intervals and tests are those of
    its linear part (delta method), which is one number for each pair, as for any metric.

    Raises:
        UserError: If no completed run has a metric, or no pair of pictures has all points.
    """
    for name in (style, content):
        if name not in study.metrics:
            reason = f"no completed run has the metric {name}"
            raise UserError("--tradeoff", f"{style} {content}", reason, did_you_mean(name, study.metrics))
    if style == content:
        reason = "one metric has no trade-off with itself"
        raise UserError("--tradeoff", f"{style} {content}", reason, "Type one of style, one of content.")
    directions = (higher_is_better(study, style), higher_is_better(study, content))
    along = tuple(name for name in groups.key if name not in (*PICTURES, "seed"))
    cells, points, notes = _cells(study, groups, along, (style, content))
    values = [over_pictures(cells[f"metric/{name}"], groups.by) for name in (style, content)]
    sample = Sample.of(values[0].index)
    matrices = [each[points.index].to_numpy(dtype=float) for each in values]
    for role, matrix in zip(("style", "content"), matrices, strict=True):
        low, high = sample.interval(matrix)
        points[role], points[f"{role}_low"], points[f"{role}_high"] = sample.mean(matrix), low, high
    # From here both are to be minimised.
    signs = np.array([-1.0 if higher else 1.0 for higher in directions])
    x = points[["style", "content"]].to_numpy() * signs
    corners = x.max(axis=0), x.min(axis=0)
    points["on_common_front"] = pareto_front(x)
    points["on_front"] = False
    names = list(dict.fromkeys(points["of"]))
    areas, linear = [], []
    for name in names:
        own = (points["of"] == name).to_numpy()
        points.loc[own, "on_front"] = pareto_front(x[own])
        area, gradient = _hypervolume(x[own], corners[0].tolist())
        parts = [(m[:, own] * s - x[own, k]) @ gradient[:, k] for k, (m, s) in enumerate(
            zip(matrices, signs, strict=True))]  # fmt: skip
        areas.append(area)
        linear.append(area + parts[0] + parts[1])
    h = np.column_stack(linear)
    h[:, np.array(areas) == 0] = np.nan  # points at the corner only: the gradient is undefined
    rectangle = float(np.prod(corners[0] - corners[1]))
    fronts = _fronts(names, areas, sample.interval(h), rectangle, points)
    traded = fronts.loc[(fronts["points"] > 1) & (fronts["hypervolume"] > 0), "of"]
    couples = [(str(a), str(b)) for a, b in combinations(traded, 2)]
    tests = compare_couples(sample, h, names, couples, higher_is_better=True).drop(columns="win_rate")
    return Tradeoff(
        by=groups.by,
        style=style,
        content=content,
        style_higher=directions[0],
        content_higher=directions[1],
        along=tuple(short_names(along).values()),
        points=points.reset_index(drop=True)[_COLUMNS],
        fronts=fronts,
        tests=tests,
        reference=(float(corners[0][0] * signs[0]), float(corners[0][1] * signs[1])),
        best=(float(corners[1][0] * signs[0]), float(corners[1][1] * signs[1])),
        notes=(*judges.sentences(study, (style, content)), *notes, *_warnings(groups, along, fronts)),
    )


_COLUMNS = [
    "of", "at", "style", "style_low", "style_high", "content", "content_low", "content_high",
    "runs", "on_front", "on_common_front",
]  # fmt: skip


def _cells(
    study: Study, groups: Groups, along: Sequence[str], metrics: tuple[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Return both metrics by pictures and seed (rows) and point (columns), the points, and notes."""
    columns = [f"metric/{name}" for name in metrics]
    runs = study.runs[
        (study.runs["state"] == "completed") & np.isfinite(study.runs[columns]).all(axis=1)
    ].copy()
    at = pd.Series("", index=runs.index)
    for name, shown in short_names(along).items():
        at = at.where(at == "", at + ", ") + f"{shown}=" + text(runs[name])
    labels = groups.labels[runs.index]
    # Sorted by value, numbers as numbers.
    order = pd.DataFrame({name: _sortable(runs[name]) for name in along}, index=runs.index)
    table = pd.DataFrame({"of": labels, "at": at}).join(order.add_prefix("by "))
    points = table.drop_duplicates(["of", "at"]).sort_values(
        ["of", *(f"by {name}" for name in along)], kind="stable"
    )[["of", "at"]]
    points.index = pd.RangeIndex(len(points))
    number = table.merge(points.reset_index(names="point"), on=["of", "at"], how="left")["point"].to_numpy()
    key = [text(runs[name]) for name in groups.key if name not in along]
    key += [study.metric_settings.loc[runs.index, name].rename(f"judge {name}") for name in metrics]
    by = [*key, pd.Series(number, index=runs.index, name="point")]
    grouped = runs[columns].groupby(by)
    cells = grouped.mean().unstack("point")
    has = cells[columns[0]].notna().sum().reindex(points.index, fill_value=0)
    notes = []
    sparse = points.index[2 * has < has.max()]
    if len(sparse):
        each = ", ".join(f"{_point(points.loc[p])} ({has[p]} of {has.max()})" for p in sparse)
        notes.append(f"Left out, as they have less than half of the combinations: {each}.")
    points = points.drop(index=sparse)
    wide = cells.loc[:, cells.columns.get_level_values("point").isin(points.index)]
    complete = wide.dropna()
    if complete.empty:
        for name in metrics:
            if len(found := judges.judges(study, name)) > 1:
                reason = f"{name} {judges.differing(found)[:-1]}"
                raise UserError("--tradeoff", " ".join(metrics), reason, judges.remedy(study))
        reason = f"no combination of pictures and seed has {' and '.join(metrics)} at all points"
        raise UserError("--tradeoff", " ".join(metrics), reason, "Finish the study first.")
    if dropped := int(wide[columns[0]].notna().to_numpy().sum()) - len(complete) * len(points):
        runs_were = "1 run was" if dropped == 1 else f"{dropped} runs were"
        notes.append(f"{runs_were} left out, as other points lack these pictures or seeds.")
    counts = grouped.size().unstack("point").loc[complete.index]
    points["runs"] = counts[points.index].sum().astype(int)
    return complete, points, notes


def _sortable(column: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce")
    return numbers if numbers.notna().all() else text(column)


def _point(row: pd.Series) -> str:
    return f"{row['of']} at {row['at']}" if row["at"] else str(row["of"])


def _fronts(
    names: Sequence[str],
    areas: Sequence[float],
    interval: tuple[Floats, Floats],
    rectangle: float,
    points: pd.DataFrame,
) -> pd.DataFrame:
    low, high = np.maximum(interval[0], 0), interval[1]
    fronts = pd.DataFrame({"of": names, "hypervolume": areas, "low": low, "high": high})
    for share, column in (("share", "hypervolume"), ("share_low", "low"), ("share_high", "high")):
        fronts[share] = (fronts[column] / rectangle).clip(upper=1) if rectangle > 0 else np.nan
    fronts["points"] = fronts["of"].map(points.groupby("of").size())
    return fronts.sort_values("hypervolume", ascending=False, kind="stable", ignore_index=True)


def _warnings(groups: Groups, along: Sequence[str], fronts: pd.DataFrame) -> list[str]:
    single = fronts.loc[fronts["points"] == 1, "of"]
    if len(single) < len(fronts):
        few = ", ".join(single)
        return [f"One point only, not a trade-off: {few}."] if few else []
    note = "One weight is one point of the trade-off, and hypervolumes of single points are not meaningful."
    if groups.by == "weights.style":
        return [note]
    typed = "weights.style=0.2,2,20,200"
    if groups.by == "loss.style":
        names = [f"[{name.replace('+', ',')}]" if "+" in name else name for name in fronts["of"]]
        if not any(", " in name or name == "none" for name in names):
            typed = f"'loss/style={','.join(sorted(names))}' {typed}"
    return [f"{note} For a front, type nstbench run -m {typed} with the study's other settings."]


def default_metrics(study: Study) -> tuple[str, str] | None:
    """Return a metric of style and one of content that the study has, or None."""
    known = [name for name in study.metrics if name in study.directions]
    style = [name for name in ("cross/others", "gram_distance") if name in known]
    content = [name for name in ("ssim", "ms_ssim", "lpips_vgg", "lpips_alex", "psnr") if name in known]
    return (style[0], content[0]) if style and content else None
