"""A study that somebody sent: nothing in it runs, and no file of this machine gets into its page."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mutations import copy, mutate
from report_study import picture, write_study
from synthetic_study import write_run

from nstbench.analysis import overview
from nstbench.analysis.records import read_study
from nstbench.analysis.report import problems
from nstbench.analysis.report.pictures import NOT_THERE
from nstbench.cli import compare, report
from nstbench.errors import UserError

EVIL = "</script><script>alert(1)</script>"


def run_report(study: Path) -> str:
    report.main(argparse.Namespace(study=study, output=None, watch=None))
    return (study / "report" / "index.html").read_text()


def run_compare(study: Path, output: Path | None = None) -> None:
    names = {"by": "loss.style", "criterion": None, "baseline": None, "tradeoff": None}
    compare.main(argparse.Namespace(study=study, output=output, **names))


def change(folder: Path, **changes: object) -> None:
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, **changes}))


def data_of(study: Path) -> dict[str, object]:
    text = (study / "report" / "data.js").read_text()
    found: dict[str, object] = json.loads(text.removeprefix("const study = ").rstrip(";\n"))
    return found


def test_no_class_that_a_record_names_is_imported(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    shutil.rmtree(tmp_path / "inputs")
    (study / "payload.py").write_text("open('payload ran', 'w').close()")
    nodes = {"of_mine": {"_target_": "payload.Metric"}, "other": {"_target_": "this.Metric"}}
    for file in study.glob("*/run.json"):
        record = json.loads(file.read_text())
        record["config"]["metrics"] |= nodes
        for name in ("encoder", "optimizer"):
            record["config"][name] = {"_target_": f"payload.{name}"}
        record["config"]["logger"] = {"mine": {"_target_": "payload.logger"}}
        if record["state"] == "completed":
            record["metrics"] |= {"of_mine": len(file.parent.name), "other": 1.0}
        file.write_text(json.dumps(record))
    code = (
        "import sys; from nstbench.cli import main; of_mine = ['compare', '.', '--criterion', 'of_mine'];"
        "print(main(['compare', '.']), main(['report', '.']), main(of_mine));"
        "print(sorted({'payload', 'this'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=study, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["0 0 2", "[]"]
    assert "--criterion=of_mine: its direction is unknown" in done.stderr
    assert not (study / "payload ran").exists()
    better = {metric["name"]: metric["better"] for metric in data_of(study)["metrics"]}  # type: ignore[attr-defined]
    assert (better["of_mine"], better["ssim"]) == ("", "higher")


def test_logs_and_pictures_are_files_of_the_study(tmp_path: Path) -> None:
    secret, study = tmp_path / "secret.txt", write_study(tmp_path)
    secret.write_text("the secret\n")
    failed = next(f.parent for f in study.glob("*/run.json") if '"failed"' in f.read_text())
    (failed / "run.log").unlink()
    (failed / "run.log").symlink_to(secret)
    (failed / "canvas.png").symlink_to(picture_of(tmp_path / "secret.png"))
    (failed / "curves.csv").symlink_to(secret)
    ledger = study / ".sweep" / "elsewhere-7"
    ledger.mkdir(parents=True)
    entry = {"number": 0, "overrides": ["a=1"], "state": "failed", "error": "because", "log": str(secret)}
    (ledger / "000000.json").write_text(json.dumps(entry))
    (ledger / "000001.json").write_text("[" * 5000)
    (study / ".sweep" / "commands.txt").symlink_to(secret)
    outside = tmp_path / "outside"
    (write_run(outside, {"ssim": 0.5}) / "run.log").write_text("")
    (study / "elsewhere").symlink_to(next(outside.iterdir()))
    html = run_report(study)
    assert "the secret" not in html
    assert "because" in html
    assert f"{failed.name}/canvas.png</span> canvas.png cannot be read: it leads out of" in html
    assert f"{failed.name}/curves.csv</span> it cannot be read: it leads out of the study" in html
    assert dict(read_study(study).damaged)["elsewhere"].endswith("it leads out of the study's folder")
    (run,) = (r for r in data_of(study)["runs"] if r["name"] == failed.name)  # type: ignore[attr-defined]
    assert run["picture"] is None


def picture_of(file: Path) -> Path:
    picture(file, (1, 2, 3))
    return file


def test_no_pipe_is_waited_for(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    (study / ".sweep" / "elsewhere-7").mkdir(parents=True)
    failed = next(f.parent for f in study.glob("*/run.json") if '"failed"' in f.read_text())
    (failed / "run.log").unlink()
    for name in ("run.log", "canvas.png", "curves.csv"):
        os.mkfifo(failed / name)
    for name in ("commands.txt", "elsewhere-7/000000.json", "dashboards.json"):
        os.mkfifo(study / ".sweep" / name)
    os.mkfifo(tmp_path / "pipe")
    other = write_run(
        study, {"ssim": 0.1}, content=str(tmp_path / "pipe"), inputs={"content": "1" * 64, "style": []}
    )
    picture(other / "canvas.png", (1, 2, 3))
    broken = write_run(study, seed=9) / "run.json"
    broken.unlink()
    os.mkfifo(broken)
    html = run_report(study)
    assert html.count("not a regular file") == 3  # run.json, canvas.png and curves.csv are listed
    assert data_of(study)["inputs"]["1" * 64]["reason"] == NOT_THERE  # type: ignore[index]
    assert len(overview.runs_of(study)) == 7


def test_an_input_picture_is_shown_only_to_who_had_it(tmp_path: Path) -> None:
    secret, sha = tmp_path / "secret.png", picture(tmp_path / "secret.png", (7, 8, 9))
    study = tmp_path / "study"
    for seed, known in enumerate((sha, "0" * 64)):
        folder = write_run(study, {"ssim": 0.5}, seed=seed, content=str(secret), inputs={"content": known})
        picture(folder / "canvas.png", (1, 2, 3))
    run_report(study)
    inputs = data_of(study)["inputs"]
    assert (inputs[sha]["picture"] is None, inputs["0" * 64]["picture"]) == (False, None)  # type: ignore[index]
    assert inputs["0" * 64]["reason"] == NOT_THERE  # type: ignore[index]
    assert sha == hashlib.sha256(secret.read_bytes()).hexdigest()


def test_what_a_record_says_is_text_on_the_page(tmp_path: Path) -> None:
    study = tmp_path / EVIL.replace("/", "")
    folder = write_run(
        study, {"ssim": 0.5, EVIL: 1.0}, content=EVIL, settings={"optimizer._target_": EVIL},
        overrides=[f"a={EVIL}", "\x1b]0;title\x07"], unavailable_metrics={EVIL: EVIL}, device=EVIL,
        final_losses={f"loss/{EVIL}": 1.0, "__proto__": 2.0},
    )  # fmt: skip
    picture(folder / "canvas.png", (1, 2, 3))
    folder.rename(study / "run")
    failed = write_run(study, state="failed", seed=1, error=EVIL)
    (failed / "run.log").write_text(f"{EVIL}\x1b[31m")
    change(failed.rename(study / "failed"), study=EVIL)
    (study / "<script>alert(2)<").mkdir()
    (study / ".sweep").mkdir()
    (study / ".sweep" / "commands.txt").write_text(f"now\tnstbench run {EVIL}\n")
    html = run_report(study)
    assert html.count("&lt;script&gt;alert(1)") >= 4
    assert html.count("<script") == 12  # those of the page itself
    assert "<script>alert" not in html
    assert "\x1b" not in html + (study / "report" / "data.js").read_text()


def test_a_report_does_not_follow_a_link_out_of_the_study(tmp_path: Path) -> None:
    study, mine = write_study(tmp_path), tmp_path / "mine"
    mine.mkdir()
    (study / "report").symlink_to(mine)
    (study / "comparison").symlink_to(mine)
    with pytest.raises(UserError, match=r"report: it is a link to .*mine, out of the study.*--output"):
        run_report(study)
    with pytest.raises(UserError, match=r"comparison: it is a link to"):
        run_compare(study)
    assert list(mine.iterdir()) == []


def test_what_a_killed_comparison_left_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nstbench.analysis.tradeoff_figure.write", lambda *_: [])  # takes the most time
    study, output = write_study(tmp_path), tmp_path / "out"
    output.mkdir()
    old, ours, other = (output / f".mine.csv.{n}.part" for n in (999999999, os.getpid(), 999999998))
    for file in (old, ours, other):
        file.write_text("half")
    for file in (old, ours):
        os.utime(file, (time.time() - 3600,) * 2)
    run_compare(study, output)
    assert not old.exists()
    assert ours.exists()  # a process is at work on it
    assert other.exists()  # perhaps one of another machine is


def test_of_mutated_studies_everything_sound_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A short form: `mutations.py` was run for hundreds."""
    study = write_study(tmp_path)
    monkeypatch.setattr("nstbench.analysis.tradeoff_figure.write", lambda *_: [])  # takes the most time
    (study / ".sweep" / "elsewhere-7").mkdir(parents=True)
    (study / ".sweep" / "commands.txt").write_text("now\tnstbench run -m a=1,2\n")
    entry = {"number": 0, "overrides": ["a=1"], "state": "failed", "error": "e", "log": "/etc/passwd"}
    (study / ".sweep" / "elsewhere-7" / "000000.json").write_text(json.dumps(entry))
    for folder in (file.parent for file in study.glob("*/run.json")):
        for name in ("run.log", "curves.csv", "canvas.png", "diagnostics.csv", "config.yaml"):
            if not (folder / name).exists():
                (folder / name).write_text("evaluation,loss/total\n0,1\n")
    random_ = random.Random(14)
    for _ in range(6):
        damaged = copy(study, tmp_path / "damaged")
        done = mutate(damaged, random_, times=6)
        untouched = {f.parent.name for f in study.glob("*/run.json")}
        untouched -= {each.split()[1].split("/")[0] for each in done}
        html = run_report(damaged)
        shown = {run["name"] for run in data_of(damaged)["runs"]}  # type: ignore[attr-defined]
        assert untouched <= shown, done
        assert "root:" not in html, done
        try:
            run_compare(damaged)
        except UserError as error:  # too few runs are left
            said = str(error)
        else:
            said = "Finish the study first"
        assert "Finish the study first" in said, done
    assert problems.begun(study)
    capsys.readouterr()
