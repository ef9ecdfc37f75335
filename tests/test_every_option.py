"""Every option in conf/ composes and runs two steps, or says what it lacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import random_features

from nstbench.config.files import conf_dir, groups
from nstbench.config.schema import Config
from nstbench.encoders.efficientnet import Network
from nstbench.encoders.procedural.weights import write_weights
from nstbench.encoders.registry import REGISTRY
from nstbench.runs.run import run
from nstbench.training.network import TextureNet

# Studies of papers are run by test_studies.py: their layers are those of the encoder that ships.
OPTIONS = [
    (group, option)
    for group, options in groups().items()
    for option in options
    if "panels:" not in (conf_dir() / group / f"{option}.yaml").read_text()
]

# What an option cannot do without, beyond the tiny run of the fixtures.
NEEDS: dict[str, list[str]] = {
    "loss/content=none": ["canvas.start=content"],
    "loss/style=none": [],
    "schedule=coarse_to_fine": ["size=192"],
    "schedule=two_sizes": ["size=96"],
    "pictures=own": [],
    "layers=gatys2015_textures": ["encoder.shape=vgg19"],
    "layers=johnson2016": ["encoder.shape=vgg16"],
    "encoder=torchvision": ["encoder.weights=none", "size=96"],
    "encoder=squeezenet": ["size=96"],
    "encoder=alexnet": ["size=96"],
    "experiment=search": ["criterion=loss/total"],
    "recipe=gatys2015_textures/procedural": ["encoder.padding=zeros"],  # too small to be mirrored
    "recipe=li_wand2016/authors": ["loss/style=mrf", "encoder.shape=vgg19"],
    "recipe=li_wand2016/procedural": ["loss/style=mrf", "encoder.shape=vgg19"],
    "recipe=heitz2021/authors": ["encoder.shape=vgg19", "optimizer.max_iter=2"],
    "recipe=heitz2021/procedural": ["encoder.shape=vgg16"],
    "recipe=kolkin2019/authors": ["encoder.shape=vgg16"],
    "trainer=cuda": [],
    "trainer=mps": [],
}
DEVICES = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}


def fake_weights(name: str, folder: Path) -> str:
    """Save a network of the registered architecture with small random weights."""
    if name in {"procedural", "distilled"}:
        file = folder / "encoder.safetensors"
        write_weights(file, TextureNet().folded(), {})
        return str(file)
    file = folder / f"{name}.pth"
    if name == "efficientnet_lite0":
        torch.save(Network("constant").state_dict(), file)
    else:
        torch.save(random_features(REGISTRY[name].architecture), file)
    return str(file)


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=[f"{g}={o}" for g, o in OPTIONS])
def test_an_option_runs_two_steps(
    group: str, option: str, compose_config: Callable[..., Config], tmp_path: Path
) -> None:
    chosen = f"{group}={option}"
    if group == "trainer" and not DEVICES.get(option, True):
        pytest.skip(f"no {option} device here")
    extra = ["steps=2", *NEEDS.get(chosen, [])]
    if group == "encoder" and option not in {"random", "torchvision"}:
        extra += [f"encoder.weights={fake_weights(option, tmp_path)}"]
    tiny = group != "encoder"
    overrides = ["size=48", "metrics=none", "logger=none", "record.progress=false"] if not tiny else []
    config = compose_config(*overrides, chosen, *extra, tiny=tiny)
    result = run(config)
    assert result.record.state == "completed"
    assert result.record.steps >= 2
    assert (result.folder / "canvas.png").stat().st_size > 100
    asked = set(config.metrics)
    told = {*result.record.metrics, *result.record.unavailable_metrics}
    assert {name.split("/")[0] for name in told} == asked


def test_the_groups_are_those_of_the_design() -> None:
    expected = {
        "pictures",
        "encoder",
        "layers",
        "canvas",
        "optimizer",
        "schedule",
        "metrics",
        "logger",
        "trainer",
    }
    expected |= {"loss/content", "loss/style", "loss/regularizer"}
    assert expected <= set(groups())


@pytest.mark.parametrize(
    "name", ["Adadelta", "Adagrad", "AdamW", "NAdam", "RAdam", "ASGD", "Rprop", "Adamax"]
)
def test_anything_in_torch_optim_is_an_optimizer(name: str, compose_config: Callable[..., Config]) -> None:
    target = f"optimizer._target_=torch.optim.{name}"
    result = run(
        compose_config("optimizer=sgd", "~optimizer.momentum", target, "optimizer.lr=0.01", "steps=2")
    )
    assert result.record.state == "completed"


def test_lbfgs_with_a_line_search_counts_its_evaluations(compose_config: Callable[..., Config]) -> None:
    search = [
        "optimizer=lbfgs_torch",
        "optimizer.line_search_fn=strong_wolfe",
        "optimizer.max_iter=5",
        "steps=3",
        "record.curves_every=1",
    ]
    result = run(compose_config(*search))
    assert result.record.steps == 3
    assert result.record.evaluations > 15
    last = (result.folder / "curves.csv").read_text().splitlines()[-1]
    assert last.startswith(f"{result.record.evaluations},3,")
