"""By which encoder finished runs were judged, in words, and what is said where they are several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_study import write_run

from nstbench.analysis.judges import describe_judge
from nstbench.cli import main

TRAINED = {"_target_": "nstbench.encoders.efficientnet.EfficientNetLite0", "weights": "efficientnet_lite0"}
RANDOM = {"_target_": "nstbench.encoders.random.RandomVGG", "shape": "vgg16", "width": 0.5, "seed": 1000}
IN_WORDS = "EfficientNet-Lite0 (trained on ImageNet)"
RANDOM_IN_WORDS = "a VGG-16 of half width with random weights (seed 1000)"
SHIPPED_IN_WORDS = "the encoder that ships (trained on procedural textures)"
Said = Callable[..., str]


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (TRAINED, IN_WORDS),
        (RANDOM, RANDOM_IN_WORDS),
        ({**RANDOM, "width": 1.0}, "a VGG-16 with random weights (seed 1000)"),
        ({**RANDOM, "width": 0.25}, "a VGG-16 of width 0.25 with random weights (seed 1000)"),
        ({**RANDOM, "width": "wide"}, "a VGG-16 with random weights (seed 1000)"),
        ({"_target_": "x.ProceduralVGG", "weights": "shipped"}, SHIPPED_IN_WORDS),
        ({"_target_": "x.VGG", "weights": "vgg19"}, "VGG (weights vgg19)"),
        ({"_target_": "mine.Encoder"}, "Encoder"),
        ({}, "an unknown encoder"),
        ("RandomVGG", ""),
    ],
)
def test_a_judge_in_words(node: Any, words: str) -> None:
    assert describe_judge({"encoder": node}) == words


def judged(study: Path, by: dict[str, Any], loss: str, content: str, value: float, **more: Any) -> None:
    node = {"_target_": "nstbench.metrics.style.GramDistance", "layers": "default", "encoder": by}
    settings = {"metrics.gram_distance": node, **more}
    write_run(study, {"gram_distance": value}, loss=loss, content=content, settings=settings)


@pytest.fixture
def said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Said:
    """What `compare` says of the study, and its exit status."""

    def compare(status: int = 0) -> str:
        assert main(["compare", str(tmp_path / "study"), "--criterion", "gram_distance"]) == status
        printed = capsys.readouterr()
        return printed.err if status else printed.out

    return compare


def test_compare_names_the_judge(tmp_path: Path, said: Said) -> None:
    for content in "ab":
        for loss, value in (("gram", 0.1), ("mrf", 0.2)):
            judged(tmp_path / "study", TRAINED, loss, content, value)
    assert f"gram_distance is judged by {IN_WORDS}." in said()
    assert f"gram_distance is judged by {IN_WORDS}." in (
        tmp_path / "study" / "comparison" / "comparison.md"
    ).read_text(encoding="utf-8")


def test_compare_says_that_runs_had_different_judges_and_what_to_type(tmp_path: Path, said: Said) -> None:
    for content, encoder in (("a", TRAINED), ("b", RANDOM), ("c", RANDOM)):
        for loss, value in (("gram", 0.1), ("mrf", 0.2)):
            judged(tmp_path / "study", encoder, loss, content, value)
    printed = said()
    assert f"judged by {IN_WORDS} in 2, by {RANDOM_IN_WORDS} in 4 runs" in printed
    assert "these numbers are not comparable" in printed
    assert "judge=efficientnet_lite0" in printed


def test_where_runs_optimise_the_trained_judge_the_random_one_is_advised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `judge=auto` chooses in a sweep over encoders."""
    for content in "ab":
        judged(tmp_path / "study", TRAINED, "gram", content, 0.1)
        judged(
            tmp_path / "study", RANDOM, "gram", content, 0.2, **{"encoder._target_": "x.EfficientNetLite0"}
        )
    assert main(["compare", str(tmp_path / "study"), "--criterion", "gram_distance", "--by", "encoder"]) == 2
    assert "was judged by" in (printed := capsys.readouterr().err)
    assert "judge=random" in printed


def test_values_that_different_judges_gave_are_refused_with_the_reason(tmp_path: Path, said: Said) -> None:
    for content in "ab":
        judged(tmp_path / "study", TRAINED, "gram", content, 0.1)
        judged(tmp_path / "study", RANDOM, "mrf", content, 0.2)
    printed = said(status=2)
    assert f"it was judged by {IN_WORDS} in 2, by {RANDOM_IN_WORDS} in 2 runs" in printed
    assert "Type the command of the study again with judge=efficientnet_lite0" in printed
