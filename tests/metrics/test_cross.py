"""Cross-evaluation: what every formulation says of a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from nstbench.config.files import formulations
from nstbench.config.schema import Config
from nstbench.encoders.random import RandomVGG
from nstbench.errors import UserError
from nstbench.metrics.base import Subject, Unavailable
from nstbench.metrics.cross import OTHERS, CrossEvaluation
from nstbench.metrics.evaluate import judge
from nstbench.runs.run import run

JUDGE = {"_target_": "nstbench.encoders.random.RandomVGG", "shape": "vgg11", "width": 0.0625, "seed": 9}
ALL = sorted(formulations("style"))


def waves(period: float, size: int = 48, colour: float = 1.0) -> Tensor:
    """A picture of stripes."""
    x = torch.arange(size) / period * 2 * torch.pi
    grey = (0.5 + 0.5 * torch.sin(x[None] + x[:, None] / 3)).expand(size, size)
    return torch.stack([grey, colour * grey, 1 - grey])[None]


STYLE, CONTENT = waves(5), waves(17, colour=0.3)


def judged(picture: Tensor, **settings: object) -> Mapping[str, float | Unavailable]:
    metric = CrossEvaluation(JUDGE, **{"formulations": ALL, **settings})  # type: ignore[arg-type]
    optimized = RandomVGG("vgg11", width=0.0625, seed=1)
    return metric(Subject(picture, CONTENT, [STYLE], [1.0], optimized, ("gram",)))


def test_the_style_is_0_and_the_content_1_to_every_formulation() -> None:
    style, content = judged(STYLE), judged(CONTENT)
    assert set(style) == {*ALL, OTHERS}
    for name in ALL:
        assert style[name] == pytest.approx(0, abs=1e-4), name
        assert content[name] == pytest.approx(1), name


def test_a_picture_nearer_to_the_style_scores_better() -> None:
    near = judged(0.8 * STYLE + 0.2 * CONTENT)
    far = judged(0.1 * STYLE + 0.9 * CONTENT)
    for name in ALL:
        assert near[name] < far[name], name


def test_the_mean_over_others_leaves_out_what_was_optimised() -> None:
    scores = judged(0.5 * STYLE + 0.5 * CONTENT)
    others = [float(scores[name]) for name in ALL if name != "gram"]  # type: ignore[arg-type]
    assert scores[OTHERS] == pytest.approx(sum(others) / len(others))


def test_the_judge_is_never_the_optimised_encoder() -> None:
    metric = CrossEvaluation(JUDGE)
    with pytest.raises(Unavailable, match="choose another"):
        metric(Subject(STYLE, CONTENT, [STYLE], [1.0], RandomVGG("vgg11", width=0.0625, seed=9)))


def test_a_formulation_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match="gram"):
        CrossEvaluation(JUDGE, formulations=["grma"])


def test_a_judged_texture_is_held_against_noise() -> None:
    metric = CrossEvaluation(JUDGE, formulations=["gram"])
    noise = torch.rand(STYLE.shape, generator=torch.Generator().manual_seed(0))
    scores = metric(Subject(noise, None, [STYLE], [1.0], RandomVGG("vgg11", width=0.0625, seed=1)))
    assert scores["gram"] == pytest.approx(1)


def test_every_formulation_finds_the_content_farther_from_the_style_than_the_style_itself() -> None:
    metric = CrossEvaluation(JUDGE)
    metric(Subject(STYLE, CONTENT, [STYLE], [1.0], RandomVGG("vgg11", width=0.0625, seed=1)))
    assert len(metric._ends) == len(ALL)
    for key, (of_style, of_content) in metric._ends.items():
        assert of_content > 1.2 * of_style + 0.01, key  # in units of the formulation


def test_what_one_formulation_cannot_judge_the_others_do() -> None:
    node = {"_target_": "nstbench.metrics.cross.CrossEvaluation", "_recursive_": False, "encoder": JUDGE}
    grey = torch.full_like(STYLE, 0.5)
    subject = Subject(STYLE, grey, [grey], [1.0], RandomVGG("vgg11", width=0.0625, seed=1))
    judgement = judge({"cross": node}, subject)
    assert "does not distinguish" in judgement.unavailable["cross/gram"]


def test_a_run_records_what_every_formulation_says(compose_config: Callable[..., Config]) -> None:
    record = run(
        compose_config("metrics=cross", "judge=random", "judge.width=0.0625", "weights.content=0", "steps=20")
    ).record
    named = {*record.metrics, *record.unavailable_metrics}
    assert {f"cross/{name}" for name in [*ALL, OTHERS]} <= named
    assert record.metrics["cross/gram"] < 1
