"""Which encoder judges: chosen while a configuration is composed, and named by the record."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nstbench.config.files import conf_dir
from nstbench.config.schema import Config
from nstbench.downloads.folders import folders_of_weights
from nstbench.encoders.registry import REGISTRY
from nstbench.errors import UserError
from nstbench.runs.run import run
from nstbench.tracking.fingerprint import fingerprint

Compose = Callable[..., Config]
TRAINED = "nstbench.encoders.efficientnet.EfficientNetLite0"
RANDOM = "nstbench.encoders.random.RandomVGG"
EFFICIENTNET = ["encoder=efficientnet_lite0", "metrics=default", "logger=none", "trainer=cpu"]


@pytest.fixture(params=[0, 1], ids=["nstbench's folder", "torch hub's folder"])
def weights_here(request: pytest.FixtureRequest) -> None:
    """A file of the name of the trained judge's weights, where weights are looked for."""
    folder = folders_of_weights()[request.param]
    folder.mkdir(parents=True)
    (folder / REGISTRY["efficientnet_lite0"].file).touch()


def judges(config: Config) -> set[str]:
    nodes = [
        config.judge,
        *(config.metrics[name]["encoder"] for name in ("gram_distance", "content_distance")),
    ]
    assert all(node == config.judge for node in nodes)
    return {node["_target_"] for node in nodes}


def test_without_weights_the_random_network_judges(compose_config: Compose) -> None:
    assert judges(compose_config("metrics=default")) == {RANDOM}


@pytest.mark.usefixtures("weights_here")
def test_with_weights_the_trained_network_judges_unless_the_run_optimises_it(compose_config: Compose) -> None:
    assert judges(compose_config("metrics=default")) == {TRAINED}
    assert judges(compose_config("metrics=default", "judge=random")) == {RANDOM}
    assert judges(compose_config(*EFFICIENTNET, tiny=False)) == {RANDOM}


def test_the_trained_network_judges_where_it_is_asked_for(compose_config: Compose) -> None:
    config = compose_config("metrics=cross", "judge=efficientnet_lite0")
    assert judges(config) == {TRAINED}
    assert config.metrics["cross"]["encoder"] == config.judge


def test_the_file_that_auto_looks_for_is_that_of_the_registry() -> None:
    auto = OmegaConf.to_container(OmegaConf.load(conf_dir() / "judge" / "auto.yaml"), resolve=False)
    assert isinstance(auto, dict)
    option, file, other = auto["judge"].removeprefix("${judge_with:").removesuffix("}").split(",")
    weights = OmegaConf.load(conf_dir() / "judge" / f"{option}.yaml").weights
    assert REGISTRY[weights].file == file
    assert (conf_dir() / "judge" / f"{other}.yaml").is_file()


@pytest.mark.parametrize("typed", [["judge.sede=3"], ["judge._target_=torch.nn.Linear"]])
def test_a_judge_is_checked_though_no_metric_has_one(compose_config: Compose, typed: list[str]) -> None:
    with pytest.raises(UserError, match=r"judge\."):
        compose_config("judge=random", *(f"+{t}" if "sede" in t else t for t in typed))


def test_the_judge_does_not_change_the_picture(compose_config: Compose) -> None:
    configs = [
        compose_config("metrics=default", f"judge={name}") for name in ("random", "efficientnet_lite0")
    ]
    assert len({fingerprint(config.plain, {}) for config in configs}) == 1


def test_a_finished_run_is_judged_again_by_another_judge_and_its_picture_is_kept(
    compose_config: Compose,
) -> None:
    chosen = ["metrics=default", "judge=random", "judge.width=0.0625"]
    first = run(compose_config(*chosen, "judge.seed=1"))
    picture = first.folder / "canvas.png"
    os.utime(picture, (1, 1))
    again = run(compose_config(*chosen, "judge.seed=2"))
    assert again.skipped
    assert again.folder == first.folder
    assert picture.stat().st_mtime == 1
    assert set(again.evaluated) == {"gram_distance", "content_distance"}
    for name in again.evaluated:
        assert again.record.metrics[name] != first.record.metrics[name]
        assert again.record.config["metrics"][name]["encoder"]["seed"] == 2
    assert again.record.config["judge"]["seed"] == 2
    assert again.record.metrics["ssim"] == first.record.metrics["ssim"]
    assert run(compose_config(*chosen, "judge.seed=2")).evaluated == []


def test_the_trained_judge_measures_a_run(
    compose_config: Compose, real_weights: Callable[[str], Path]
) -> None:
    real_weights("efficientnet_lite0")
    record = run(compose_config("metrics=default")).record
    assert record.config["metrics"]["gram_distance"]["encoder"]["_target_"] == TRAINED
    assert record.metrics["gram_distance"] > 0
    assert record.metrics["content_distance"] > 0
