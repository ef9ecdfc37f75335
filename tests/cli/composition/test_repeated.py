from __future__ import annotations

from pathlib import Path

import pytest
from conftest import with_tiny

from nstbench.cli import main
from nstbench.cli.composition.overrides import overrides_from
from nstbench.cli.composition.repeated import refuse_repeated
from nstbench.errors import UserError


@pytest.mark.parametrize(
    ("typed", "setting", "hint"),
    [
        (["steps=10", "size=64", "steps=20"], "steps=20", "Type one of them: steps=10 or steps=20"),
        (["encoder=vgg19", "encoder=random"], "encoder=random", "-m encoder=vgg19,random"),
        (["style=a.png", "pictures.style=b.png"], "pictures.style=b.png", "pictures.style=a.png or"),
        (["+a.b=1", "a.b=2"], "a.b=2", "+a.b=1 or a.b=2"),
        (["++canvas.x=1", "++canvas.x=2"], "canvas.x=2", "++canvas.x=1"),
        (["loss/style=gram", "loss/style=moments"], "loss/style=moments", "-m loss/style=gram,moments"),
        (["seed=1,2", "seed=3"], "seed=3", "-m seed=1,2,3"),
    ],
)
def test_a_setting_that_is_typed_twice(typed: list[str], setting: str, hint: str) -> None:
    with pytest.raises(UserError, match="typed before with another value") as caught:
        refuse_repeated(overrides_from(typed))
    assert str(caught.value).startswith(f"{setting}: ")
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "typed",
    [
        ["steps=10", "steps=10"],
        ["seed=1,2,3", "steps=4"],
        ["optimizer=adam", "optimizer.lr=0.1"],
        ["schedule.stages.0.steps=3", "schedule.stages.1.steps=4"],
        ["~loss.style.gram", "+loss.style.gram={weight: 1}"],
        ["+loss/style=gram", "+loss/style=moments", "loss/style=mmd"],
        ["loss/style@loss.a=gram", "loss/style@loss.b=moments"],
        ["recipe=gatys2016/paper", "encoder.pooling=max"],
    ],
)
def test_what_may_be_typed(typed: list[str]) -> None:
    refuse_repeated(overrides_from(typed))


@pytest.mark.parametrize("command", [["run"], ["run", "-m"], ["run", "--dry-run"], ["train"]])
def test_it_is_one_line_and_nothing_runs(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "output=a", "output=b"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("nstbench: output=b: it was typed before with another value, a. Type one of them: ")
    assert list(tmp_path.iterdir()) == []
    assert "-m" not in err  # the runs of a sweep are in one folder


def test_what_recipes_and_experiments_set_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    typed = with_tiny("recipe=gatys2016/authors", "weights.style=3")
    assert main(["run", *typed, "--cfg", "job"]) == 0
    assert "style: 3" in capsys.readouterr().out
