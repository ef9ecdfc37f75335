"""A canvas of a batch that turns non-finite fails alone, whatever formulations look at the batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from conftest import with_tiny

from nstbench.cli import main
from nstbench.config.files import groups
from nstbench.config.schema import Role
from nstbench.modules.image_optimization import ImageOptimization
from nstbench.tracking.record import RunRecord

OPTIONS = {role: [o for o in groups()[f"loss/{role}"] if o != "none"] for role in get_args(Role)}
EVERY = [f"loss/{role}=[{','.join(options)}]" for role, options in OPTIONS.items()]
SINGLE = [f"loss/{role}={option}" for role, options in OPTIONS.items() for option in options]
SETTINGS = ["size=48", "steps=4", "canvas.start=noise", "seed=0,1,2", "hydra/launcher=batched"]

Sweep = Callable[..., dict[int, Path]]


@pytest.fixture
def sweep(pair: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Return a function that runs a sweep of three seeds in one batch, and gives their folders.

    The canvas of one of them, if any, is poisoned before the second step.
    """
    training_step = ImageOptimization.training_step

    def run(
        study: str, *settings: str, poisoned: int | None = None, value: float = float("nan")
    ) -> dict[int, Path]:
        sizes = []

        def poisoning(self: ImageOptimization, batch: int, batch_idx: int) -> None:
            sizes.append(len(self.members))
            for row, member in enumerate(self.members):
                if self.global_step == 1 and member.terms[0].seed == poisoned:
                    self.canvas.pixels.data[row, :, 5, 5] = value  # type: ignore[union-attr, index, operator]
            training_step(self, batch, batch_idx)

        monkeypatch.setattr(ImageOptimization, "training_step", poisoning)
        inputs = [f"content={pair['photo']}", f"style={pair['painting']}", f"study={study}"]
        status = main(["run", "-m", *with_tiny(*inputs, *SETTINGS, *settings)])
        assert status == (poisoned is not None)
        assert sizes == ([3, 3, 2, 2] if poisoned is not None else [3, 3, 3, 3])
        return {
            record_of(f.parent).config["seed"]: f.parent for f in Path("outputs", study).glob("*/run.json")
        }

    return run


def record_of(folder: Path) -> RunRecord:
    record = RunRecord.read(folder)
    assert record is not None
    return record


def check(sweep: Sweep, settings: list[str], poisoned: int, value: float) -> None:
    sound = sweep("sound", *settings)
    found = sweep("poisoned", *settings, poisoned=poisoned, value=value)
    for seed, folder in found.items():
        record = record_of(folder)
        if seed == poisoned:
            assert record.state == "failed"
            assert str(record.error).startswith("NonFiniteObjectiveError: the objective became ")
            assert "after 1 evaluations (terms: " in str(record.error)
            continue
        assert record.state == "completed"
        assert (folder / "canvas.png").read_bytes() == (sound[seed] / "canvas.png").read_bytes()
        assert record.final_losses == record_of(sound[seed]).final_losses


@pytest.mark.parametrize(
    ("poisoned", "value"),
    [(1, float("nan")), pytest.param(0, float("inf"), marks=pytest.mark.slow)],
)
def test_of_a_batch_that_all_formulations_look_at_one_canvas_fails_alone(
    sweep: Sweep, poisoned: int, value: float
) -> None:
    check(sweep, EVERY, poisoned, value)


@pytest.mark.slow
@pytest.mark.parametrize("setting", SINGLE)
def test_of_a_batch_that_one_formulation_looks_at_one_canvas_fails_alone(sweep: Sweep, setting: str) -> None:
    check(sweep, [setting], 1, float("nan"))
