"""Loss curves that authors have published, and the deviation of a run from them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TOLERANCE = 0.05
"""Largest deviation at a point that counts as the same curve: pictures are resized differently."""

Curve = Sequence[Mapping[int, float]]
"""For each stage, the objective by the number of previous evaluations in that stage."""


@dataclass(frozen=True)
class Published:
    """Loss curves that authors have printed.

    Attributes:
        experiment: Experiment of nstbench that repeats theirs.
        source: Address of their curves.
        ahead: Offset of their iterations: iteration i is the objective after ``i - ahead`` evaluations.
        passes: Description of each pass, and the objective by iteration.
    """

    experiment: str
    source: str
    ahead: int
    passes: Sequence[tuple[str, Mapping[int, float]]]


PUBLISHED = {
    "gatys2016": Published(
        experiment="gatys2016/authors",
        source="github.com/leongatys/PytorchNeuralStyleTransfer, NeuralStyleTransfer.ipynb",
        ahead=2,  # printed in the 49th evaluation as "Iteration: 50": 48 were made before
        passes=(
            (
                "short edge 512",
                {
                    50: 1388532.5,
                    100: 707860.75,
                    150: 538045.44,
                    200: 469374.88,
                    250: 433804.63,
                    300: 411657.56,
                    350: 395248.25,
                    400: 383885.31,
                    450: 375128.75,
                    500: 368493.78,
                },
            ),
            ("short edge 800", {50: 393681.66, 100: 318565.34, 150: 288719.72, 200: 272176.63}),
        ),
    ),
    "gatys2016_torch7": Published(
        experiment="gatys2016/authors_torch7",
        source="github.com/leongatys/NeuralImageSynthesis, BasicStyleTransfer.ipynb",
        ahead=1,
        passes=(
            (
                "512² pixels",
                {
                    50: 1260979.4,
                    100: 656088.6,
                    150: 502277.0,
                    200: 441495.0,
                    250: 408625.5,
                    300: 387915.2,
                    350: 374118.3,
                    400: 363962.4,
                    450: 356502.5,
                    500: 350770.1,
                },
            ),
            ("1024² pixels", {50: 697351.6, 100: 495324.7, 150: 428824.8, 200: 394240.6}),
        ),
    ),
}


@dataclass(frozen=True)
class Point:
    """One point of a published curve, and of ours.

    Attributes:
        of: Description of the pass.
        iteration: Iteration, as printed.
        published: Objective, as printed.
        found: Objective of our run; None if it has no value there.
    """

    of: str
    iteration: int
    published: float
    found: float | None

    @property
    def deviation(self) -> float | None:
        """Relative deviation of our objective from the published one."""
        return None if self.found is None else self.found / self.published - 1


def read_curve(path: Path) -> list[dict[int, float]]:
    """Return the objective of every stage from a run's ``curves.csv``, for `compare`."""
    stages: list[dict[int, float]] = []
    with path.open(encoding="utf-8", newline="") as file:
        began = 0
        for row in csv.DictReader(file):
            evaluation = int(row["evaluation"])
            while len(stages) <= int(row["stage"]):
                stages.append({})
                began = evaluation
            stages[-1].setdefault(evaluation - began, float(row["loss/total"]))
    return stages


def compare(published: Published, curve: Curve) -> list[Point]:
    """Return every published point beside the run's objective at the same evaluation."""
    points = []
    for stage, (name, totals) in enumerate(published.passes):
        ours = curve[stage] if stage < len(curve) else {}
        for iteration, total in totals.items():
            points.append(Point(name, iteration, total, ours.get(iteration - published.ahead)))
    return points


def reproduced(points: Sequence[Point], tolerance: float = TOLERANCE) -> bool:
    """Return whether the published curve is reproduced: all points present and within ``tolerance``."""
    return all(p.deviation is not None and abs(p.deviation) <= tolerance for p in points)


def verdict(points: Sequence[Point], tolerance: float = TOLERANCE) -> str:
    """Return sentences on whether the published curve is reproduced, and on the deviation."""
    known = [(abs(p.deviation), p) for p in points if p.deviation is not None]
    if len(known) < len(points):
        missing = len(points) - len(known)
        return f"Not verified: the run has no value at {missing} of {len(points)} points."
    worst, at = max(known, key=lambda pair: pair[0])
    largest = f"the largest deviation is {at.deviation:+.1%}, at {at.of}, iteration {at.iteration}"
    if worst <= tolerance:
        return f"Reproduced: all {len(points)} points are within {tolerance:.1%}; {largest}."
    off = sum(deviation > tolerance for deviation, _ in known)
    sentences = (
        f"Not reproduced: {off} of {len(points)} points are off by more than {tolerance:.1%}; {largest}."
    )
    ratios = [1 + p.deviation for p in points if p.deviation is not None]
    if max(ratios) <= (1 + tolerance) ** 2 * min(ratios):
        middle = sorted(ratios)[len(ratios) // 2]
        sentences += (
            f" All are about {middle:.3g} times the published: a factor of the weights or formulas differs."
        )
    return sentences
