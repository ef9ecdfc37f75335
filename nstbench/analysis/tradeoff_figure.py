"""The trade-off between style and content as a figure for a paper."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from nstbench.analysis.tradeoff import Tradeoff, pareto_front
from nstbench.runtime.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Markers and names distinguish the lines without colour, too.
_COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#332288",
    "#8C7A00", "#56B4E9", "#882255", "#E69F00", "#117733",
)  # fmt: skip
_MARKERS = "osD^vPX"
_STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "pdf.fonttype": 42,  # text as text, in a font that journals accept
    "svg.hashsalt": "nstbench",
}
_LINE = 0.145  # inches between names
_INDENT = 0.33  # inches from the axes to the names


def write(t: Tradeoff, folder: Path) -> list[Path]:
    """Write ``tradeoff.png`` and ``tradeoff.pdf`` into a folder atomically; return their paths.

    Raises:
        StorageError: If the folder cannot be written to.
    """
    import matplotlib

    figure = draw(t)
    paths = []
    # Without dates and versions, equal studies give equal files.
    for suffix, metadata in (
        ("png", {"Software": None}),
        ("pdf", {"CreationDate": None, "Producer": None, "Creator": "nstbench"}),
    ):
        drawn = io.BytesIO()
        with matplotlib.rc_context(_STYLE):
            figure.savefig(drawn, format=suffix, dpi=300, metadata=metadata)
        write_bytes(folder / f"tradeoff.{suffix}", drawn.getvalue())
        paths.append(folder / f"tradeoff.{suffix}")
    return paths


def draw(t: Tradeoff) -> Figure:
    """Return the figure: content along x, style along y, a colour, a marker and a name for each value.

    A thin line connects a value's points in the order of its weights, a thick one its front; points not on
    it are hollow. Markers grow with the weight. The area that all points dominate is grey.
    """
    import matplotlib
    from matplotlib.figure import Figure

    names = list(t.fronts["of"])
    longest = max(len(_short(name)) for name in [*names, t.by])
    column = 0.06 * longest + 0.2  # inches, at 7 points
    left, bottom, top, axes_width = 0.62, 0.55, 0.3, 3.8
    width = left + axes_width + _INDENT + column + 0.62
    height = max(3.4, bottom + top + _LINE * (len(names) + 3))
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height))
        rows = height - bottom - top
        axes = figure.add_axes((left / width, bottom / height, axes_width / width, rows / height))
        _draw_common_front(axes, t)
        looks = {
            name: (_COLOURS[k % len(_COLOURS)], _MARKERS[k % len(_MARKERS)])
            for k, name in enumerate(sorted(names))
        }
        for name in reversed(names):  # the best on top
            _draw_one(axes, t, t.points[t.points["of"] == name], *looks[name])
        axes.set_xlabel(f"{_title(t.content)}   ({_better(t.content_higher, '→', '←')})")
        axes.set_ylabel(f"{_title(t.style)}   ({_better(t.style_higher, '↑', '↓')})")
        axes.margins(0.06)
        _draw_direction(figure, axes, t)
        axes.set_title(_weights(t), fontsize=7, color="0.3", loc="left", pad=6)
        axes.set_xlim(axes.get_xlim())  # the names outside must not change the limits
        axes.set_ylim(axes.get_ylim())
        _draw_names(axes, t, looks, axes_width, rows, column)
    return figure


def _better(higher: bool, up: str, down: str) -> str:
    return f"higher is better {up}" if higher else f"{down} lower is better"


def _title(metric: str) -> str:
    known = {"ssim": "SSIM", "ms_ssim": "MS-SSIM", "psnr": "PSNR", "cross/others": "style by the others"}
    return known.get(metric, metric.replace("_", " "))


def _weights(t: Tradeoff) -> str:
    """Return the setting along the lines, with its values: ``weights.style = 2, 20, 200  (…)``."""
    if len(t.along) != 1:
        return ""
    values = list(dict.fromkeys(at.partition("=")[2] for at in t.points["at"]))
    many = f"{values[0]} … {values[-1]}" if len(values) > 6 else ", ".join(values)
    return f"{t.along[0]} = {many}  (in this order, with growing markers)"


def _signs(t: Tradeoff) -> np.ndarray:
    return np.array([-1.0 if t.content_higher else 1.0, -1.0 if t.style_higher else 1.0])


def _draw_one(axes: Axes, t: Tradeoff, points: pd.DataFrame, colour: str, marker: str) -> None:
    few = len(t.fronts) <= 8
    x, y = points["content"].to_numpy(), points["style"].to_numpy()
    axes.plot(x, y, color=colour, linewidth=0.6 if few else 0.4, alpha=0.7, zorder=2)
    front = points[points["on_front"]].sort_values("content")
    axes.plot(front["content"], front["style"], color=colour, linewidth=1.5 if few else 0.9, zorder=2.5)
    sizes = np.linspace(10, 40, len(points)) if len(points) > 1 else np.array([26.0])
    sizes *= 1 if few else 0.7
    on = points["on_front"].to_numpy()
    face = [colour if each else "white" for each in on]
    axes.scatter(x, y, s=sizes, marker=marker, c=face, edgecolors=colour, linewidths=0.8, zorder=3)


def _draw_common_front(axes: Axes, t: Tradeoff) -> None:
    """Shade the area that all points together dominate, up to the worst corner."""
    signs = _signs(t)
    x = t.points[["content", "style"]].to_numpy() * signs
    corner = np.array([t.reference[1], t.reference[0]]) * signs
    front = np.unique(x[pareto_front(x)], axis=0)
    steps = [(front[0, 0], corner[1])]
    for place, (first, second) in enumerate(front):
        until = front[place + 1, 0] if place + 1 < len(front) else corner[0]
        steps += [(first, second), (until, second)]
    outline = np.array([*steps, tuple(corner)]) * signs
    axes.fill(*outline.T, facecolor="0.94", edgecolor="none", zorder=0)
    axes.plot(*outline[:-1].T, color="0.75", linewidth=0.8, zorder=1)
    axes.plot(*(corner * signs), marker="+", color="0.5", markersize=6, zorder=1, clip_on=False)


def _draw_direction(figure: Figure, axes: Axes, t: Tradeoff) -> None:
    """Draw an arrow from the worst corner to where both metrics are better."""
    right, up = (1 if t.content_higher else -1), (1 if t.style_higher else -1)
    from matplotlib.transforms import offset_copy

    corner = (t.reference[1], t.reference[0])
    tail, head, word = (
        offset_copy(axes.transData, figure, x=right * k, y=up * k, units="points") for k in (5, 20, 22)
    )
    axes.annotate(
        "", xy=corner, xycoords=head, xytext=corner, textcoords=tail,
        arrowprops={"arrowstyle": "-|>", "color": "0.4", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0},
    )  # fmt: skip
    axes.annotate(
        "better", xy=corner, xycoords=word, fontsize=7, color="0.4",
        ha="left" if right > 0 else "right", va="center",
    )  # fmt: skip


def _draw_names(
    axes: Axes, t: Tradeoff, looks: dict[str, tuple[str, str]], width: float, height: float, column: float
) -> None:
    """Write the names right of the axes, in the order of the lines' ends, with the hypervolume beside."""
    shares = t.fronts.set_index("of")["share"]
    ends = t.points.loc[t.points.groupby("of", sort=False)["content"].idxmax()].set_index("of")
    to_axes: Callable[[Any], Any] = (axes.transData + axes.transAxes.inverted()).transform
    wanted = {str(name): to_axes((row["content"], row["style"])) for name, row in ends.iterrows()}
    order = sorted(wanted, key=lambda name: float(wanted[name][1]))
    places = spread([float(wanted[name][1]) for name in order], _LINE / height, 1 - 1.6 * _LINE / height)
    at = {k: 1 + inches / width for k, inches in
          (("bend", 0.08), ("end", 0.17), ("marker", 0.23), ("name", _INDENT),
           ("area", _INDENT + column + 0.5))}  # fmt: skip
    write: Callable[..., Any] = lambda x, y, text, **how: axes.text(  # noqa: E731
        x, y, text, fontsize=7, transform=axes.transAxes, **how
    )
    for name, place in zip(order, places, strict=True):
        colour, marker = looks[name]
        x, y = wanted[name]
        on: Any = {"clip_on": False, "transform": axes.transAxes, "color": colour}
        axes.plot([x, at["bend"], at["end"]], [y, place, place], linewidth=0.4, alpha=0.6, zorder=1.5, **on)
        axes.plot([at["marker"]], [place], marker=marker, markersize=4, **on)
        share = f"{shares[name]:.2f}" if np.isfinite(shares[name]) else "–"
        write(at["name"], place, _short(name), va="center", color="0.1")
        write(at["area"], place, share, va="center", ha="right", color="0.1")
    write(at["name"], 1.0, _short(t.by), va="top", color="0.45")
    write(at["area"], 1.0, "hypervolume", va="top", ha="right", color="0.45")


def spread(wanted: Sequence[float], apart: float, top: float) -> list[float]:
    """Return positions near the ascending ``wanted`` ones, at least ``apart`` from one another.

    Positions lie in 0 to ``top`` as long as they fit. Neighbours that are too close become a block around
    their mean.
    """
    blocks: list[list[float]] = []  # [sum of wanted minus offset, number]
    for want in wanted:
        blocks.append([want, 1])
        while len(blocks) > 1 and _start(blocks[-2], apart, top) + blocks[-2][1] * apart > _start(
            blocks[-1], apart, top
        ):
            last = blocks.pop()
            before = blocks[-1]
            before[0] += last[0] - last[1] * before[1] * apart
            before[1] += last[1]
    return [_start(block, apart, top) + k * apart for block in blocks for k in range(int(block[1]))]


def _start(block: list[float], apart: float, top: float) -> float:
    total, number = block
    return max(0.0, min(total / number, top - (number - 1) * apart))


def _short(name: str, most: int = 44) -> str:
    """Return a name of at most ``most`` characters, shortened in the middle: names differ at their ends."""
    half = most // 2
    return name if len(name) <= most else f"{name[: half - 1]}…{name[-half:]}"
