"""A study folder becomes a table; what cannot be read is told, and nothing else is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_study import write_run

from nstbench.analysis.criteria import choose, higher_is_better
from nstbench.analysis.records import read_study
from nstbench.errors import UserError


def test_a_run_is_a_row_with_all_that_was_asked(tmp_path: Path) -> None:
    write_run(tmp_path, {"ssim": 0.25}, loss="gram+mrf", seed=3, settings={"weights.style": 10.0})
    write_run(tmp_path, {"ssim": 0.5, "psnr": 9.0}, content="sample:b", settings={"canvas.start": "noise"})
    study = read_study(tmp_path)
    runs = study.runs.set_index("seed")
    assert set(study.settings) == {"loss.style", "weights.style", "canvas.start"}
    assert runs.loc[3, "loss.style"] == "gram+mrf"
    assert runs["metric/ssim"].to_dict() == {3: 0.25, 0: 0.5}
    assert runs["metric/psnr"].isna().to_dict() == {3: True, 0: False}
    assert runs.loc[3, ["content", "style", "state"]].tolist() == ["sample:a", "sample:z", "completed"]
    assert runs.loc[3, ["size", "steps", "evaluations", "seconds"]].tolist() == [128, 100, 100, 8.0]
    assert runs["weights.style"].to_dict() == {3: 10, 0: 2}
    assert study.damaged == ()


def test_settings_that_change_no_picture_are_not_swept(tmp_path: Path) -> None:
    write_run(tmp_path)
    write_run(
        tmp_path, seed=1, settings={"trainer.threads": 4, "record.progress": True, "output": "elsewhere"}
    )
    assert read_study(tmp_path).settings == ()


def test_a_whole_number_is_one_setting_however_it_was_typed_and_true_is_another(tmp_path: Path) -> None:
    write_run(tmp_path, settings={"weights.style": 2})
    write_run(tmp_path, settings={"weights.style": 2.0})
    assert read_study(tmp_path).settings == ()
    write_run(tmp_path, settings={"optimizer.lr": True})
    assert read_study(tmp_path).settings == ("optimizer.lr",)


def test_what_an_optimizer_alone_has_is_told_by_the_optimizer(tmp_path: Path) -> None:
    adam = {"optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.05}}
    write_run(tmp_path)
    write_run(tmp_path, settings=adam)
    assert read_study(tmp_path).settings == ("optimizer._target_", "optimizer.lr")
    write_run(tmp_path, seed=1, settings={**adam, "canvas.noise_share": "REMOVED"})
    assert "canvas.noise_share" in read_study(tmp_path).settings  # nothing else tells


def test_pictures_of_one_name_but_other_bytes_are_told_apart(tmp_path: Path) -> None:
    for seed, sha in enumerate(("aaaaaaaaaa", "bbbbbbbbbb")):
        write_run(tmp_path, seed=seed, content="me.jpg", inputs={"content": sha, "style": ["c"]})
    assert sorted(read_study(tmp_path).runs["content"]) == ["me.jpg#aaaaaaaa", "me.jpg#bbbbbbbb"]


def test_damage_is_reported_and_left_out_and_nothing_else_is(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path, {"ssim": 0.5}, seed=seed)
    write_run(tmp_path, seed=7, state="running")
    write_run(tmp_path, seed=8, state="failed")
    cut = write_run(tmp_path, seed=10)
    (cut / "run.json").write_text((cut / "run.json").read_text()[:-300])
    (write_run(tmp_path, seed=11) / "canvas.png").unlink()
    (write_run(tmp_path, seed=12) / "run.json").write_bytes(b"\xff\xfe\x00")
    (write_run(tmp_path, seed=13) / "run.json").write_text("[1, 2]")
    (write_run(tmp_path, seed=14) / "run.json").write_text('{"run_id": "x", "state": "completed"}')
    (write_run(tmp_path, seed=15) / "run.json").write_text("[" * 100_000)
    write_run(tmp_path, seed=16, state="napping")
    write_run(tmp_path, seed=17, metrics={"ssim": "good"})  # type: ignore[dict-item]
    copy = tmp_path / "zz copy"
    copy.mkdir()
    for name in ("run.json", "canvas.png"):
        (copy / name).write_bytes((tmp_path / "gram-a-z-s0" / name).read_bytes())
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "holiday").mkdir()
    (tmp_path / ".sweep").mkdir()
    (tmp_path / "comparison").mkdir()
    (tmp_path / "comparison" / "comparison.csv").write_text("ours")

    study = read_study(tmp_path)
    assert sorted(study.runs["seed"]) == [0, 1, 2, 7, 8]
    assert study.runs.set_index("seed")["state"].to_dict() == {
        0: "completed", 1: "completed", 2: "completed", 7: "running", 8: "failed"
    }  # fmt: skip
    reasons = dict(study.damaged)
    assert set(reasons) == {f"gram-a-z-s{n}" for n in range(10, 18)} | {"zz copy", "notes.txt", "holiday"}
    assert reasons["gram-a-z-s11"] == "canvas.png is missing"
    assert reasons["gram-a-z-s14"] == "run.json is not a run's record: it has no fingerprint"
    assert reasons["gram-a-z-s16"].endswith("state: input should be 'running', 'completed' or 'failed'")
    assert reasons["gram-a-z-s17"].endswith("metrics.ssim: input should be a valid number")
    assert reasons["holiday"] == "there is no run.json in it"
    assert reasons["zz copy"] == "a copy of gram-a-z-s0"
    assert all("it is not JSON" in reasons[f"gram-a-z-s{n}"] for n in (10, 12))
    assert "nested too deeply" in reasons["gram-a-z-s15"]


def test_no_such_folder_names_the_nearest_and_a_runs_folder_its_study(tmp_path: Path) -> None:
    run = write_run(tmp_path / "loss_comparison")
    with pytest.raises(UserError, match="Did you mean loss_comparison"):
        read_study(tmp_path / "loss_comparson")
    with pytest.raises(UserError, match=r"folder of one run\. Type its study"):
        read_study(run)
    with pytest.raises(UserError, match="cannot be read"):
        read_study(run / "run.json")


def test_directions_are_those_on_which_completed_runs_agree(tmp_path: Path) -> None:
    write_run(tmp_path, {"ssim": 0.5, "mine": 1.0, "old": 2.0}, directions={"ssim": "max", "mine": "min"})
    write_run(tmp_path, {"ssim": 0.5, "mine": 1.0}, seed=1, directions={"ssim": "max", "mine": "max"})
    study = read_study(tmp_path)
    assert study.directions == {"ssim": "max"}
    assert higher_is_better(study, "ssim")
    for name in ("mine", "old"):
        with pytest.raises(UserError, match=f"{name}: its direction is unknown"):
            higher_is_better(study, name)
    assert choose(study, None) == ["ssim"]


def test_reading_records_loads_nothing_that_trains(tmp_path: Path) -> None:
    write_run(tmp_path / "study", {"ssim": 0.5})
    write_run(tmp_path / "study", {"ssim": 0.6}, loss="mrf")
    code = (
        "import sys, argparse, pathlib; from nstbench.cli import compare;"
        "compare.main(argparse.Namespace(study=pathlib.Path('study'), by='loss.style', criterion=None,"
        " baseline=None, tradeoff=None, output=None));"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import json; {code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "nstbench.analysis.records" in loaded
    assert not loaded & {
        "torch",
        "lightning",
        "pytorch_lightning",
        "hydra",
        "nstbench.runs.run",
        "nstbench.losses",
    }
