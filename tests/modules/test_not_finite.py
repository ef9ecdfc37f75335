"""A first evaluation that is not finite is explained: no optimiser has moved the canvas yet."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import pytorch_lightning as pl
from conftest import with_tiny

from nstbench.cli import main
from nstbench.config.schema import Config
from nstbench.encoders.build import build_encoder
from nstbench.errors import NonFiniteObjectiveError
from nstbench.runs.run import run

Compose = Callable[..., Config]
Scale = Callable[[str, float], None]


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> Scale:
    """Have runs use an encoder of which one convolution's weights are multiplied by a factor."""

    def use(layer: str, factor: float) -> None:
        def altered(node: Any) -> Any:
            encoder = deepcopy(build_encoder(node))
            encoder.get_parameter(f"chain.{layer}.weight").data *= factor
            return encoder

        monkeypatch.setattr("nstbench.runs.preparation.build_encoder", altered)

    return use


def error_of(config: Config, *callbacks: pl.Callback) -> NonFiniteObjectiveError:
    with pytest.raises(
        NonFiniteObjectiveError, match=r"^the objective is \S+ on the initial canvas"
    ) as caught:
        run(config, callbacks=list(callbacks))
    assert "optimizer.lr" not in caught.value.hint or "No optimizer.lr changes this" in caught.value.hint
    return caught.value


@pytest.mark.parametrize("settings", [[], ["blockwise.tile=32"], ["weights.unit=gradient"]], ids=str)
def test_the_first_layer_that_is_not_finite_is_named(
    settings: list[str], compose_config: Compose, scale: Scale
) -> None:
    scale("conv2_1", float("nan"))
    error = error_of(compose_config(*settings))
    assert "(terms: content/features, style/gram)" in str(error)
    assert "the encoder's features are not finite from conv2_1 on" in str(error)
    assert "give other weights of the encoder" in error.hint


def test_features_too_large_for_products_of_them_are_told(compose_config: Compose, scale: Scale) -> None:
    scale("conv1_1", 1e13)
    error = error_of(compose_config("weights.unit=paper"))
    assert "style/gram" in str(error)
    assert "e+1" in str(error)
    assert "products of them exceed the range of float32" in str(error)
    assert "encoder.normalize_activations=true" in error.hint


def test_a_weight_that_is_too_large_is_told(compose_config: Compose) -> None:
    error = error_of(compose_config("weights.style=1e39"))
    assert str(error).endswith("style/gram under its weight exceeds the range of float32")
    assert error.hint == "Give smaller weights"


class Poison(pl.Callback):
    """Make the initial canvas NaN."""

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        module.canvas.pixels.data[0, 0, 0, 0] = float("nan")


def test_a_canvas_that_is_not_finite_is_told(compose_config: Compose) -> None:
    assert str(error_of(compose_config(), Poison())).endswith("the canvas itself is not finite")


def test_the_command_line_says_it_in_one_line_without_a_smaller_learning_rate(
    scale: Scale, pair: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    scale("conv1_1", float("nan"))
    assert main(["run", *with_tiny(f"content={pair['photo']}", f"style={pair['painting']}")]) == 1
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert (
        "not finite from conv1_1 on. No optimizer.lr changes this: give other weights of the encoder." in err
    )
    assert "smaller" not in err


def test_the_hint_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(NonFiniteObjectiveError("what", "do this")))
    assert (str(error), error.hint) == ("what", "do this")
