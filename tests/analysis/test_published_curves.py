"""The published loss curves, and what is said of recorded ones beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nstbench.analysis.published_curves import PUBLISHED, Published, compare, read_curve, reproduced, verdict

CURVES = list(PUBLISHED.values())


def recorded(published: Published, factor: float = 1.0) -> list[dict[int, float]]:
    """Return a curve that falls as the published one does, with a value at every evaluation."""
    stages = []
    for _, totals in published.passes:
        knots = {iteration - published.ahead: total for iteration, total in totals.items()}
        stages.append({e: factor * (knots.get(e) or 1e9) for e in range(max(totals))})
    return stages


@pytest.mark.parametrize("published", CURVES)
def test_the_published_curve_itself_is_reproduced(published: Published) -> None:
    points = compare(published, recorded(published))
    assert len(points) == 14
    assert [p.iteration for p in points[:10]] == [*range(50, 501, 50)]
    assert {p.deviation for p in points} == {0.0}
    assert reproduced(points, tolerance=1e-9)
    assert verdict(points).startswith("Reproduced: all 14 points are within 5.0%;")


def test_what_stands_in_the_authors_notebooks() -> None:
    first, second = (totals for _, totals in PUBLISHED["gatys2016"].passes)
    assert (first[50], first[500], second[200]) == (1388532.5, 368493.78, 272176.63)
    first, second = (totals for _, totals in PUBLISHED["gatys2016_torch7"].passes)
    assert (first[50], first[500], second[200]) == (1260979.4, 350770.1, 394240.6)
    for published in CURVES:
        for _, totals in published.passes:
            assert sorted(totals.values(), reverse=True) == list(totals.values())


@pytest.mark.parametrize(("factor", "as_said"), [(1.02, "+2.0%"), (0.98, "-2.0%")])
def test_two_percent_off_is_reproduced_unless_less_is_tolerated(factor: float, as_said: str) -> None:
    points = compare(CURVES[0], recorded(CURVES[0], factor))
    assert points[3].deviation == pytest.approx(factor - 1)
    assert reproduced(points)
    assert f"the largest deviation is {as_said}, at short edge " in verdict(points)
    assert not reproduced(points, tolerance=0.01)
    assert verdict(points, tolerance=0.01).startswith(
        "Not reproduced: 14 of 14 points are off by more than 1.0%"
    )


def test_a_recipe_with_other_constants_shows_as_a_factor() -> None:
    """Half the weights give half the curve, to L-BFGS."""
    points = compare(CURVES[0], recorded(CURVES[0], 0.5))
    assert not reproduced(points)
    assert "All are about 0.5 times the published: a factor of the weights" in verdict(points)


def test_another_recipe_is_not_a_factor() -> None:
    curve = recorded(CURVES[0])
    curve[0] = {
        evaluation: 2 * total if evaluation < 250 else total for evaluation, total in curve[0].items()
    }
    said = verdict(compare(CURVES[0], curve))
    assert said.startswith(
        "Not reproduced: 5 of 14 points are off by more than 5.0%; the largest deviation is +100"
    )
    assert "a factor of" not in said


def test_one_iteration_later_is_another_curve() -> None:
    """The PyTorch notebook prints "Iteration: 50" in its 49th evaluation."""
    curve = recorded(CURVES[0])
    assert curve[0][48] == 1388532.5
    late = [{evaluation + 1: total for evaluation, total in stage.items()} for stage in curve]
    assert not reproduced(compare(CURVES[0], late))


def test_a_run_that_ends_early_verifies_nothing() -> None:
    first, second = recorded(CURVES[0])
    points = compare(CURVES[0], [first])
    assert not reproduced(points)
    assert verdict(points) == "Not verified: the run has no value at 4 of 14 points."
    points = compare(CURVES[0], [{e: t for e, t in first.items() if e < 400}, second])
    assert [p.iteration for p in points if p.deviation is None] == [450, 500]


def test_evaluations_are_counted_from_the_start_of_each_stage(tmp_path: Path) -> None:
    file = tmp_path / "curves.csv"
    rows = ["0,0,0,0.1,9.0,9", "1,1,0,0.2,8.0,8", "2,2,1,0.3,7.0,7", "3,3,1,0.4,6.5,6", "4,4,1,0.5,6.0,6"]
    file.write_text("evaluation,step,stage,seconds,loss/total,loss/a\n" + "\n".join(rows) + "\n")
    assert read_curve(file) == [{0: 9.0, 1: 8.0}, {0: 7.0, 1: 6.5, 2: 6.0}]
