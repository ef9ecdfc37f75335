"""The weights in the package: that they are the ones the card describes, and that they are any good."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from nstbench.encoders.base import Encoder
from nstbench.encoders.calibration import calibration_photographs
from nstbench.encoders.procedural.encoder import ProceduralVGG
from nstbench.encoders.procedural.weights import IN_PACKAGE, SHIPPED
from nstbench.encoders.random import RandomVGG
from nstbench.encoders.vgg import VGG
from nstbench.training.schema import TrainConfig
from nstbench.training.textures import texture
from nstbench.training.train import settings_of_weights

CARD = Path(__file__).resolve().parents[2] / "docs" / "procedural_encoder.md"
UNSEEN = range(5000, 5024)  # programs that no training drew


@pytest.fixture(scope="module")
def shipped() -> ProceduralVGG:
    return ProceduralVGG()


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Four pictures of each unseen texture: ``(programs, 4, 3, 96, 96)``."""
    drawn = [[texture(n).picture((9, n, k), 96) for k in range(4)] for n in UNSEEN]
    return torch.from_numpy(np.array(drawn)).permute(0, 1, 4, 2, 3).float() / 255


def test_the_file_is_small_half_precision_and_the_one_on_the_card(shipped: ProceduralVGG) -> None:
    assert SHIPPED.stat().st_size <= 8_000_000
    with safe_open(SHIPPED, "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    assert shipped.weights_sha256 in CARD.read_text(encoding="utf-8")


def test_it_was_made_by_the_command_on_the_card(compose_training: Callable[..., TrainConfig]) -> None:
    with safe_open(SHIPPED, "pt") as file:
        made_by = json.loads(file.metadata()["nstbench"])
    assert made_by["config"] == settings_of_weights(compose_training(tiny=False))


@torch.no_grad()
def test_channels_are_alive_and_of_one_scale(shipped: ProceduralVGG, pictures: Tensor) -> None:
    layers = [layer for layer in shipped.layers if layer.startswith("relu")]
    for layer, f in shipped(pictures[:, 0], layers).items():
        rms = f.square().mean((0, 2, 3)).sqrt()
        assert float((rms > 0.05).float().mean()) > 0.9, layer
        assert 0.5 < float(rms.square().mean().sqrt()) < 2, layer


@torch.no_grad()
def test_it_knows_unseen_textures_better_than_random_weights(
    shipped: ProceduralVGG, pictures: Tensor
) -> None:
    """Which texture is a new picture of? The one whose other pictures have the nearest channel means."""
    assert found(shipped, pictures) > found(RandomVGG(), pictures) + 0.1
    assert found(shipped, pictures) > 0.6  # chance is 1 in 24


def found(encoder: Encoder, pictures: Tensor) -> float:
    n, per = pictures.shape[:2]
    # Without colour: it would give most textures away to anyone.
    grey = pictures.mean(2, keepdim=True).expand_as(pictures)
    means = encoder(grey.flatten(0, 1), ["relu4_1"])["relu4_1"].mean((2, 3)).view(n, per, -1)
    means = torch.nn.functional.normalize(means - means.mean((0, 1)), dim=-1)
    right = 0
    for k in range(per):
        others = means[:, [j for j in range(per) if j != k]].mean(1)
        right += int((torch.cdist(means[:, k], others).argmin(1) == torch.arange(n)).sum())
    return right / (n * per)


def test_the_distilled_file_is_the_one_on_its_card_and_was_made_by_its_command(
    compose_training: Callable[..., TrainConfig],
) -> None:
    file = IN_PACKAGE["distilled"]
    assert file.stat().st_size <= 6_000_000
    assert ProceduralVGG("distilled").weights_sha256 in CARD.with_name("distilled_encoder.md").read_text(
        "utf-8"
    )
    with safe_open(file, "pt") as opened:
        made_by = json.loads(opened.metadata()["nstbench"])
    assert made_by["config"] == settings_of_weights(compose_training("training=distilled", tiny=False))


@torch.no_grad()
def test_the_distilled_features_predict_a_vggs_on_another_photograph(
    real_weights: Callable[[str], Path],
) -> None:
    """By a linear map that is fitted on five others; those of the default encoder predict hardly anything."""
    real_weights("vgg16_hed")
    teacher = VGG("vgg16", "vgg16_hed")
    layer, photographs = "relu3_3", calibration_photographs(128)
    unexplained = {}
    for name in ("shipped", "distilled"):
        maps = ProceduralVGG(name)(photographs, [layer])[layer]
        x = [f.flatten(1).T for f in maps]
        y = [f.flatten(1).T for f in teacher(photographs, [layer])[layer]]
        held = 2  # the cup of coffee
        X, Y = (torch.cat([z for i, z in enumerate(all_) if i != held]).double() for all_ in (x, y))
        ridge = 1e-2 * len(X) * torch.eye(X.shape[1], dtype=torch.float64)
        centre, mean = X.mean(0), Y.mean(0)
        W = torch.linalg.solve((X - centre).T @ (X - centre) + ridge, (X - centre).T @ (Y - mean))
        left = (x[held].double() - centre) @ W + mean - y[held]
        unexplained[name] = float(left.square().mean() / (y[held] - y[held].mean(0)).square().mean())
    assert unexplained["distilled"] < 0.3
    assert unexplained["shipped"] > 0.6
