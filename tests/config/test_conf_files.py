"""Every file of conf/ composes into a valid configuration and says what it is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from nstbench.config.files import conf_dir, describe, groups
from nstbench.config.instantiate import parameters_of
from nstbench.config.schema import Config, list_settings
from nstbench.training.schema import TrainConfig

ALL_GROUPS = groups(of_training=True)
OPTIONS = [(group, option) for group, options in groups().items() for option in options]
DESCRIBED = [(group, option) for group, options in ALL_GROUPS.items() for option in options]
FILES = sorted(conf_dir().rglob("*.yaml"))


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=[f"{g}={o}" for g, o in OPTIONS])
def test_an_option_composes_and_validates(
    group: str, option: str, compose_config: Callable[..., Config]
) -> None:
    """With no weights on the machine, and no GPU: what is valid does not depend on it."""
    if group.startswith("hydra/"):
        pytest.skip("an option of Hydra's, not of a run's: tests/sweeps")
    extra = ["canvas.start=content"] if group == "loss/content" else []
    config = compose_config(f"{group}={option}", *extra, "steps=7", tiny=False)
    assert config.steps == 7
    assert config.schedule.stages[-1].size == config.size
    section: Any = config
    for part in group.split("/") if group not in {"experiment", "recipe"} else []:
        section = getattr(section, part)
    assert is_dataclass(section) or isinstance(section, dict)


@pytest.mark.parametrize("group", ["loss/style", "loss/regularizer", "logger"])
def test_options_of_these_groups_can_be_combined(group: str, compose_config: Callable[..., Config]) -> None:
    options = [o for o in groups()[group] if o != "none"]
    if group == "loss/regularizer":
        config = compose_config(f"{group}={options[0]}", tiny=False)
        assert [*config.loss.regularizer] == options[:1]
        return
    config = compose_config(f"{group}=[{','.join(options)}]", tiny=False)
    chosen = config.logger if group == "logger" else config.loss.style
    assert len(chosen) >= len(options)


@pytest.mark.parametrize("file", FILES, ids=[str(f.relative_to(conf_dir())) for f in FILES])
def test_a_file_says_what_it_is_for(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    first = text.removeprefix("# @package _global_\n").splitlines()[0]
    assert first.startswith("# ")
    assert len(first) < 110
    assert text.endswith("\n")
    assert "\t" not in text
    assert isinstance(yaml.safe_load(text), dict)


@pytest.mark.parametrize("option", ALL_GROUPS["training"])
def test_an_option_of_a_training_composes_and_validates(
    option: str, compose_training: Callable[..., TrainConfig]
) -> None:
    config = compose_training(f"training={option}", tiny=False)
    assert bool(config.tasks.features) == (config.teacher is not None) == (option == "distilled")


@pytest.mark.parametrize(("group", "option"), DESCRIBED, ids=[f"{g}={o}" for g, o in DESCRIBED])
def test_a_line_about_an_option_fits_the_help(group: str, option: str) -> None:
    assert 3 < len(describe(group, option)) < 100


def test_everything_in_the_schema_has_a_value_in_conf(compose_config: Callable[..., Config]) -> None:
    plain = compose_config(tiny=False).plain
    for name in list_settings():
        node: Any = plain
        for part in name.split("."):
            assert part in node, name
            node = node[part]


def test_options_of_one_group_have_the_same_settings() -> None:
    """Where a section is typed, each option gives all of it: none depends on what stood there before."""
    for name, hint in get_type_hints(Config).items():
        if is_dataclass(hint) and name in groups():
            for option in groups()[name]:
                given = yaml.safe_load((conf_dir() / name / f"{option}.yaml").read_text())
                known = {f.name for f in fields(hint)}
                assert set(given) - {"defaults"} <= known
                assert "defaults" in given or set(given) == known, f"{name}={option}"


def test_encoders_and_losses_show_all_that_can_be_set() -> None:
    """What a class takes stands in its file, so that it can be typed without a +."""
    hidden = {"preprocessing"}  # follows from registered weights
    for group in ("encoder", "loss/content", "loss/style", "loss/regularizer"):
        for option in groups()[group]:
            given = yaml.safe_load((conf_dir() / group / f"{option}.yaml").read_text())
            for node in [given] if group == "encoder" else [given[k] for k in given if k != "defaults"]:
                missing = set(parameters_of(node["_target_"]) or ()) - set(node) - hidden
                assert not missing, f"{group}={option} leaves out {missing}"


def test_groups_and_descriptions_of_a_folder_of_ones_own(tmp_path: Path) -> None:
    for name, text in {
        "config": "a: 1",
        "loss/style/mine": "# my loss\n{}",
        "experiment/paper/fig3": "# @package _global_\n# figure 3\n{}",
        "logger/quiet": "{}",
    }.items():
        file = tmp_path / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert groups(tmp_path) == {"experiment": ["paper/fig3"], "logger": ["quiet"], "loss/style": ["mine"]}
    assert describe("loss/style", "mine", tmp_path) == "my loss"
    assert describe("experiment", "paper/fig3", tmp_path) == "figure 3"
    assert describe("logger", "quiet", tmp_path) == ""
