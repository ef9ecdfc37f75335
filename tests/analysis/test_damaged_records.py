"""Damage of other kinds: each is reported with its reason, and nothing else is lost."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from synthetic_study import PNG, write_run

from nstbench.analysis.records import read_study


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "canvas.png is empty"),
        (PNG[: len(PNG) // 2], "canvas.png is truncated"),
        (PNG[:-1], "canvas.png is truncated"),
        (b"<html>not found</html>", "canvas.png is not a PNG"),
    ],
)
def test_a_picture_that_is_not_whole_is_no_result(tmp_path: Path, content: bytes, reason: str) -> None:
    write_run(tmp_path, {"ssim": 0.5})
    (write_run(tmp_path, {"ssim": 0.5}, seed=1) / "canvas.png").write_bytes(content)
    study = read_study(tmp_path)
    assert study.runs["seed"].tolist() == [0]
    assert study.damaged == (("gram-a-z-s1", reason),)


def test_what_stands_in_the_place_of_a_record_or_picture(tmp_path: Path) -> None:
    write_run(tmp_path, {"ssim": 0.5})
    for seed, name in enumerate(("run.json", "canvas.png"), start=1):
        place = write_run(tmp_path, {"ssim": 0.5}, seed=seed) / name
        place.unlink()
        place.mkdir()
    pipe = write_run(tmp_path, {"ssim": 0.5}, seed=3) / "run.json"
    pipe.unlink()
    os.mkfifo(pipe)
    loop = write_run(tmp_path, {"ssim": 0.5}, seed=4) / "run.json"
    loop.unlink()
    loop.symlink_to("run.json")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "self").symlink_to(tmp_path)
    study = read_study(tmp_path)
    assert study.runs["seed"].tolist() == [0]
    reasons = dict(study.damaged)
    assert set(reasons) == {"gram-a-z-s1", "gram-a-z-s2", "gram-a-z-s3", "gram-a-z-s4", "loop", "self"}
    assert "cannot be read" in reasons["gram-a-z-s1"]
    assert reasons["gram-a-z-s2"] == "canvas.png cannot be read: this is a folder, not a regular file"
    assert reasons["gram-a-z-s3"] == "run.json cannot be read: it is not a regular file"
    assert reasons["gram-a-z-s4"] == "run.json cannot be read: its links lead in a circle"


def test_numbers_and_texts_that_no_table_holds(tmp_path: Path) -> None:
    write_run(tmp_path, {"ssim": 10**400}, seed=1)
    write_run(tmp_path, {"ssim": 0.5}, seed=2, content="\udcff.jpg")  # a file name that is not UTF-8
    write_run(tmp_path, {"ssim": float("nan")}, seed=3, content="🎨.jpg")
    study = read_study(tmp_path)
    assert dict(study.damaged).keys() == {"gram-a-z-s1"}
    assert study.runs["content"].tolist() == ["?.jpg", "🎨.jpg"]
    study.runs.to_parquet(tmp_path / "runs.parquet")


def test_a_record_of_a_later_version_is_read_as_far_as_it_is_known(tmp_path: Path) -> None:
    folder = write_run(tmp_path, {"ssim": 0.5, "of_the_future": 2.0})
    record = json.loads((folder / "run.json").read_text())
    record |= {"version_of_record": 9, "telemetry": {"joules": [1, 2]}}
    (folder / "run.json").write_text(json.dumps(record))
    study = read_study(tmp_path)
    assert study.damaged == ()
    assert study.runs["metric/of_the_future"].tolist() == [2.0]


def test_a_configuration_of_thousands_of_settings_costs_the_others_no_time(tmp_path: Path) -> None:
    write_run(tmp_path, {"ssim": 0.5})
    folder = write_run(tmp_path, {"ssim": 0.5}, seed=1)
    record = json.loads((folder / "run.json").read_text())
    record["config"]["many"] = {f"k{n}": n for n in range(2000)}
    (folder / "run.json").write_text(json.dumps(record))
    ((name, reason),) = read_study(tmp_path).damaged
    assert name == folder.name
    assert reason.startswith("run.json is not a run's record: its configuration has 20")
