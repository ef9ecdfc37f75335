"""What is seen of a sweep while it runs, and what is printed of each run that ends."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from nstbench.sweeps.view import View
from nstbench.tracking.ledger import Entry, Ledger


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setenv("NSTBENCH_SWEEP_LEDGER", "")  # so that it is as before afterwards
    return Ledger.new(tmp_path)


def shown(view: View) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(view.render())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def test_it_counts_what_is_done_running_failed_and_remaining(ledger: Ledger) -> None:
    view = View(ledger, 11, {}, common={"size=64"}, began=time.monotonic() - 25)
    ledger.note(Entry(0, ["seed=0"], "completed", folder="out/a-1", line="2.0 s"))
    ledger.note(Entry(1, ["seed=1"], "skipped", folder="out/a-2", line="done before"))
    ledger.note(Entry(2, ["seed=2"], "failed", error="it broke"))
    ledger.note(Entry(3, ["seed=3"], "running", folder="out/a-4", step=50, steps=100))
    ledger.note(Entry(4, ["seed=4", "size=64"], "running"))
    ledger.note(Entry(5, ["seed=5"], "busy", folder="out/a-6"))
    view.look()
    # 2.5 of 10, for one was skipped, in 25 s: 75 s are left.
    first, third, fourth = shown(view).splitlines()
    assert "3/11 done · 2 running · 1 failed · 1 in another process" in first
    assert "6 remaining · 0:01:15 left" in first
    assert "50/100 a-4" in third
    assert "seed=4: starting" in fourth


def test_each_run_that_ends_has_its_line_once(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    with View(ledger, 3, {}, common={"size=64"}, began=time.monotonic()) as view:
        ledger.note(Entry(0, ["seed=0"], "completed", folder="out/a-1", line="2.0 s  ssim 0.5"))
        view.look()
        view.look()
        ledger.note(Entry(1, ["seed=1", "size=64"], "failed", error="it broke"))
        ledger.note(Entry(2, ["seed=2"], "busy", folder="out/a-3"))
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "out/a-1  2.0 s  ssim 0.5",
    ]
    assert printed.err.splitlines() == ["failed: seed=1: it broke"]


def test_a_run_that_reported_no_end_has_a_reason_and_its_log(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.log").write_text("…")
    ledger.note(Entry(0, ["seed=0"], "running", folder=str(tmp_path / "run")))
    ledger.note(Entry(1, ["seed=1"], "completed", folder="elsewhere"))
    for number in range(3):
        ledger.lost(number, [f"seed={number}"], "killed")
    first, second, third = (ledger.of(number) for number in range(3))
    assert first == Entry(
        0, ["seed=0"], "failed", str(tmp_path / "run"), "killed", log=str(tmp_path / "run" / "run.log")
    )
    assert second is not None
    assert second.state == "completed"  # it had its last word
    assert third == Entry(2, ["seed=2"], "failed", error="killed")


def test_a_ledger_is_found_by_the_processes_of_its_sweep_and_removed(tmp_path: Path, ledger: Ledger) -> None:
    here = Ledger.here()
    assert here is not None
    assert here.folder == ledger.folder.absolute()
    ledger.close()
    assert Ledger.here() is None
    assert [*tmp_path.iterdir()] == []
