"""A network that learns the feature maps of another one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from nstbench.config.files import conf_dir
from nstbench.encoders.random import RandomVGG
from nstbench.errors import UserError
from nstbench.training import distillation
from nstbench.training.distillation import LAYERS, FeatureMatching, photograph_crops
from nstbench.training.module import TextureTraining
from nstbench.training.schema import TrainConfig
from nstbench.training.textures.bank import open_bank, render
from nstbench.training.train import train
from nstbench.training.validation import validate_training

WIDTHS = (64, 128, 256, 512, 512)
TEACHER = {"_target_": "nstbench.encoders.random.RandomVGG", "shape": "vgg16", "width": 0.0625, "seed": 1}


@pytest.fixture
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Pictures to crop: a grey one, and one that is dark on the left and bright on the right."""
    ramp = torch.arange(200, dtype=torch.uint8).expand(3, 150, 200)
    pictures = [torch.full((3, 150, 200), 128, dtype=torch.uint8), ramp]
    monkeypatch.setattr(distillation, "photographs", lambda: pictures)
    return pictures


def distilling(tmp_path: Path, *overrides: str) -> TrainConfig:
    tiny = ["bank.programs=3", "bank.pictures=2", "bank.size=48", "network.widths=[4,6,8,8,8]"]
    tiny += ["phases=[{crop: 32, batch: 4, steps: 6}]", "logger=none", "trainer=cpu", "trainer.threads=1"]
    tiny += [f"output={tmp_path}", "record.progress=false", "record.curves_every=1"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose("train", overrides=["training=distilled", *tiny, *overrides])
    composed.teacher = TEACHER
    return validate_training(composed)


def test_features_that_are_the_teachers_leave_nothing_unexplained() -> None:
    teacher = RandomVGG(shape="vgg16", width=1.0, seed=1)
    matching = FeatureMatching(teacher, WIDTHS)
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = teacher(pictures, LAYERS)
        for head in matching.heads.values():
            torch.nn.init.dirac_(head.weight)  # the identity
            torch.nn.init.zeros_(head.bias)
        values = matching(maps, pictures)
        assert float(values["features"]) == pytest.approx(0, abs=1e-10)
        for layer, head in matching.heads.items():  # the mean of every channel explains nothing
            torch.nn.init.zeros_(head.weight)
            head.bias.copy_(maps[layer].mean((0, 2, 3)))
        values = matching(maps, pictures)
    assert [float(values[f"unexplained/{layer}"]) for layer in LAYERS] == pytest.approx([1.0] * 9, rel=1e-2)


def test_crops_of_photographs_are_pieces_of_them(few_pictures: list[Tensor]) -> None:
    crops = photograph_crops(32, 32, torch.Generator().manual_seed(0))
    assert crops.shape == (32, 3, 32, 32)
    flat = crops.amax((1, 2, 3)) - crops.amin((1, 2, 3)) < 1e-3
    assert torch.allclose(crops[flat], torch.tensor(128 / 255), atol=1e-3)
    slopes = (crops[~flat][:, 0, 0, -1] - crops[~flat][:, 0, 0, 0]).sign().tolist()
    assert 0 < int(flat.sum()) < 32
    assert {*slopes} == {-1.0, 1.0}  # mirrored, half of them


def test_a_share_of_the_batch_is_photographs(few_pictures: list[Tensor], tmp_path: Path) -> None:
    config = distilling(tmp_path, "photographs=0.5")
    list(render(config.bank, tmp_path, 1))
    batch = TextureTraining(config, open_bank(config.bank, tmp_path)).draw(0)
    none = distilling(tmp_path, "photographs=0.0")
    other = TextureTraining(none, open_bank(none.bank, tmp_path)).draw(0)
    same = [torch.equal(a, b) for a, b in zip(batch["pictures"], other["pictures"], strict=True)]
    assert same == [False, False, True, True]


def test_a_distillation_learns_and_is_an_encoder(few_pictures: list[Tensor], tmp_path: Path) -> None:
    trained = train(distilling(tmp_path, "phases=[{crop: 32, batch: 4, steps: 60}]"))
    lines = (trained.folder / "curves.csv").read_text().splitlines()
    column = lines[0].split(",").index("features")
    values = [float(line.split(",")[column]) for line in lines[1:]]
    assert sum(values[-5:]) < 0.8 * sum(values[:5])
    assert trained.accuracies == []
    assert trained.weights.stat().st_size > 1000


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["tasks.texture=1"], "photographs=0.4: the task of naming textures has no answer"),
        (["tasks.features=0"], "tasks=.*all weights are 0"),
    ],
)
def test_what_does_not_fit_is_told(typed: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        distilling(tmp_path, *typed)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"_target_": "nstbench.encoders.vgg.VGG", "shape": "vgg16", "weights": "vgg16_hed"}, "vgg16_hed"),
        ({**TEACHER, "shape": "vgg11"}, "no such layer"),
    ],
)
def test_a_teacher_that_cannot_be_used_is_told_before_textures_are_drawn(
    teacher: dict[str, object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSTBENCH_WEIGHTS", str(tmp_path / "no_weights"))
    config = distilling(tmp_path / "o")
    config.teacher = teacher
    with pytest.raises(UserError, match=message):
        train(config)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"] == []


def test_without_a_teacher_there_is_nothing_to_match(tmp_path: Path) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose("train", overrides=["tasks.features=1"])
    with pytest.raises(UserError, match=r"there is no teacher.*training=distilled"):
        validate_training(composed)
