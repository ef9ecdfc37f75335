"""The run record: written whole or not at all, and read with care."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nstbench.errors import UserError
from nstbench.runtime.files import write_text
from nstbench.tracking.files import run_folder, run_id, write_config
from nstbench.tracking.record import RunRecord, versions

RECORD = RunRecord(
    run_id="photo-gram-s0-0123abcd",
    state="completed",
    fingerprint="0123abcd" * 8,
    study="first",
    overrides=["size=48", "pictures.content=Köln.jpg"],
    config={
        "pictures": {"content": "Köln.jpg", "style": None},
        "size": 48,
        "seed": 0,
        "metrics": {},
        "loss": {"style": {"gram": {"weight": 0.1}}},
        "none": None,
    },
    inputs={"content": "c" * 64, "style": ["a" * 64], "start": None},
    versions={"torch": "2"},
    device="cpu",
    steps=4,
    evaluations=5,
    timings={"setup_s": 0.1},
    peak_memory_bytes=2**34,
    final_losses={"loss/total": 1 / 3},
    metrics={"ssim": 0.1},
    unavailable_metrics={"lpips_alex": "no weights"},
    layers={"style/gram": ["relu1_1"]},
)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    RECORD.write(tmp_path)
    assert RunRecord.read(tmp_path) == RECORD
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]
    assert json.loads((tmp_path / "run.json").read_text()) == asdict(RECORD)


def test_until_the_new_record_is_whole_readers_see_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RECORD.write(tmp_path)
    seen = []

    def look_first(source: Path, target: Path) -> None:
        seen.append(RunRecord.read(tmp_path))
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", look_first)
    with pytest.raises(KeyboardInterrupt):
        RunRecord(**{**asdict(RECORD), "state": "failed"}).write(tmp_path)
    assert seen == [RECORD]
    assert RunRecord.read(tmp_path) == RECORD


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00broken",
        b"[]",
        b"null",
        b'"completed"',
        b'{"state": "completed"}',
        json.dumps(asdict(RECORD)).encode()[:-20],
    ],
)
def test_what_is_no_record_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    assert RunRecord.read(tmp_path) is None


def test_a_folder_without_a_record_has_none(tmp_path: Path) -> None:
    assert RunRecord.read(tmp_path) is None
    assert RunRecord.read(tmp_path / "missing") is None
    (tmp_path / "run.json").mkdir()
    assert RunRecord.read(tmp_path) is None


def test_a_folder_that_cannot_be_made_is_a_mistake_in_the_output_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        UserError, match=r"output=.*file: results cannot be written there \(Not a directory\)"
    ):
        run_folder(str(tmp_path / "file"), "study", "run")
    folder = run_folder(str(tmp_path / "new"), "study", "run")
    assert folder == tmp_path / "new" / "study" / "run"
    assert list(folder.iterdir()) == []


@settings(max_examples=100)
@given(st.lists(st.text(max_size=60), max_size=5))
def test_a_runs_name_is_a_safe_folder_name_that_ends_in_its_fingerprint(label: list[str]) -> None:
    name = run_id(label, "0123abcd" * 8)
    assert name.endswith("0123abcd")
    assert len(name) <= 89
    assert not name.startswith((".", "-"))
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


def test_the_config_is_plain_yaml(tmp_path: Path) -> None:
    config = {"size": 48, "name": "Köln", "weights": {"style": 1e-3}, "styles": ["a", None]}
    write_config(tmp_path, config)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text(encoding="utf-8")) == config
    write_text(tmp_path / "config.yaml", "{}")
    assert (tmp_path / "config.yaml").read_text() == "{}"


def test_the_versions_of_what_computes_are_known() -> None:
    import torch

    found = versions()
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert set(found) >= {"python", "nstbench", "torchvision", "pytorch-lightning", "numpy", "pillow"}
    assert "missing" not in found.values()
