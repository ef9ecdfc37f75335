"""What users of other tools type is answered with the settings of this one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from nstbench.cli import main
from nstbench.cli.composition.overrides import SHORTHANDS, overrides_from
from nstbench.cli.composition.program import RUN
from nstbench.cli.other_tools import find_equivalent, refuse_other_tools
from nstbench.cli.other_tools_table import EQUIVALENTS
from nstbench.config.schema import Config
from nstbench.errors import UserError

# A value of each kind that rows take over, and values that fit none.
VALUES = (
    "0",
    "7",
    "2.5",
    "picture.png",
    "picture.png,other.png",
    "relu3_1",
    "-1",
    "x=[",
    "1e999",
    "",
    "mine",
)


def said(*typed: str) -> str:
    with pytest.raises(UserError) as caught:
        refuse_other_tools(typed, RUN.names())
    return str(caught.value)


def test_no_name_is_our_own() -> None:
    names = [name for row in EQUIVALENTS for name in row.names]
    assert len(names) == len(set(names))
    assert not set(names) & RUN.names()


def test_every_suggestion_can_be_typed(compose_config: Callable[..., Config]) -> None:
    for name in (*VALUES, "other.png", "photo.jpg", "painting.jpg", "start.png", "mask.png"):
        if name.replace(".", "").replace("_", "").isalnum():
            Image.new("RGB", (64, 64)).save(name, format="PNG")
    suggestions = {
        typed
        for row in EQUIVALENTS
        for typed in (row.typed, *row.choices.values(), *map(row.for_value, VALUES))
        if typed and not typed.startswith("-m ")
    }
    # To compose is slow: suggestions about different settings are composed together.
    together: list[dict[str, str]] = []
    for typed in sorted(suggestions):
        settings = dict(override.partition("=")[::2] for override in typed.split())
        for name in settings:
            own = SHORTHANDS.get(name, name) in RUN.names()
            assert own or name.startswith(("optimizer.", "encoder.", "pictures.guides.")), typed
        alone = any(name.startswith(("pictures.guides", "pictures.style_weights")) for name in settings)
        fits = next((t for t in together if not alone and not _sections(t) & _sections(settings)), None)
        if fits is None:
            together.append(settings)
        else:
            fits.update(settings)
    for settings in together:
        overrides = [f"{name}={value}" for name, value in settings.items()]
        if "pictures.style_weights" in settings:
            count = settings["pictures.style_weights"].count(",") + 1
            overrides.append(f"style=[{','.join(['other.png'] * count)}]")
        compose_config("metrics=none", *overrides_from(overrides), tiny=False)


def _sections(settings: dict[str, str]) -> set[str]:
    return {name if name.startswith("loss/") else name.replace("/", ".").split(".")[0] for name in settings}


@pytest.mark.parametrize(
    ("typed", "ours"),
    [
        ("content_weight=5", "Type weights.content=1 "),
        ("style_weight=100", "Type weights.style=20 "),
        ("tv_weight=0", "Type weights.regularizer=0 "),
        ("num_iterations=500", "Type steps=500."),
        ("image_size=512", "Type size=512 "),
        ("image_size=big", "Type size=512 "),
        ("gpu=0", "Type trainer=cuda "),
        ("gpu=-1", "Type trainer=cpu "),
        ("output_image=x.png", "Type output=outputs study=mine (the picture is <output>/<study>"),
        ("init=image", "Type canvas.start=content "),
        ("init=random", "Type canvas.start=noise "),
        ("learning_rate=1", "Type optimizer.lr=1 "),
        ("++style-weight=3", "Type weights.style=20 "),
        ("style_image=a.jpg,b.jpg", "Type style=[a.jpg,b.jpg] "),
        ("content_layers=relu3_1,relu4_2", "Type layers.content=[relu3_1,relu4_2]."),
        ("original_colors=1", "Type colour=luminance."),
        ("avg_decay=0.99", "Leave it out (steps are not averaged here)."),
    ],
)
def test_a_setting_of_another_tool(typed: str, ours: str) -> None:
    assert ours in said(typed)


def test_a_whole_command_line_is_answered_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    typed = ["-content_image", "a.jpg", "--style-weight=100", "-gpu", "-1", "num_iterations=9", "--seed", "3"]
    assert main(["run", *typed]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(
        "nstbench: -content_image a.jpg: this is a setting of other tools, such as neural-style"
    )
    for part in (
        "Type content=a.jpg.",
        "weights.style=20 for --style-weight",
        "trainer=cpu for -gpu",
        "steps=9 for",
    ):
        assert part in err
    assert "seed=3 for --seed" in err
    assert not Path("outputs").exists()


def test_settings_as_flags() -> None:
    assert "--steps 100: settings are typed without dashes. Type steps=100." in said("--steps", "100")
    assert "Type loss/style=gram." in said("--loss/style=gram")


@pytest.mark.parametrize(
    "typed", [["-m", "seed=0,1"], ["--cfg", "job"], ["--dry-run", "size=9"], ["style=a"]]
)
def test_what_is_ours_passes(typed: list[str]) -> None:
    refuse_other_tools(typed, RUN.names())


def test_in_an_experiment_of_ones_own(capfd: pytest.CaptureFixture[str]) -> None:
    Path("own/experiment").mkdir(parents=True)
    Path("own/experiment/mine.yaml").write_text("# @package _global_\nnum_iterations: 500\n")
    assert main(["run", "--config-dir", "own", "experiment=mine"]) == 2
    assert "num_iterations=500: there is no such setting. Type steps=500." in capfd.readouterr().err
    assert find_equivalent("nothing") is None
