"""How well textures are told apart: well above chance once that was learnt, about chance before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import pytorch_lightning as pl

from nstbench.runtime.trainer import fit
from nstbench.training.evaluation import held_out_accuracy
from nstbench.training.module import TextureTraining
from nstbench.training.schema import TrainConfig
from nstbench.training.textures.fields import Array

Compose = Callable[..., TrainConfig]
NUMBERS = {"classes": 4, "crop": 32, "pictures": 64, "batch": 32}


def four_textures() -> Array:
    """Noise, stripes one way, stripes the other way, and nearly nothing: 6 pictures of each."""
    rng = np.random.default_rng(0)
    stripes = ((np.arange(48) // 3) % 2 * 200).astype(np.uint8)
    bank = rng.integers(0, 56, (4, 6, 48, 48, 3)).astype(np.uint8)
    bank[0] = rng.integers(0, 256, (6, 48, 48, 1))
    bank[1] += stripes[None, :, None, None]
    bank[2] += stripes[None, None, :, None]
    bank[3] = bank[3] // 8 + 100
    return bank


@pytest.fixture
def module(compose_training: Compose) -> TextureTraining:
    phase = "phases=[{crop: 32, batch: 8, steps: 60}]"
    network = ("network.widths=[8,16,16,16,16]", "learning_rate=0.02")
    config = compose_training("bank.programs=4", "bank.pictures=6", "bank.held_out=2", phase, *network)
    pl.seed_everything(1, verbose=False)
    return TextureTraining(config, four_textures())


def test_training_tells_textures_apart(module: TextureTraining) -> None:
    before = held_out_accuracy(module, **NUMBERS)
    assert (before.classes, before.crop, before.textures, before.pictures) == (4, 32, 3, 64)
    assert all(abs(share - 0.25) < 0.15 for share in before.at.values()), before.at
    module.train()
    fit(module, None, accelerator="cpu", max_steps=60)
    after = held_out_accuracy(module, **NUMBERS)
    assert min(after.at.values()) > 0.5, after.at
    assert held_out_accuracy(module, **NUMBERS) == after
    assert not module.training


def test_only_held_out_pictures_are_looked_at(module: TextureTraining) -> None:
    usual = held_out_accuracy(module, classes=4, crop=32, pictures=32, batch=32)
    module.bank = module.bank.copy()
    module.bank[:, :4] = 0
    assert held_out_accuracy(module, classes=4, crop=32, pictures=32, batch=32) == usual
    module.bank[:, 4:] = 0
    assert held_out_accuracy(module, classes=4, crop=32, pictures=32, batch=32) != usual


def test_fewer_classes_are_told_apart_among_themselves(module: TextureTraining) -> None:
    """An answer outside of those asked for is no answer: of one texture, all is right."""
    assert set(held_out_accuracy(module, classes=1, crop=32, pictures=16, batch=16).at.values()) == {1.0}
