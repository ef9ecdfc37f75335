"""Pixels that an optimiser keeps between black and white."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor

from nstbench.config.schema import Config
from nstbench.errors import UserError
from nstbench.modules.member import Evaluation, EvaluationCallback, Member
from nstbench.runs.run import run

Compose = Callable[..., Config]


class Watch(EvaluationCallback):
    """Keeps the picture of every evaluation, as the losses see it."""

    def __init__(self) -> None:
        self.pictures: list[Tensor] = []

    def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
        self.pictures.append(evaluation.picture.clone())

    def furthest(self) -> float:
        """Return how far the furthest pixel of all pictures was outside of black and white."""
        return max(float((x - x.clamp(0, 1)).abs().max()) for x in self.pictures)


def watched(config: Config) -> Watch:
    watch = Watch()
    run(config, callbacks=[watch])
    assert len(watch.pictures) > 5
    return watch


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam", "sgd"])
def test_no_evaluation_sees_a_pixel_outside(compose_config: Compose, optimizer: str) -> None:
    settings = [
        "canvas=pixels",
        "loss/regularizer=none",
        f"optimizer={optimizer}",
        "steps=8",
        "weights.style=1e4",
    ]
    settings += {"lbfgs": [], "adam": ["optimizer.lr=0.5"], "sgd": ["optimizer.lr=1e-3"]}[optimizer]
    assert watched(compose_config(*settings)).furthest() > 0.01
    bounded = compose_config(*settings, "canvas.parametrization.bounded=true", "study=bounded")
    assert watched(bounded).furthest() == 0


def test_pytorchs_own_lbfgs_is_refused(compose_config: Compose) -> None:
    config = compose_config("canvas=pixels", "canvas.parametrization.bounded=true", "optimizer=lbfgs_torch")
    with pytest.raises(UserError, match=r"canvas\.parametrization\.bounded.*optimizer=lbfgs"):
        run(config)
