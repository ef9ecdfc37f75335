"""The benchmarks of speed: on pictures so small that it takes seconds."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks/ is not installed

from benchmarks import measuring, startup, steps, time_to_quality

CPU = torch.device("cpu")
TINY = ("encoder=random", "encoder.shape=vgg11", "encoder.width=0.0625", "size=48", "record.progress=false")


def test_calls_alternate_and_the_first_round_does_not_count() -> None:
    order: list[str] = []
    seconds = measuring.alternating({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, CPU)
    assert order == ["a", "b"] * 3
    assert [len(s) for s in seconds.values()] == [2, 2]
    assert measuring.ratio([1.0, 4.0, 9.0], [1.0, 2.0, 3.0]) == 2.0


def test_a_table_is_put_between_its_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- x -->\nold\n<!-- /x -->\nafter\n")
    monkeypatch.setattr(measuring, "README", readme)
    measuring.put("x", "new")
    assert readme.read_text() == "before\n<!-- x -->\nnew\n<!-- /x -->\nafter\n"


def test_every_benchmark_has_its_place_in_the_readme() -> None:
    text = measuring.README.read_text(encoding="utf-8")
    for mark in ("steps cpu", "steps cuda", "startup", "cost cpu"):
        assert text.count(f"<!-- {mark} -->") == text.count(f"<!-- /{mark} -->") == 1


def test_steps_are_measured_in_every_precision_and_layout(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        [cell.strip() for cell in row.split("|")[1:-1]]
        for row in steps.measure("procedural", 32, CPU, 1, False)
    ]
    assert [row[2] for row in rows] == [
        "plain PyTorch",
        "fp32",
        "fp32, channels_last",
        "bf16",
        "bf16, channels_last",
    ]
    assert rows[0][4] == "1.00"
    assert all(float(row[3]) > 0 and row[7].endswith("%") for row in rows)
    assert "channels_last" in capsys.readouterr().out


def test_the_race_ends_when_a_canvas_is_as_good(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    far = ["--plain-steps", "1", "--every", "1", "--pictures", str(tmp_path), "steps=8", "schedule=single"]
    ratio = time_to_quality.main([*TINY, *far])
    said = capsys.readouterr().out
    assert ratio is not None
    assert ratio > 0
    ours, plain = (float(re.search(rf"{who}.*objective ([\d.]+)", said)[1]) for who in ("nstbench", "plain"))  # type: ignore[index]
    assert ours < plain  # 8 steps against one
    assert (tmp_path / "nstbench.png").is_file()
    assert time_to_quality.main([*TINY, "--plain-steps", "30", "steps=1", "schedule=single"]) is None
    assert "did not reach" in capsys.readouterr().out


@pytest.mark.slow
def test_a_first_step_comes_before_the_end_of_the_run(tmp_path: Path) -> None:
    tiny = [*TINY, "logger=none", "metrics=none", "style=sample:coffee", "trainer=cpu"]
    first = startup.until_first_step(startup.HERE, *tiny)()
    assert first > startup.until_exit(startup.HERE, "-m", "nstbench", "--help")() > 0
