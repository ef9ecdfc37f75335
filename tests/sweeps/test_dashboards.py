"""The view of a whole sweep in wandb and TensorBoard, read back with their own readers."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nstbench.analysis import dashboards, overview
from nstbench.analysis.dashboards import show_in_dashboards
from nstbench.analysis.records import read_study
from nstbench.config.schema import Config
from nstbench.pictures.sheet import table_of_pictures
from nstbench.tracking.ledger import Entry
from nstbench.tracking.record import RunRecord

Loggers = dict[str, dict[str, Any]]
LOGGERS = "nstbench.tracking.loggers"
WANDB: Loggers = {
    "wandb": {"_target_": f"{LOGGERS}.wandb_logger", "project": "mine", "entity": None, "mode": "auto"}
}
TENSORBOARD: Loggers = {"tensorboard": {"_target_": f"{LOGGERS}.tensorboard_logger"}}
COLOURS = {"gram": (200, 30, 30), "mrf": (30, 200, 30), "moments": (30, 30, 200)}
Sweep = Callable[..., list[Entry]]


@pytest.fixture
def sweep(compose_config: Callable[..., Config]) -> Sweep:
    """A sweep's folders: a colour for each formulation, its brightness the weight's."""
    plain = compose_config().plain

    def make(weights: tuple[float, ...] = (1.0, 10.0), pairs: Any = None) -> list[Entry]:
        entries = []
        for number, (style, weight) in enumerate(pairs or product(COLOURS, weights)):
            config = json.loads(json.dumps(plain))
            term = {**config["loss"]["style"]["gram"], "_target_": f"nstbench.losses.{style}"}
            config["loss"]["style"] = {style: term}
            config["weights"]["style"] = weight
            folder = Path("outputs/study", f"{style}-{weight:g}")
            folder.mkdir(parents=True, exist_ok=True)
            record = RunRecord(folder.name, "completed", folder.name, "study", [], config, {})
            record.metrics = {"ssim": 0.5 + number / 100, "cross/gram": 1.0, "cross/others": 0.25}
            record.write(folder)
            shade = 0.5 + 0.5 * weight / max(10.0, weight)
            colour = tuple(round(c * shade) for c in COLOURS[style])
            Image.new("RGB", (60, 40), colour).save(folder / "canvas.png")
            entries.append(Entry(number, [], "completed", folder=str(folder)))
        return entries

    return make


def wandb_runs() -> list[Path]:
    return sorted(Path("outputs/study/wandb").glob("offline-run-*"))


def inspect(folder: Path, *options: str) -> str:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", *options, str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def events() -> Any:
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    found = EventMultiplexer().AddRunsFromDirectory("outputs/study")  # as `tensorboard --logdir` does
    found.Reload()
    return found


def test_wandb_has_a_run_with_the_grid_and_a_table_of_all_runs(sweep: Sweep) -> None:
    entries = [*sweep(), Entry(6, ["x=1"], "failed", folder="outputs/study/none")]
    show_in_dashboards(entries, WANDB)
    (folder,) = wandb_runs()
    said = json.loads(inspect(folder, "--summary"))
    assert (said["project"], said["name"], said["state"]) == ("mine", "sweep", "finished")
    (of_run,) = [r["run"] for line in inspect(folder).splitlines() if "run" in (r := json.loads(line))]
    assert (of_run["run_group"], of_run["job_type"]) == ("study", "compare")
    (file,) = folder.glob("files/media/table/sweep/*.json")
    table = json.loads(file.read_text())
    assert table["columns"] == [
        "picture", "loss.style", "weights.style", "ssim", "cross/gram", "cross/others", "run",
    ]  # fmt: skip
    assert [row[1:4] for row in table["data"]] == [
        [style, weight, pytest.approx(0.5 + i / 100)]
        for i, (style, weight) in enumerate(product(COLOURS, (1, 10)))
    ]
    # The table's pictures wait beside it for an upload.
    waiting = [p.read_bytes() for p in Path("outputs/study/wandb/.data").rglob("*") if p.is_file()]
    pictures = [Image.open(io.BytesIO(each)) for each in waiting if each.startswith(b"\x89PNG")]
    assert {picture.getpixel((5, 5)) for picture in pictures} >= set(COLOURS.values())
    assert len([*folder.glob("files/media/images/sweep/grid*.png")]) == 1


def test_tensorboard_finds_the_grid_and_the_table(sweep: Sweep) -> None:
    entries = sweep()
    show_in_dashboards(entries, TENSORBOARD)
    found = events()
    (run,) = found.Runs()
    assert run == ".sweep/tensorboard"
    (image,) = found.Images(run, "sweep/grid")
    drawn = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)).convert("RGB"))
    for colour in COLOURS.values():
        assert (drawn == colour).all(axis=2).sum() > 60 * 40
    (event,) = found.Tensors(run, "sweep/table/text_summary")
    text = event.tensor_proto.string_val[0].decode()
    lines = text.splitlines()
    assert lines[0] == "| loss.style | weights.style | ssim | cross/others | run |"
    assert lines[2] == "| gram | 1 | 0.5 | 0.25 | gram-1 |"
    assert len(lines) == 2 + len(entries)
    # The study is as it was for those who analyse it.
    assert read_study(Path("outputs/study")).damaged == ()


def test_what_was_shown_is_replaced_only_if_something_changed(sweep: Sweep) -> None:
    both = {**WANDB, **TENSORBOARD}
    show_in_dashboards(sweep(), both)
    found = (p for p in Path("outputs/study").rglob("*") if p.is_file() and "sweep" in str(p))
    files = [p for p in found if p.name != ".lock"]
    before = {p: p.stat().st_mtime_ns for p in files}
    skipped = [Entry(e.number, e.overrides, "skipped", folder=e.folder) for e in sweep()]
    show_in_dashboards(skipped, both)
    assert {p: p.stat().st_mtime_ns for p in files} == before
    show_in_dashboards(sweep(weights=(1.0, 10.0, 20.0)), both)
    (folder,) = wandb_runs()
    (file,) = folder.glob("files/media/table/sweep/*.json")
    assert len(json.loads(file.read_text())["data"]) == 9
    assert len(events().Images(".sweep/tensorboard", "sweep/grid")) == 1
    assert len([*Path("outputs/study/.sweep/tensorboard").iterdir()]) == 1


def test_trouble_is_a_line_and_the_other_dashboard_has_its_view(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import wandb

    def refuse(**_: Any) -> None:
        raise wandb.errors.CommError("no answer\nat all")

    monkeypatch.setattr(wandb, "init", refuse)
    show_in_dashboards(sweep(), {**WANDB, **TENSORBOARD})
    assert capfd.readouterr().err == "nstbench: wandb does not show the sweep study: no answer\n"
    assert events().Runs() != {}
    assert not {"WANDB_CACHE_DIR", "WANDB_DATA_DIR"} & set(os.environ)


@pytest.mark.parametrize("loggers", [{}, {"csv": {"_target_": f"{LOGGERS}.csv_logger"}}])
def test_nothing_is_written_without_a_dashboard(sweep: Sweep, loggers: Mapping[str, Any]) -> None:
    show_in_dashboards(sweep(), loggers)
    assert not Path("outputs/study/.sweep").exists()


def test_one_run_is_nothing_to_compare(sweep: Sweep) -> None:
    show_in_dashboards(sweep(pairs=[("gram", 1.0)]), {**WANDB, **TENSORBOARD})
    assert not Path("outputs/study/.sweep").exists()


def test_of_two_sweeps_that_share_the_work_each_shows_all_of_it(sweep: Sweep) -> None:
    entries = sweep()
    show_in_dashboards(entries[:3], TENSORBOARD)
    first = dict(events().Runs())
    broken = Path("outputs/study/broken")
    shutil.copytree(entries[0].folder, broken)
    (broken / "canvas.png").write_bytes(b"cut off")
    unfinished = RunRecord.read(Path(entries[5].folder))
    assert unfinished is not None
    unfinished.state = "running"
    unfinished.write(Path(entries[5].folder))
    show_in_dashboards(entries[3:5], TENSORBOARD)
    assert set(events().Runs()) == set(first) == {".sweep/tensorboard"}
    (event,) = events().Tensors(".sweep/tensorboard", "sweep/table/text_summary")
    shown = [
        line.split(" | ")[-1].removesuffix(" |")
        for line in event.tensor_proto.string_val[0].decode().splitlines()
    ]
    assert sorted(shown[2:]) == sorted(Path(entry.folder).name for entry in entries[:5])


def test_two_sweeps_that_end_together_write_one_after_the_other(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries, at_work, shown = sweep(), [], []

    def show(study: Path, runs: Any, *_: Any) -> None:
        at_work.append(1)
        shown.append((len(runs), len(at_work)))
        time.sleep(0.5)
        at_work.pop()

    monkeypatch.setattr(dashboards, "_to_tensorboard", show)
    monkeypatch.setattr(dashboards, "_to_wandb", show)
    halves = [(entries[:3], TENSORBOARD), (entries[3:], {**WANDB, **TENSORBOARD})]
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda half: show_in_dashboards(*half), halves))
    assert shown == [(6, 1)] * 2  # each dashboard once, never two at a time


def test_classes_are_shown_by_their_short_names(sweep: Sweep) -> None:
    entries = sweep(pairs=[("gram", 1.0), ("gram", 2.0)])
    record = RunRecord.read(Path(entries[1].folder))
    assert record is not None
    record.config["optimizer"]["_target_"] = "torch.optim.Adam"
    record.write(Path(entries[1].folder))
    assert [run.settings for run in runs_of(entries)] == [
        {"optimizer": "LBFGS", "weights.style": 1},
        {"optimizer": "Adam", "weights.style": 2},
    ]


# ------------------------------------------------------------------------------- the grid


def runs_of(entries: list[Entry]) -> list[overview.Run]:
    return overview.runs_of(Path("outputs/study"), [Path(entry.folder) for entry in entries])


def test_rows_are_formulations_and_columns_weights(sweep: Sweep) -> None:
    drawn = np.asarray(overview.grid(runs_of(sweep())))
    centres = {}
    for style, (weight, shade) in product(COLOURS, ((1, 0.55), (10, 1.0))):
        colour = [round(c * shade) for c in COLOURS[style]]
        ys, xs = np.nonzero((drawn == colour).all(axis=2))
        assert len(ys) >= 256 * 170 * 0.9  # a cell of 256 pixels
        centres[style, weight] = ys.mean(), xs.mean()
    for style in COLOURS:  # a row each
        assert centres[style, 1][0] == pytest.approx(centres[style, 10][0], abs=1)
        assert centres[style, 1][1] < centres[style, 10][1]
    assert centres["gram", 1][0] < centres["mrf", 1][0] < centres["moments", 1][0]


def test_a_search_has_every_picture_though_no_two_share_a_value(sweep: Sweep) -> None:
    pairs = [(style, 1.7 * i + 0.1) for i, style in enumerate([*COLOURS] * 4)]
    drawn = np.asarray(overview.grid(runs_of(sweep(pairs=pairs))))
    assert max(drawn.shape) <= 2000
    shades = {tuple(round(c * (0.5 + 0.5 * w / max(10.0, w))) for c in COLOURS[style]) for style, w in pairs}
    for shade in shades:
        assert (np.abs(drawn.astype(int) - shade).max(axis=2) <= 1).sum() > 1000


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 40), (50, 2), (17, 9)])
def test_the_grid_has_the_size_that_was_asked_for(n: int, m: int) -> None:
    pictures = {(i, j): Image.new("RGB", (30, 40)) for i, j in product(range(n), range(m))}
    names = [f"a rather long name {i}" for i in range(max(n, m))]
    drawn = table_of_pictures(names[:n], names[:m], pictures, longest=1500, title="of two\nlines")
    assert max(drawn.size) <= 1500
    assert (np.asarray(drawn).max(axis=2) == 0).sum() >= n * m * 12 * 16


def test_a_table_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit into 200"):
        table_of_pictures(["a"] * 30, ["b"], {}, longest=200)
    with pytest.raises(ValueError, match="rows and columns"):
        table_of_pictures([], ["b"], {})


@pytest.mark.slow
def test_a_hundred_runs_are_quick(sweep: Sweep) -> None:
    entries = sweep(weights=tuple(float(i + 1) for i in range(34)))
    for entry in entries:
        noise = np.random.default_rng(entry.number).integers(0, 255, (256, 256, 3), dtype=np.uint8)
        Image.fromarray(noise).save(Path(entry.folder) / "canvas.png")
    show_in_dashboards(sweep(pairs=[("gram", 1.0), ("mrf", 1.0)]), {**WANDB, **TENSORBOARD})  # loads both
    shutil.rmtree("outputs/study/.sweep")
    began = time.monotonic()
    show_in_dashboards(entries, {**WANDB, **TENSORBOARD})
    seconds = time.monotonic() - began
    assert math.isfinite(seconds)
    assert seconds < 15  # 2 s on an idle machine
