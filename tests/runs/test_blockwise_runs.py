"""Runs whose pictures are encoded in blocks."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import with_tiny
from PIL import Image

from nstbench.callbacks.checkpoint import read_checkpoint
from nstbench.cli import main
from nstbench.config.schema import Config
from nstbench.errors import UserError
from nstbench.runs.inputs import load_inputs
from nstbench.runs.run import Result, run
from nstbench.tracking.fingerprint import fingerprint

Compose = Callable[..., Config]
# L-BFGS lets roundings grow; so does Adam where it divides gradients of next to nothing by themselves.
ADAM = ("optimizer=adam", "optimizer.lr=0.02", "+optimizer.eps=1e-4")
BLOCKS = "blockwise.tile=16"
UNPADDED = ("encoder.padding=none", "encoder.normalize=false", "layers.content=[relu2_1]")


def pixels(result: Result) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(result.folder / "canvas.png"), dtype=np.int16)


def curves(result: Result) -> list[dict[str, str]]:
    with (result.folder / "curves.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("weights.unit=gradient", "loss/style=[covariance,moments]"),
        ("weights.unit=paper", "loss/style=shifted_gram", "loss/content=[features,laplacian]"),
        ("canvas=spectral", "schedule=two_sizes", "size=96", "loss/style=cross_layer_gram"),
        ("colour=luminance", "loss/content=none", "loss/style=mmd_polynomial"),
    ],
    ids=["usual", "gradient unit", "paper unit", "two sizes", "grey"],
)
def test_a_run_in_blocks_ends_with_the_picture_of_the_whole(
    settings: tuple[str, ...], compose_config: Compose
) -> None:
    common = (*ADAM, "record.curves_every=1", *settings)
    whole, blocks = run(compose_config(*common)), run(compose_config(*common, BLOCKS))
    assert np.abs(pixels(whole) - pixels(blocks)).max() <= 1
    assert len(curves(whole)) == len(curves(blocks))
    for one, other in zip(curves(whole), curves(blocks), strict=True):
        assert one.keys() == other.keys()
        for name in (name for name in one if name.startswith("loss/")):
            assert float(one[name]) == pytest.approx(float(other[name]), rel=1e-3, abs=1e-6), name
    for name, start in whole.record.starts.items():
        if start["value"] > 1e-6:  # the content starts where its gradient is rounding
            assert start == pytest.approx(blocks.record.starts[name], rel=1e-3)


def test_lbfgs_with_a_line_search(compose_config: Compose) -> None:
    common = (
        "optimizer=lbfgs_torch",
        "optimizer.line_search_fn=strong_wolfe",
        "steps=3",
        "canvas.start=noise",
    )
    whole, blocks = run(compose_config(*common)), run(compose_config(*common, BLOCKS))
    assert whole.record.evaluations == blocks.record.evaluations > 3
    assert np.abs(pixels(whole) - pixels(blocks)).max() <= 2


def test_bfloat16_rounds_alike(compose_config: Compose) -> None:
    common = (*ADAM, "schedule.precision=bf16", "record.curves_every=1")
    whole, blocks = run(compose_config(*common)), run(compose_config(*common, BLOCKS))
    assert np.abs(pixels(whole) - pixels(blocks)).mean() < 0.5
    for one, other in zip(curves(whole), curves(blocks), strict=True):
        assert float(one["loss/total"]) == pytest.approx(float(other["loss/total"]), rel=0.02)


def test_regions_in_blocks(compose_config: Compose, pair: dict[str, str]) -> None:
    mask = Image.new("L", (48, 36))
    mask.paste(255, (0, 0, 20, 36))
    mask.save("left.png")
    mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save("right.png")
    guides = ["+pictures.guides.left={content: left.png}", "+pictures.guides.right={content: right.png}"]
    whole, blocks = run(compose_config(*ADAM, *guides)), run(compose_config(*ADAM, *guides, BLOCKS))
    assert np.abs(pixels(whole) - pixels(blocks)).max() <= 1


def test_an_interrupted_run_continues_to_the_same_bytes(compose_config: Compose) -> None:
    class Interrupt(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
            if trainer.global_step == 3:
                raise KeyboardInterrupt

    common = ("steps=6", "record.checkpoint_every=1", "weights.unit=gradient", BLOCKS)
    straight = run(compose_config(*common, "output=straight"))
    config = compose_config(*common, "output=halted")
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(config, callbacks=[Interrupt()])
    (checkpoint,) = Path("halted").rglob("checkpoint.ckpt")
    saved = read_checkpoint(checkpoint)
    assert saved is not None
    assert saved.step > 0
    assert (run(config).folder / "canvas.png").read_bytes() == (straight.folder / "canvas.png").read_bytes()


def identity(config: Config) -> str:
    return fingerprint(config.plain, {**load_inputs(config).hashes(), "weights": ""})


def test_runs_without_blocks_are_what_they_were_before_there_were_any(compose_config: Compose) -> None:
    config = compose_config()
    before = identity(config)
    del config.plain["blockwise"]
    assert identity(config) == before
    assert identity(compose_config(BLOCKS)) != before


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            (BLOCKS, "loss/style=mrf"),
            r"loss\.style\.mrf: it is not a sum over positions.*Those that can:.* gram,",
        ),
        ((BLOCKS, "loss/style=sliced_wasserstein"), r"loss\.style\.sliced_wasserstein: it is not a sum"),
        ((BLOCKS, "loss/content=self_similarity"), r"self_similarity: .*that can: features, laplacian\."),
        ((BLOCKS, "encoder.padding=circular"), r"blockwise\.tile=16: with circular padding"),
        ((BLOCKS, "record.diagnostics_every=1"), r"record\.diagnostics_every=1: .*blockwise\.tile"),
        (
            (BLOCKS, "loss/style=cross_layer_gram", "layers.style=[relu1_1,relu2_1]", *UNPADDED),
            r"loss\.style\.cross_layer_gram=\[relu1_1,relu2_1\]: the maps of relu1_1 and relu2_1 do not",
        ),
        (("blockwise.tile=0",), r"blockwise\.tile=0: it must be greater than 0"),
        (("blockwise.tiles=64",), r"blockwise\.tiles.*tile"),
    ],
)
def test_what_cannot_be_computed_in_blocks_is_said_before_the_run(
    typed: tuple[str, ...], said: str, pair: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    inputs = [f"content={pair['photo']}", f"style={pair['painting']}"]
    assert main(["run", *with_tiny(*inputs, *typed)]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1, err
    assert re.search(said, err), err
    assert not Path("outputs").exists()


def test_history_size_bounds_the_memory_of_lbfgs(compose_config: Compose) -> None:
    held = {}

    class Weigh(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
            (optimizer,) = trainer.optimizers
            (state,) = optimizer.state.values()
            tensors = [t for v in state.values() for t in (v if isinstance(v, list) else [v])]
            large = [t for t in tensors if isinstance(t, torch.Tensor) and t.numel() > 100]
            held[size] = max(held.get(size, 0), sum(t.numel() for t in large))

    for size in (2, 5):
        run(compose_config("steps=9", f"optimizer.history_size={size}"), callbacks=[Weigh()])
    canvas = 3 * 48 * 36
    assert held[5] - held[2] == 2 * 3 * canvas  # two pictures for each step that is remembered
    assert held[2] <= (2 * 2 + 3) * canvas


def test_a_run_in_blocks_says_so_in_its_record(compose_config: Compose) -> None:
    result = run(compose_config(BLOCKS, "steps=1"))
    assert json.loads((result.folder / "run.json").read_text())["config"]["blockwise"] == {"tile": 16}
    assert result.record.evaluations == 1


def test_a_loss_that_reads_no_layer_of_the_encoder_is_no_matter_for_blocks(compose_config: Compose) -> None:
    of_pixels = ("loss/style=histogram", "loss.style.histogram.layers=[canvas]", "loss/content=laplacian")
    whole, blocks = run(compose_config(*ADAM, *of_pixels)), run(compose_config(*ADAM, *of_pixels, BLOCKS))
    assert np.array_equal(pixels(whole), pixels(blocks))


def test_canvas_and_layers_seen_together_are_refused(compose_config: Compose) -> None:
    together = ("loss/style=cross_layer_gram", "loss.style.cross_layer_gram.layers=[canvas,relu1_1]")
    with pytest.raises(UserError, match=r"cross_layer_gram: it is not a sum"):
        run(compose_config(BLOCKS, *together))
