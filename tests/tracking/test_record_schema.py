"""Which bytes of a ``run.json`` are a record, and why others are none."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nstbench.config.schema import Config
from nstbench.runs.run import run
from nstbench.tracking.record import RunRecord
from nstbench.tracking.record_files import RefusedFileError, printable, read_inside, read_tail
from nstbench.tracking.record_schema import DamagedRecordError, parse_record, read_record

CONFIG: dict[str, Any] = {"pictures": {"content": "a.jpg", "style": ["b.jpg"]}, "seed": 0, "metrics": {}}
RECORD: dict[str, Any] = asdict(RunRecord("r", "completed", "f", "s", ["size=48"], CONFIG, {"style": ["h"]}))


def nested(depth: int) -> Any:
    found: Any = 0
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"final_losses": [1.0]}, "final_losses: input should be a valid dictionary"),
        ({"metrics": {"ssim": "0.5"}}, "metrics.ssim: input should be a valid number"),
        ({"metrics": {"ssim": True}}, "metrics.ssim: input should be a valid number"),
        ({"metrics": {"ssim": 1e200}}, "metrics.ssim is 1e+200"),
        ({"metrics": {"ssim": 10**400}}, "it has an integer of more than 64 bits"),
        ({"directions": {"ssim": "up"}}, "directions.ssim: input should be 'min' or 'max'"),
        ({"evaluations": -1}, "evaluations is -1"),
        ({"evaluations": 1.5}, "evaluations: input should be a valid integer"),
        ({"error": ["x"]}, "error: input should be a valid string"),
        ({"overrides": [1]}, "overrides.0: input should be a valid string"),
        ({"config": {**CONFIG, "deep": nested(900)}}, "it is nested more than 24 levels deep"),
        ({"config": {**CONFIG, "wide": [0] * 20_000}}, "it has more than 5000 values"),
        ({"config": {**CONFIG, "long": "x" * 70_000}}, "it has a string of 70000 characters"),
        ({"config": {**CONFIG, "pictures": {"content": {}, "style": None}}}, "config.pictures.content"),
        ({"config": {**CONFIG, "seed": "0"}}, "config.seed: input should be a valid integer"),
        ({"config": {**CONFIG, "metrics": {"a": 1}}}, "config.metrics.a: input should be a valid dictionary"),
    ],
)
def test_a_field_that_is_out_of_bounds_is_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(DamagedRecordError) as raised:
        parse_record(json.dumps({**RECORD, **changes}).encode())
    assert str(raised.value).startswith(f"run.json is not a run's record: {reason}")


def test_what_is_no_single_object_is_no_record(tmp_path: Path) -> None:
    twice = json.dumps(RECORD)[:-1] + ', "state": "failed"}'
    for data, reason in [
        (twice.encode(), 'it has the key "state" twice'),
        (b"[" * 100_000, "it is nested too deeply"),
        (b"\xff", "it is not JSON"),
        (b"1" * 5000, "digits"),
        (b"null", "input should be"),
    ]:
        with pytest.raises(DamagedRecordError, match=reason):
            parse_record(data)
    with (tmp_path / "run.json").open("wb") as file:
        file.truncate(200 * 2**20)
    with pytest.raises(DamagedRecordError, match=r"it is larger than 4 MiB"):
        read_record(tmp_path, tmp_path)


def test_numbers_of_a_diverged_run_and_fields_of_later_versions_are_no_damage() -> None:
    text = json.dumps({**RECORD, "final_losses": {"loss/total": math.nan}, "joules": [1]})
    record = parse_record(text.encode())
    assert math.isnan(record.final_losses["loss/total"])
    assert record.overrides == ["size=48"]


def test_names_of_files_that_are_not_text_are_kept_unless_they_are_shown() -> None:
    data = json.dumps({**RECORD, "study": "\udcff\x1b[31m"}).encode()
    assert parse_record(data).study == "\udcff\x1b[31m"
    assert parse_record(data, printable).study == "??[31m"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(list(RECORD)), value=JSON)
def test_any_value_in_any_place_is_a_record_or_a_reason(name: str, value: Any) -> None:
    data = json.dumps({**RECORD, name: value}).encode()
    try:
        found = getattr(parse_record(data), name)
    except DamagedRecordError:
        return
    assert type(found) in (type(value), float)


def test_files_are_read_below_a_folder_only(tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    (tmp_path / "secret").write_text("secret")
    (study / "file").write_text("0123456789")
    (study / "inner").symlink_to("file")
    (study / "outer").symlink_to(tmp_path / "secret")
    assert read_inside(study, study / "inner", 10) == b"0123456789"
    assert read_tail(study, study / "file", 4) == (b"6789", False)
    for path in (study / "outer", study / ".." / "secret", Path("/dev/zero"), study / "a\0b"):
        with pytest.raises((RefusedFileError, FileNotFoundError)):
            read_inside(study, path, 10)
    with pytest.raises(RefusedFileError, match="larger than"):
        read_inside(study, study / "file", 9)


@pytest.mark.parametrize("content", [b"[" * 5000, json.dumps({**RECORD, "starts": 1}).encode()])
def test_a_run_on_a_damaged_record_says_so_and_begins_anew(
    compose_config: Callable[..., Config], caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    made = run(compose_config("steps=2", "metrics=fast"))
    assert made.record.directions["ssim"] == "max"
    assert made.record.directions["colour_distance"] == "min"
    whole = (made.folder / "canvas.png").read_bytes()
    (made.folder / "run.json").write_bytes(content)
    (made.folder / "config.yaml").write_text("a: &a [x]\nb: &b [*a, *a]\nstudy: !!python/name:os.system\n")
    with caplog.at_level(logging.WARNING):
        again = run(compose_config("steps=2", "metrics=fast"))
    (line,) = (r.getMessage() for r in caplog.records if r.name == "nstbench.tracking.record")
    assert line.startswith(f"the record in {made.folder} is ignored: run.json")
    assert not again.skipped
    assert again.record.state == "completed"
    assert (again.folder / "canvas.png").read_bytes() == whole
    assert RunRecord.read(again.folder) == again.record
