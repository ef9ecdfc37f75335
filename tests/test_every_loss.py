"""What must hold of every option of conf/loss in a run: equal starts, a resumed run, one start table."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nstbench.config.files import groups
from nstbench.config.schema import Config
from nstbench.modules.member import EvaluationCallback
from nstbench.pictures.io import read_picture
from nstbench.runs.run import run

Compose = Callable[..., Config]
STYLES = [option for option in groups()["loss/style"] if option != "none"]
# Options that sample, with a draw every three steps.
SAMPLED = [
    "style=histogram",
    "style=sliced_wasserstein",
    "style=mmd_gaussian",
    "style=contextual",
    "style=relaxed_emd",
    "content=self_similarity",
]


def draws_of(folder: Path) -> list[str]:
    with (folder / "curves.csv").open() as file:
        return [next(v for k, v in row.items() if k.startswith("draw/")) for row in csv.DictReader(file)]


@pytest.mark.parametrize("start", ["content", "noise"])
@pytest.mark.parametrize("option", STYLES)
def test_given_one_weight_every_style_starts_with_one_pull(
    option: str, start: str, compose_config: Compose
) -> None:
    config = compose_config(
        f"loss/style={option}", "weights.unit=gradient", "weights.style=7", f"canvas.start={start}", "steps=1"
    )
    starts = run(config).record.starts
    (style,) = [start for name, start in starts.items() if name.startswith("style/")]
    assert style["weight"] == 7
    assert style["gradient_norm"] == pytest.approx(7, rel=0.01)


@pytest.mark.parametrize("option", SAMPLED)
def test_a_run_that_samples_continues_to_the_same_bytes(
    option: str, compose_config: Compose, killed_at: Callable[[int], EvaluationCallback]
) -> None:
    role, name = option.split("=")
    settings = [f"loss/{option}", f"loss.{role}.{name}.redraw_every=3", "steps=14", "canvas.noise_share=0.1"]
    settings += ["record.checkpoint_every=4", "record.curves_every=1"]
    if name not in {"histogram", "mmd_gaussian", "sliced_wasserstein"}:
        settings.append(f"loss.{role}.{name}.samples=20")
    whole = run(compose_config(*settings, "output=whole"))
    with pytest.raises(RuntimeError, match="killed"):
        run(compose_config(*settings, "output=broken"), callbacks=[killed_at(11)])
    continued = run(compose_config(*settings, "output=broken"))
    assert (continued.folder / "canvas.png").read_bytes() == (whole.folder / "canvas.png").read_bytes()
    assert continued.record.final_losses == whole.record.final_losses
    assert draws_of(continued.folder) == draws_of(whole.folder) == [str(i // 3) for i in range(14)] + ["4"]


# Not the histogram: where it ranks equal values at random, a ReLU lets no gradient through.
@pytest.mark.parametrize("option", SAMPLED[1:])
def test_another_seed_samples_otherwise(option: str, compose_config: Compose) -> None:
    role, name = option.split("=")
    settings = [f"loss/{option}", "steps=3", "canvas.start=content"]
    if name not in {"mmd_gaussian", "sliced_wasserstein"}:
        settings.append(f"loss.{role}.{name}.samples=20")
    # From the content picture, the seed is that of the samples alone.
    first, second = (
        read_picture(run(compose_config(*settings, f"seed={seed}")).folder / "canvas.png") for seed in (0, 1)
    )
    assert not torch.equal(first, second)


def test_curves_of_losses_that_sample_nothing_have_no_draws(compose_config: Compose) -> None:
    folder = run(compose_config("steps=2")).folder
    assert "draw/" not in (folder / "curves.csv").read_text()
