"""The tables and the picture of the study, from its run records.

python experiments/loss_comparison/figure.py outputs/loss_comparison experiments/loss_comparison
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import pandas as pd
from torch import Tensor

from nstbench.analysis.crossed_factors import Sample
from nstbench.pictures.io import read_picture, to_image
from nstbench.pictures.sheet import contact_sheet
from nstbench.pictures.source import load
from nstbench.runtime.files import write_text
from nstbench.tracking.record import RunRecord

Pair = tuple[str, str]
Runs = dict[str, dict[Pair, list[tuple[RunRecord, Path]]]]
"""By formulation and pair of pictures: the runs of all seeds."""


def read(study: Path) -> Runs:
    """Return the completed runs of the study, seeds in order."""
    runs: Runs = defaultdict(lambda: defaultdict(list))
    for folder in sorted(study.iterdir()):
        record = RunRecord.read(folder)
        if record is not None and record.state == "completed":
            pictures = record.config["pictures"]
            (name,) = record.config["loss"]["style"]
            runs[name][pictures["content"], pictures["style"]].append((record, folder))
    return runs


def of_pairs(runs: Runs, name: str, number: Callable[[RunRecord], float]) -> np.ndarray:
    """Return a number of every pair, the mean over seeds: pairs are what was sampled of the world."""
    return np.array([fmean(number(record) for record, _ in of_pair) for of_pair in runs[name].values()])


def interval(values: np.ndarray, pairs: Sequence[Pair]) -> str:
    """Return a mean with its 95 % interval, content and style pictures taken as random."""
    sample = Sample.of(pd.MultiIndex.from_tuples(pairs, names=["content", "style"]))
    (low,), (high,) = sample.interval(values[:, None])
    return f"{values.mean():.2f} ({low:.2f}–{high:.2f})"


def table(runs: Runs) -> str:
    """Return a line per formulation, the best by the others first."""
    measures: dict[str, Callable[[RunRecord], float]] = {
        "by the others ↓": lambda r: r.metrics["cross/others"],
        "SSIM ↑": lambda r: r.metrics["ssim"],
        "colour distance ↓": lambda r: r.metrics["colour_distance"],
        "total variation": lambda r: r.metrics["total_variation"],
    }
    first = next(iter(measures.values()))
    order = sorted(runs, key=lambda name: of_pairs(runs, name, first).mean())
    lines = [f"| optimised | {' | '.join(measures)} | ms per evaluation |", "|---|" + "---:|" * 5]
    for name in order:
        pairs = [*runs[name]]
        cells = [interval(of_pairs(runs, name, number), pairs) for number in measures.values()]
        cost = of_pairs(runs, name, lambda r: 1000 * r.timings["optimize_s"] / r.evaluations)
        lines.append(f"| `{name}` | {' | '.join(cells)} | {np.median(cost):.0f} |")
    return "\n".join(lines)


def matrix(runs: Runs) -> str:
    """Return what every formulation says of the pictures that every other made: a row per optimised one."""
    names = sorted(runs)
    heads = " | ".join(f"`{name}`" for name in names)
    lines = [f"| optimised ↓, judge → | {heads} |", "|---|" + "---:|" * len(names)]
    for name in names:
        cells = []
        for judge in names:
            value = of_pairs(runs, name, lambda r, judge=judge: r.metrics[f"cross/{judge}"]).mean()
            cells.append(f"**{value:.2f}**" if judge == name else f"{value:.2f}")
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def grid(runs: Runs, pairs: Sequence[Pair], cell: int = 112) -> Tensor:
    """Return the sheet: inputs above, then a row per formulation, a column per pair, the first seed."""
    cells = []
    for sources in zip(*pairs, strict=True):  # the contents, then the styles
        cells += [(source.split(":")[1], load(source, setting="figure").pixels) for source in sources]
    for name in sorted(runs):
        cells += [(name, read_picture(runs[name][pair][0][1] / "canvas.png")) for pair in pairs]
    return contact_sheet(cells, columns=len(pairs), cell=cell)


def main(study: Path, folder: Path) -> None:
    """Write grid.jpg and put the tables between their marks in README.md."""
    runs = read(study)
    pairs = sorted({pair for of_name in runs.values() for pair in of_name})
    to_image(grid(runs, pairs)).save(folder / "grid.jpg", quality=85, optimize=True)
    text = (folder / "README.md").read_text(encoding="utf-8")
    for mark, body in (("table", table(runs)), ("matrix", matrix(runs))):
        before, rest = text.split(f"<!-- {mark} -->")
        after = rest.split(f"<!-- /{mark} -->")[1]
        text = f"{before}<!-- {mark} -->\n{body}\n<!-- /{mark} -->{after}"
    write_text(folder / "README.md", text)
    print(f"{sum(len(r) for of_name in runs.values() for r in of_name.values())} runs")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
