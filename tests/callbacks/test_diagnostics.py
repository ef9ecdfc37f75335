"""What diagnostics.csv says of a run: layers that add up, gradients that are the gradients."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nstbench.callbacks.diagnostics import cosine_of_roles
from nstbench.config.schema import Config
from nstbench.runs.run import run

EVERY_TWO = ("record.diagnostics_every=2", "record.curves_every=1", "steps=6")


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open() as f:
        return list(csv.DictReader(f))


def test_layers_add_up_to_the_term_of_the_curves(compose_config: Callable[..., Config]) -> None:
    folder = run(compose_config(*EVERY_TWO)).folder
    curves = {row["evaluation"]: row for row in rows_of(folder / "curves.csv")}
    rows = rows_of(folder / "diagnostics.csv")
    assert [row["evaluation"] for row in rows] == ["0", "2", "4"]
    for row in rows:
        layers = [float(v) for k, v in row.items() if k.startswith("layer/style/gram/")]
        assert len(layers) == 5
        expected = float(curves[row["evaluation"]]["loss/style/gram"])
        assert sum(layers) == pytest.approx(expected, rel=1e-5)


def test_the_gradient_norms_are_those_the_run_starts_with(compose_config: Callable[..., Config]) -> None:
    result = run(compose_config(*EVERY_TWO, "canvas.start=noise"))
    first = rows_of(result.folder / "diagnostics.csv")[0]
    starts = json.loads((result.folder / "run.json").read_text())["starts"]
    assert set(starts) == {"content/features", "style/gram", "regularizer/tv"}
    for name, start in starts.items():
        assert float(first[f"gradient/{name}"]) == pytest.approx(start["gradient_norm"], rel=1e-5)
        assert start["gradient_norm"] > 0


def test_content_and_style_begin_without_an_angle_and_end_pulling_against_each_other(
    compose_config: Callable[..., Config],
) -> None:
    config = compose_config("record.diagnostics_every=10", "steps=81", "weights.regularizer=0")
    rows = rows_of(run(config).folder / "diagnostics.csv")
    assert rows[0]["cosine/content_style"] == ""  # at the content picture, its gradient is 0
    assert float(rows[-1]["cosine/content_style"]) < -0.5


def test_diagnostics_leave_the_picture_as_it_is(compose_config: Callable[..., Config]) -> None:
    with_them = run(compose_config(*EVERY_TWO, "study=with"))
    without = run(compose_config("steps=6", "study=without"))
    assert with_them.record.fingerprint == without.record.fingerprint
    assert (with_them.folder / "canvas.png").read_bytes() == (without.folder / "canvas.png").read_bytes()
    assert not (without.folder / "diagnostics.csv").exists()


def test_the_cosine_is_of_the_roles_sums() -> None:
    def slope(*pixels: float) -> torch.Tensor:
        return torch.tensor(pixels, dtype=torch.float32).view(1, 3, 1, 1)

    slopes = {
        "content/a": slope(1, 0, 0),
        "content/b": slope(0, 1, 0),
        "style/c": slope(0, 0, 0),
        "style/d": slope(-2, 0, 0),
    }
    assert cosine_of_roles(slopes, "content", "style") == pytest.approx(-(0.5**0.5))
    assert cosine_of_roles(slopes, "content", "regularizer") is None
    assert cosine_of_roles({**slopes, "style/d": slope(0, 0, 0)}, "content", "style") is None


def test_how_terms_start_is_printed(
    compose_config: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    run(compose_config("record.progress=true", "weights.unit=gradient", "weights.style=7"))
    lines = [line.split() for line in capsys.readouterr().err.splitlines()]
    assert ["term", "weight", "value", "gradient", "norm"] in lines
    (gram,) = [line for line in lines if line[:1] == ["style/gram"]]
    assert float(gram[1]) == 7
    assert float(gram[3]) == pytest.approx(7, rel=0.01)
