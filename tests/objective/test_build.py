"""From the settings of a loss to its term."""

from __future__ import annotations

import pytest

from nstbench.encoders.random import RandomVGG
from nstbench.errors import UserError
from nstbench.objective.build import build_term

GRAM = {"_target_": "nstbench.losses.gram.Gram"}


def layers_of(layers: list[str], shape: str = "vgg19") -> list[str]:
    encoder = RandomVGG(shape, width=1 / 64, normalize=False)  # type: ignore[arg-type]
    return build_term("style", "gram", {**GRAM, "layers": layers}, encoder).layers_needed


def test_a_pattern_stands_for_all_layers_of_a_block_whatever_the_network() -> None:
    assert layers_of(["relu3_*"]) == ["relu3_1", "relu3_2", "relu3_3", "relu3_4"]
    assert layers_of(["relu3_*"], "vgg16") == ["relu3_1", "relu3_2", "relu3_3"]
    assert layers_of(["relu1_2", "relu1_*"]) == ["relu1_2", "relu1_1"]


def test_a_pattern_that_stands_for_none_is_told() -> None:
    with pytest.raises(UserError, match=r"relu6_\*: the encoder has no such layer"):
        layers_of(["relu6_*"])
