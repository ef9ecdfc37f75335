"""The benchmark of losses: on pictures so small that it takes seconds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks/ is not installed

from benchmarks import losses

CPU = torch.device("cpu")


def test_a_formulation_is_measured_alone_and_as_configured(capsys: pytest.CaptureFixture[str]) -> None:
    costs = losses.measure([32], ["gram", "cross_layer_gram", "tv"], CPU)
    layers = {(c.name, c.layer) for c in costs}
    assert layers == {
        ("cross_layer_gram", "configured"),  # it looks at pairs of layers
        ("gram", "configured"),
        *(("gram", layer) for layer in losses.LAYERS),
        ("tv", "configured"),
    }
    assert all(c.milliseconds is not None and c.milliseconds > 0 for c in costs)
    assert "style/gram relu4_1" in capsys.readouterr().out
    table = losses.table(costs, 32)
    (row,) = [line for line in table.splitlines() if line.startswith("| style/gram ")]
    assert row.count(" / ") == 6  # milliseconds and megabytes, of five layers and as configured


def test_memory_is_what_an_evaluation_adds() -> None:
    held = []

    def evaluate() -> None:
        held.append(torch.ones(25_000_000))  # 100 MB
        held.clear()

    found = losses.megabytes(evaluate, CPU)
    if found is None:
        pytest.skip("this system does not tell")
    assert found == pytest.approx(100, abs=15)


def test_what_takes_too_long_is_given_up() -> None:
    def forever() -> None:
        with losses.patience(1):
            while True:
                pass

    with pytest.raises(TimeoutError):
        forever()


def test_tables_are_put_between_their_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- losses -->\nold\n<!-- /losses -->\nafter\n")
    monkeypatch.setattr(losses, "README", page)
    monkeypatch.setattr(losses, "RESULTS", tmp_path / "losses.json")
    costs = [
        losses.Cost("style", "gram", 64, "configured", 2.0, 1.0, 3.0),
        losses.Cost("style", "mrf", 64, "configured"),
    ]
    losses.write(costs, "here")
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| style/gram | 2.0 / 3 | 2.0 |" in text
    assert f"| style/mrf | > {losses.PATIENCE} s |" in text
