"""A command that is typed again says that it continues, and what is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import last_of_each, with_tiny

from nstbench.cli import main
from nstbench.runs.run import Run


def test_a_study_with_runs_says_what_is_done(pair: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    sweep = ["run", "-m", *with_tiny(f"content={pair['photo']}", f"style={pair['painting']}", "study=s")]
    assert main([*sweep, "seed=1,2"]) == 0
    assert "continues" not in capfd.readouterr().err
    record = next(Path("outputs/s").glob("*-s2-*/run.json"))
    record.write_text(record.read_text().replace('"completed"', '"running"'))
    assert main([*sweep, "seed=1,2,3"]) == 0
    said = capfd.readouterr().err.splitlines()[0]
    assert (
        said
        == "continues outputs/s, which has runs: 1 done, 1 not finished. What is done is not computed again"
    )


def test_an_interrupted_run_says_where_it_continues(
    pair: dict[str, str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = with_tiny(f"content={pair['photo']}", f"style={pair['painting']}", "record.checkpoint_every=2")
    typed = last_of_each(*typed, "record.progress=true")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "finish", interrupted)
        assert main(["run", *typed]) == 130
    capfd.readouterr()
    assert main(["run", *typed]) == 0
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("continues")]
    assert line.endswith("which was interrupted, at step 4 of 4")


def interrupted(_: Run) -> None:
    raise KeyboardInterrupt
