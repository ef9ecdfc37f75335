"""What the page of a study says: its layout at first, its commands, its curves and its pictures."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image

from nstbench.analysis.report import commands
from nstbench.analysis.report.arrangement import Arrangement, arrange
from nstbench.analysis.report.curves import POINTS, thinned
from nstbench.analysis.report.pictures import NOT_THERE, Copy, Pictures, Source
from nstbench.tracking.record import RunRecord


def _runs(**values: list[object]) -> pd.DataFrame:
    return pd.MultiIndex.from_product(values.values(), names=values.keys()).to_frame(index=False)


def test_formulations_stand_in_rows_and_their_weights_in_columns() -> None:
    runs = _runs(**{"loss.style": ["gram", "mrf"], "weights.style": [1, 10, 100]})
    assert arrange(runs, list(runs)) == Arrangement("loss.style", "weights.style")


def test_a_setting_of_many_values_goes_down_the_page() -> None:
    runs = _runs(**{"loss.style": ["gram", "mrf"], "weights.style": list(range(20))})
    assert arrange(runs, list(runs)) == Arrangement("weights.style", "loss.style")


def test_pictures_are_chosen_before_the_seed_which_is_held_first() -> None:
    losses = [f"loss{k}" for k in range(17)]
    runs = _runs(content=["a", "b", "c"], style=["x", "y", "z"], seed=[0, 1], **{"loss.style": losses})
    assert arrange(runs, list(runs)) == Arrangement("loss.style", "style", {"seed": 0})


def test_no_filter_takes_a_cell_away() -> None:
    first = _runs(**{"loss.style": ["gram"], "style": ["x"], "seed": [0, 1, 2, 3, 4]})
    other = _runs(**{"loss.style": ["mrf"], "style": ["x", "y"], "seed": [7]})
    assert arrange(pd.concat([first, other]), list(first)) == Arrangement("loss.style", "style", {})


def test_settings_that_were_changed_one_at_a_time_span_no_empty_grid() -> None:
    one = _runs(**{"loss.style": [f"loss{k}" for k in range(9)], "size": [128]})
    other = _runs(**{"loss.style": ["loss0"], "size": [64, 256, 512]})
    assert arrange(pd.concat([one, other]), ["loss.style", "size"]) == Arrangement("loss.style", "")


def test_a_single_run_and_a_single_setting_have_a_layout() -> None:
    assert arrange(_runs(seed=[0]), []) == Arrangement()
    assert arrange(_runs(seed=[0, 1]), ["seed"]) == Arrangement("", "seed")
    assert arrange(_runs(seed=list(range(20))), ["seed"]) == Arrangement("", "")


def _record(study: str, *overrides: str) -> RunRecord:
    return RunRecord("run", "completed", "f", study, list(overrides), config={}, inputs={})


def test_a_sweep_of_all_combinations_is_one_command() -> None:
    records = [
        _record("s", f"loss/style={loss}", r"pictures.content=sample\:astronaut", f"seed={n}")
        for loss in ("gram", "mrf")
        for n in (0, 1)
    ]
    (command,) = commands.reconstructed(records)
    assert command.text == (
        "nstbench run -m study=s loss/style=gram,mrf pictures.content=sample:astronaut seed=0,1"
    )
    assert [c.text for c in commands.reconstructed(records[:3])] == [commands.of_run(r) for r in records[:3]]


def test_runs_that_no_command_tells_apart_have_no_command() -> None:
    assert commands.reconstructed([_record("s")] * 2) == []
    assert [c.text for c in commands.reconstructed([_record("s")])] == ["nstbench run study=s"]


def test_a_run_is_repeated_by_what_was_typed_quoted_for_the_shell() -> None:
    record = _record("s", "study=mine", r"pictures.content=my\ photo\ \(1\)\,b.jpg")
    assert commands.of_run(record) == """nstbench run study=mine 'pictures.content="my photo (1),b.jpg"'"""


def test_typed_commands_are_read_with_their_time(tmp_path: Path) -> None:
    (tmp_path / ".sweep").mkdir()
    (tmp_path / ".sweep" / "commands.txt").write_text("2026-11-20T10:00:00\tnstbench run -m seed=0,1\n\n")
    assert commands.typed(tmp_path) == [("nstbench run -m seed=0,1", "2026-11-20T10:00:00")]
    assert commands.typed(tmp_path / "nothing") == []


def test_a_command_that_was_typed_again_counts_once_and_the_newest_come_first(tmp_path: Path) -> None:
    (tmp_path / ".sweep").mkdir()
    lines = [("1", "nstbench run -m a=1,2"), ("2", "nstbench run -m b=1,2"), ("3", "nstbench run -m a=1,2")]
    text = "".join(f"{when}\t{command}\n" for when, command in lines)
    (tmp_path / ".sweep" / "commands.txt").write_text(text)
    assert commands.typed(tmp_path) == [("nstbench run -m a=1,2", "3"), ("nstbench run -m b=1,2", "2")]


_HEAD = "evaluation,step,stage,seconds,loss/total,loss/style/gram,loss/style/mrf,value/style/gram"


def test_a_role_is_the_sum_of_its_terms_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "curves.csv"
    file.write_text(f"{_HEAD}\n0,0,0,0.5,7,2,3,9\n1,1,0,1.5,nan,1,2,8\n2,2,0,2.")
    curve = thinned(file)
    assert curve == {
        "evaluation": [0, 1],
        "total": [7, None],
        "seconds": [0.5, 1.5],
        "style": [5, 3],
        "style/gram": [2, 1],
        "style/mrf": [3, 2],
    }


@pytest.mark.parametrize("text", ["", _HEAD, f"{_HEAD}\n", f"{_HEAD}\n1,2"])
def test_before_its_first_row_there_is_no_curve(tmp_path: Path, text: str) -> None:
    (tmp_path / "curves.csv").write_text(text)
    assert thinned(tmp_path / "curves.csv") is None
    assert thinned(tmp_path / "missing.csv") is None


@given(rows=some.integers(1, 3000))
def test_a_thinned_curve_keeps_its_ends_and_its_order(
    rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "curves.csv"
    file.write_text("evaluation,loss/total\n" + "".join(f"{k},{k}\n" for k in range(rows)))
    curve = thinned(file)
    assert curve is not None
    kept = curve["evaluation"]
    assert (kept[0], kept[-1]) == (0, rows - 1)
    assert kept == sorted(set(kept), key=float)  # type: ignore[arg-type]
    assert len(kept) == rows if rows <= POINTS else len(kept) <= POINTS


def _noise(file: Path, width: int, height: int) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return file


def test_copies_are_small_in_bytes_whatever_the_picture(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path / "report")
    pictures.make_folders()
    file = _noise(tmp_path / "run" / "canvas.png", 1000, 500)
    copy = pictures.of_canvases([file])[file]
    assert isinstance(copy, Copy)
    assert (copy.width, copy.height) == (768, 384)
    thumb, large = (tmp_path / "report" / "pictures" / kind / copy.name for kind in ("thumb", "large"))
    assert Image.open(thumb).size == (240, 120)
    assert Image.open(large).size == (768, 384)
    assert thumb.stat().st_size < 20_000  # noise is the worst that there is
    assert large.stat().st_size < 150_000


def test_a_copy_is_made_again_only_when_the_picture_changed(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path / "report")
    pictures.make_folders()
    file = _noise(tmp_path / "run" / "canvas.png", 60, 40)
    first = pictures.of_canvases([file])[file]
    assert isinstance(first, Copy)
    thumb = tmp_path / "report" / "pictures" / "thumb" / first.name
    thumb.write_bytes(b"as it was")
    assert Pictures(tmp_path / "report").of_canvases([file])[file] == first
    assert thumb.read_bytes() == b"as it was"
    os.utime(file, ns=(1, 1))
    second = pictures.of_canvases([file])[file]
    assert isinstance(second, Copy)
    assert second.name != first.name
    pictures.remove_all_but([second])
    assert [p.name for p in thumb.parent.iterdir()] == [second.name]


def test_pictures_that_cannot_be_had_leave_a_reason(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path / "report")
    pictures.make_folders()
    broken, missing = tmp_path / "canvas.png", tmp_path / "none.png"
    broken.write_bytes(b"picture")
    found = pictures.of_canvases([broken, missing])
    assert found[missing] == "there is no picture"
    assert str(found[broken]).startswith("canvas.png cannot be read: ")
    file = _noise(tmp_path / "me.png", 20, 20)
    sha = hashlib.sha256(file.read_bytes()).hexdigest()
    sources = [
        Source(str(file), sha, "pictures.content"),
        Source(str(file), "0" * 64, "pictures.content"),
        Source(str(missing), "1" * 64, "pictures.style"),
        Source("sample:nobody", "2" * 64, "pictures.style"),
    ]
    inputs = pictures.of_inputs(sources)
    assert isinstance(inputs[sha], Copy)
    assert inputs["0" * 64] == inputs["1" * 64] == NOT_THERE
    assert inputs["2" * 64] == "there is no such sample"
