"""Runs that keep the content picture's colours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nstbench.config.schema import Config, StageSettings
from nstbench.errors import UserError
from nstbench.modules.member import Evaluation, EvaluationCallback, Member
from nstbench.pictures.colour_control import luminance
from nstbench.pictures.io import read_picture
from nstbench.runs.inputs import (
    content_at,
    content_to_match,
    load_inputs,
    styles_at,
    styles_to_match,
)
from nstbench.runs.plan import plan_stage
from nstbench.runs.run import run

Compose = Callable[..., Config]
CONTROLS = ("histogram", "cholesky", "pca", "symmetric")


class See(EvaluationCallback):
    """Keep what is evaluated."""

    def __init__(self) -> None:
        self.pictures: list[Tensor] = []

    def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
        self.pictures.append(evaluation.picture)


@pytest.mark.parametrize("canvas", ["pixels", "spectral"])
def test_of_luminance_control_the_hues_are_the_contents(compose_config: Compose, canvas: str) -> None:
    see, config = See(), compose_config("colour=luminance", f"canvas={canvas}")
    result = run(config, callbacks=[see])
    content = content_at(load_inputs(config), (36, 48))
    assert content is not None
    # It starts from the content's luminance, and stays grey.
    torch.testing.assert_close(see.pictures[0], luminance(content), rtol=0, atol=1e-4)
    for picture in see.pictures:
        torch.testing.assert_close(picture, luminance(picture), rtol=0, atol=1e-6)
    assert (see.pictures[-1] - see.pictures[0]).abs().max() > 0.02
    written = read_picture(result.folder / "canvas.png")
    chroma, theirs = written - luminance(written), content - luminance(content)
    where = theirs.abs().amax(1) > 0.1
    cosine = torch.nn.functional.cosine_similarity(chroma, theirs, dim=1)[where]
    size = (chroma.norm(dim=1) / theirs.norm(dim=1))[where]
    assert cosine.quantile(0.05) > 0.99  # 8 bits
    assert size.max() < 1.05


def test_of_luminance_control_the_losses_see_grey_pictures_of_one_contrast(compose_config: Compose) -> None:
    config = compose_config("colour=luminance")
    inputs, shape = load_inputs(config), (36, 48)
    content, (style,) = (
        content_to_match(inputs, shape, "luminance"),
        styles_to_match(inputs, shape, [shape], "luminance"),
    )
    assert content is not None
    for picture in (content, style):
        torch.testing.assert_close(picture, luminance(picture), rtol=0, atol=1e-6)
    # But for what lies outside [0, 1] and is cut.
    assert style.mean().item() == pytest.approx(content.mean().item(), abs=0.01)
    assert style.std().item() == pytest.approx(content.std().item(), abs=0.02)


@pytest.mark.parametrize("control", CONTROLS)
def test_the_style_picture_takes_the_contents_colours_at_every_size(
    compose_config: Compose, control: str
) -> None:
    config = compose_config(f"colour={control}")
    inputs = load_inputs(config)
    for size in (24, 48):
        stage = plan_stage(config.pictures, inputs, StageSettings(size, 1, "fp32"))
        content, before = content_at(inputs, stage.shape), styles_at(inputs, stage.style_shapes)[0]
        (style,) = styles_to_match(inputs, stage.shape, stage.style_shapes, config.colour.control)
        assert content is not None
        assert style.shape == before.shape
        assert style.min() >= 0
        assert style.max() <= 1
        far = (before.mean((2, 3)) - content.mean((2, 3))).norm()
        assert (style.mean((2, 3)) - content.mean((2, 3))).norm() < 0.3 * far
        torch.testing.assert_close(content_to_match(inputs, stage.shape, config.colour.control), content)


def test_metrics_compare_with_the_pictures_that_were_given(compose_config: Compose) -> None:
    plain = run(compose_config("metrics=fast", "optimizer=sgd", "optimizer.lr=0"))
    metrics = [
        run(compose_config("metrics=fast", "optimizer=sgd", "optimizer.lr=0", f"colour={c}")).record.metrics
        for c in ("histogram", "luminance")
    ]
    for found in metrics:  # nothing was learnt: the canvas is the content picture
        for name, value in plain.record.metrics.items():
            assert found[name] == pytest.approx(value, rel=0.02), name


@pytest.mark.parametrize("start", ["style", "noise"])
def test_starts_take_the_colours_too(compose_config: Compose, start: str) -> None:
    see = See()
    run(compose_config("colour=luminance", f"canvas.start={start}", "steps=1"), callbacks=[see])
    torch.testing.assert_close(see.pictures[0], luminance(see.pictures[0]), rtol=0, atol=1e-6)
    if start == "style":
        see = See()
        config = compose_config("colour=symmetric", "canvas.start=style", "steps=1")
        run(config, callbacks=[see])
        content = content_at(load_inputs(config), (36, 48))
        assert content is not None
        assert (see.pictures[0].mean((2, 3)) - content.mean((2, 3))).abs().max() < 0.05


def test_a_run_of_luminance_that_was_stopped_ends_with_the_same_bytes(
    compose_config: Compose, killed_at: Callable[[int], Any]
) -> None:
    settings = ["colour=luminance", "schedule=two_sizes", "size=96", "record.checkpoint_every=1"]
    whole = run(compose_config(*settings, "output=whole"))
    with pytest.raises(RuntimeError, match="killed"):
        run(compose_config(*settings, "output=broken"), callbacks=[killed_at(5)])
    continued = run(compose_config(*settings, "output=broken"))
    assert (continued.folder / "canvas.png").read_bytes() == (whole.folder / "canvas.png").read_bytes()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["colour=pca", "pictures.content=null", "loss/content=none"],
            r"colour=pca: .* content picture's, and",
        ),
        (["colour=pca", "pictures.style=null", "loss/style=none"], r"colour=pca: it changes the style pict"),
        (["colour.control=lab"], r"colour\.control=lab: it must be none, luminance"),
    ],
)
def test_colours_that_cannot_be_kept_are_refused(
    compose_config: Compose, overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(compose_config("canvas.start=noise", *overrides))
    assert not Path("outputs").exists()
