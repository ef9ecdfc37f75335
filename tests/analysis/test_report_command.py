"""`nstbench report` writes a folder that opens from disk, again and again, and says what it cannot do."""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_study import EVIL, picture, write_study
from synthetic_study import write_run

from nstbench.analysis.records import read_study
from nstbench.analysis.report import problems
from nstbench.analysis.report.write import Report
from nstbench.cli import report
from nstbench.errors import UserError
from nstbench.tracking.ledger import Entry, Ledger


def run_report(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    report.add_parser(parser.add_subparsers())
    args = parser.parse_args(["report", *map(str, arguments)])
    return int(args.func(args))


def data_of(folder: Path) -> dict[str, Any]:
    text = (folder / "data.js").read_text()
    found: dict[str, Any] = json.loads(text.removeprefix("const study = ").rstrip(";\n"))
    return found


class _Page(HTMLParser):
    """What a browser makes of a page: its elements and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_is_a_folder_of_its_own_that_names_nothing_outside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(tmp_path)
    assert run_report(study) == 0
    folder = study / "report"
    assert capsys.readouterr().out.strip() == str(folder / "index.html")
    page = _Page((folder / "index.html").read_text())
    links = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href")]
    files = [link for link in links if link and not link.startswith(("#", "data:"))]
    assert files
    assert all((folder / link).is_file() for link in files)
    everything = "".join(f.read_text() for f in folder.iterdir() if f.is_file())
    assert set(re.findall(r"https?://[^\"' ]+", everything)) <= {"http://www.w3.org/2000/svg"}
    assert "fetch(" not in everything
    assert not list(folder.rglob("*.part"))


def test_the_data_say_what_the_records_say(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    run_report(study, "--output", tmp_path / "out")
    data = data_of(tmp_path / "out")
    settings = {each["name"]: each["values"] for each in data["settings"]}
    assert settings == {"weights.style": [1, 10, 100, 1000], "loss.style": ["gram", "mrf"]}
    assert (data["start"]["rows"], data["start"]["columns"]) == ("loss.style", "weights.style")
    runs = {run["name"]: run for run in data["runs"]}
    assert len(runs) == 8
    first = runs["gram-1"]
    assert {m["name"]: m["better"] for m in data["metrics"]} == {
        "ssim": "higher", "psnr": "higher", "gram_distance": "lower",
    }  # fmt: skip
    assert first["command"] == "nstbench run study=colours loss/style=gram weights.style=1"
    pictures = [run["picture"] for run in data["runs"] if run["state"] == "completed"]
    assert len(set(pictures)) == 6
    for name in pictures:
        assert (tmp_path / "out" / "pictures" / "thumb" / name).is_file()
        assert (tmp_path / "out" / "pictures" / "large" / name).is_file()
    assert all(
        data["inputs"][sha]["picture"] for run in data["runs"] for sha in run["content"] + run["style"]
    )


def test_what_records_hold_is_text_never_html(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    (study / EVIL).mkdir()
    run_report(study)
    page = _Page((study / "report" / "index.html").read_text())
    assert not [attrs for tag, attrs in page.tags if tag in ("i", "img") or "onerror" in attrs]
    assert all("src" in attrs for tag, attrs in page.tags if tag == "script")
    assert "the objective became <i>NaN</i>" in page.text
    assert EVIL in page.text


def test_names_that_are_no_text_are_shown_as_far_as_they_are(tmp_path: Path) -> None:
    write_run(tmp_path / "odd", content="caf\udce9.jpg", overrides=["pictures.content=caf\udce9.jpg"])
    write_run(tmp_path / "odd", seed=1, state="failed", error="no such file: caf\udce9.jpg")
    assert run_report(tmp_path / "odd") == 0
    assert "caf?.jpg" in (tmp_path / "odd" / "report" / "index.html").read_text()


def test_failures_unfinished_and_damaged_are_listed_with_their_reasons(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    run_report(study)
    text = " ".join(_Page((study / "report" / "index.html").read_text()).text.split())
    for said in (
        "6 completed", "1 unfinished", "1 failed", "at step 7", "the last words of the log",
        "interrupted: the same command continues it", "notes there is no run.json in it",
        "lpips_alex its weights are not here",
    ):  # fmt: skip
        assert said in text
    assert "nstbench run study=colours" in text


def test_typed_commands_are_shown_rather_than_reconstructed_ones(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    (study / ".sweep").mkdir()
    (study / ".sweep" / "commands.txt").write_text("2026-11-20T10:00:00\tnstbench run -m a='<1>'\n")
    run_report(study)
    page = _Page((study / "report" / "index.html").read_text())
    assert "nstbench run -m a='<1>'" in [attrs.get("data-copy") for _, attrs in page.tags]


def test_of_many_commands_the_newest_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    (study / ".sweep").mkdir()
    lines = [f"{number:02}\tnstbench run -m seed={number},100\n" for number in range(30)]
    (study / ".sweep" / "commands.txt").write_text("".join(lines + lines[-1:] * 25))
    run_report(study)
    page = _Page((study / "report" / "index.html").read_text())
    shown = [
        attrs["data-copy"] for tag, attrs in page.tags if "nstbench run -m" in (attrs.get("data-copy") or "")
    ]
    newest = [f"nstbench run -m seed={number},100" for number in range(29, 9, -1)]
    assert shown == [newest[0], *newest]  # at the top, and in the list
    assert "20 of 30 commands" in page.text
    assert "10 older ones are left out." in page.text


def test_classes_are_called_by_their_short_names(tmp_path: Path) -> None:
    adam = {"optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.05}}
    for seed in (0, 1):
        for settings in ({}, adam):
            metrics = {"ssim": 0.5 - seed / 10, "gram_distance": 0.2 + seed / 10}
            picture(
                write_run(tmp_path / "s", metrics, seed=seed, settings=settings) / "canvas.png", (9, 9, 9)
            )
    run_report(tmp_path / "s")
    data = data_of(tmp_path / "s" / "report")
    settings = {each["name"]: each for each in data["settings"]}
    assert settings["optimizer"]["labels"] == ["Adam", "LBFGS"]
    assert settings["optimizer"]["values"] == ["torch.optim.Adam", "torch.optim.LBFGS"]
    assert {data["start"]["rows"], data["start"]["columns"]} == {"optimizer", "seed"}
    assert data["tradeoff"]["by"] == "optimizer"
    assert {point["of"] for point in data["tradeoff"]["points"]} == {"Adam", "LBFGS"}


def test_the_report_is_no_damaged_run_of_its_study(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    run_report(study)
    assert [each.path for each in read_study(study).damaged] == ["notes"]


def test_again_nothing_is_written_that_did_not_change(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    run_report(study)
    folder = study / "report"
    before = {f: f.stat().st_mtime_ns for f in folder.rglob("*") if f.is_file()}
    run_report(study)
    changed = {f.name for f, seen in before.items() if f.stat().st_mtime_ns != seen}
    assert changed <= {"index.html", "stamp.js"}
    new = write_run(study, {"ssim": 0.3}, loss="mrf", settings={"weights.style": 5.0})
    picture(new / "canvas.png", (1, 2, 3))
    run_report(study)
    assert len({f for f in folder.rglob("*") if f.is_file()} - before.keys()) == 2
    assert len(data_of(folder)["runs"]) == 9


def test_a_report_of_unchanged_runs_is_not_even_stamped_anew(tmp_path: Path) -> None:
    written = Report(write_study(tmp_path), tmp_path / "out")
    written.write(watched=1)
    stamp = (tmp_path / "out" / "stamp.js").read_text()
    written.write(watched=1)
    assert (tmp_path / "out" / "stamp.js").read_text() == stamp


def test_a_study_of_one_run_and_of_none_completed_have_a_report(tmp_path: Path) -> None:
    write_run(tmp_path / "one")
    assert run_report(tmp_path / "one") == 0
    assert data_of(tmp_path / "one" / "report")["settings"] == []
    write_run(tmp_path / "two", state="failed")
    assert run_report(tmp_path / "two") == 0
    assert "No completed run" in data_of(tmp_path / "two" / "report")["tradeoff"]["message"]


def test_mistakes_are_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="there is no run in it"):
        run_report(tmp_path / "empty")
    with pytest.raises(UserError, match=r"no such folder.*Did you mean empty"):
        run_report(tmp_path / "emty")
    study = write_study(tmp_path)
    with pytest.raises(UserError, match="--watch=soon: it must be a number of seconds"):
        run_report(study, "--watch", "soon")
    homepage = tmp_path / "homepage"
    homepage.mkdir()
    (homepage / "index.html").write_text("<h1>my page</h1>")
    with pytest.raises(UserError, match=r"it holds another index\.html"):
        run_report(study, "--output", homepage)
    assert (homepage / "index.html").read_text() == "<h1>my page</h1>"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="it is a file"):
        run_report(study, "--output", tmp_path / "file")


def test_watching_follows_a_sweep_until_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(tmp_path)
    monkeypatch.setattr(problems, "_PAUSE", 0.0)
    monkeypatch.delenv("NSTBENCH_SWEEP_LEDGER", raising=False)
    ledger = Ledger.new(study / ".sweep")
    ledger.note(
        Entry(0, ["optimizer.lr=-1"], "failed", error="optimizer.lr=-1: it is negative", mistake=True)
    )
    seen = []

    def sleep(seconds: float) -> None:
        seen.append((seconds, (study / "report" / "index.html").read_text()))
        if len(seen) == 1:
            new = write_run(study, {"ssim": 0.3}, loss="mrf", settings={"weights.style": 5.0})
            picture(new / "canvas.png", (1, 2, 3))
        else:
            ledger.close()

    monkeypatch.setattr(time, "sleep", sleep)
    assert run_report(study, "--watch", "2") == 0
    assert [seconds for seconds, _ in seen] == [2, 2]
    assert all('data-watched="2.0"' in html for _, html in seen)
    assert "optimizer.lr=-1: it is negative" in seen[0][1]
    assert ("6</b> completed" in seen[0][1], "7</b> completed" in seen[1][1]) == (True, True)
    assert "data-watched" not in (study / "report" / "index.html").read_text()
    assert "All runs have ended." in capsys.readouterr().out


def test_watching_outlasts_the_pause_between_two_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tmp_path / "s"
    picture(write_run(study, {"ssim": 0.5}) / "canvas.png", (9, 9, 9))
    passed = []

    def sleep(seconds: float) -> None:
        passed.append(seconds)
        if len(passed) == 2:
            picture(write_run(study, {"ssim": 0.6}, seed=1) / "canvas.png", (9, 9, 9))
        for file in study.glob("*/run.json"):  # time goes by
            seen = file.stat().st_mtime
            os.utime(file, (seen - seconds, seen - seconds))

    monkeypatch.setattr(time, "sleep", sleep)
    assert run_report(study, "--watch", "4") == 0
    assert passed == [4.0] * 4  # a new record after the first, and then 10 s without a change
    assert len(data_of(study / "report")["runs"]) == 2


def test_watching_waits_for_a_sweep_that_has_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "later"
    monkeypatch.setattr(problems, "_PAUSE", 0.0)
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        if clock[0] == 10:
            (study / ".sweep").mkdir(parents=True)
        if clock[0] == 20:
            picture(write_run(study, {"ssim": 0.5}) / "canvas.png", (9, 9, 9))

    monkeypatch.setattr(time, "sleep", sleep)
    assert run_report(study, "--watch") == 0
    said = capsys.readouterr()
    assert f"There is no run in {study} yet: waiting for one, at most 60 s" in said.err
    assert said.out == f"{study / 'report' / 'index.html'}\n"
    assert clock[0] == 20
    with pytest.raises(UserError, match="there is no such folder"):
        run_report(tmp_path / "never", "--watch")
    assert clock[0] == 80
    with pytest.raises(UserError, match="there is no such folder"):
        run_report(tmp_path / "never")
    assert clock[0] == 80


def test_ctrl_c_ends_the_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    assert run_report(tmp_path / "never", "--watch") == 0
    assert "No page was written." in capsys.readouterr().err
    assert not (tmp_path / "never").exists()


def test_ctrl_c_leaves_a_page_that_no_longer_looks_for_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(tmp_path)
    (running,) = (f.parent for f in study.glob("*/run.json") if '"running"' in f.read_text())
    (running / ".owner").write_text("{}")

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    assert run_report(study, "--watch") == 0
    html = (study / "report" / "index.html").read_text()
    assert "data-watched" not in html
    assert "in progress" in html


def test_a_sweep_that_was_killed_is_not_waited_for(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    import socket

    (study / ".sweep" / f"{socket.gethostname()}-999999999").mkdir(parents=True)
    assert not problems.in_progress(read_study(study))
    (study / ".sweep" / "another-machine-7").mkdir()
    assert problems.in_progress(read_study(study))
