"""What a user sees when the disk is full, or a folder is removed, while a run writes; and afterwards."""

from __future__ import annotations

import csv
import errno
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from conftest import with_tiny
from small_disk import SmallDisk, small_disk

import nstbench.runs.recording as recording_module
import nstbench.runs.run as run_module
from nstbench.callbacks.sweep_progress import Reporting
from nstbench.cli import main
from nstbench.config.schema import Config
from nstbench.errors import StorageError
from nstbench.modules.member import Evaluation, EvaluationCallback, Member
from nstbench.runs.run import run
from nstbench.tracking.ledger import Entry, Ledger
from nstbench.tracking.record import RunRecord
from nstbench.tracking.run_log import RunLog

Compose = Callable[..., Config]
FULL = r"(the disk is full|a file would exceed the limit on file sizes)\. .*then type the same command"
SETTINGS = ("size=144", "steps=8", "record.curves_every=1", "record.snapshot_every=2")
NO_TRACEBACK = re.compile(r"Traceback|Logging error|Exception ignored|Exception in thread")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


def typed(pair: dict[str, str], output: Path, *more: str) -> list[str]:
    sweep = [m for m in more if m == "-m"]
    rest = [m for m in more if m != "-m"]
    pictures = (f"content={pair['photo']}", f"style={pair['painting']}", f"output={output}")
    return ["run", *sweep, *with_tiny(*SETTINGS, *pictures, *rest)]


def pictures(output: Path) -> dict[str, bytes]:
    return {file.parent.name: file.read_bytes() for file in output.glob("*/*/canvas.png")}


def parts(folder: Path) -> list[Path]:
    return [*folder.rglob("*.part*"), *folder.rglob(".writing*")]


@pytest.mark.parametrize("room", [3_000, 60_000, pytest.param(12_000, marks=pytest.mark.slow)])
def test_a_run_on_a_full_disk_stops_with_one_line_and_continues_when_there_is_room(
    disk: SmallDisk, pair: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str], room: int
) -> None:
    assert main(typed(pair, tmp_path / "whole")) == 0
    command = typed(pair, disk.folder)
    capfd.readouterr()
    disk.leave(room)
    status = main(command)
    printed = capfd.readouterr()
    lines = [line for line in printed.err.splitlines() if "nstbench" in line]
    assert status == 1
    assert len(lines) == 1
    assert re.search(rf"^nstbench: the run stopped: {disk.folder}/first/\S+: {FULL}", lines[0])
    assert not NO_TRACEBACK.search(printed.err + printed.out)
    assert not parts(disk.folder)
    for table in disk.folder.rglob("curves.csv"):
        rows = list(csv.DictReader(table.open()))
        assert [int(row["evaluation"]) for row in rows] == list(range(len(rows)))
        assert all(float(row["loss/total"]) > 0 for row in rows)
    for file in disk.folder.rglob("run.json"):
        record = RunRecord.read(file.parent)
        assert record is not None
        assert record.state == "running"

    disk.enlarge()
    assert main(command) == 0
    assert pictures(disk.folder) == pictures(tmp_path / "whole")


def test_a_run_continues_from_the_checkpoint_that_was_whole(
    disk: SmallDisk,
    pair: dict[str, str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    checkpoints = ("record.checkpoint_every=2", "record.snapshot_every=0")
    assert main(typed(pair, tmp_path / "whole", *checkpoints)) == 0
    command = typed(pair, disk.folder, *checkpoints)
    disk.leave(1_100_000, largest=1_000_000)  # L-BFGS remembers more with every step, and so checkpoints grow
    assert main(command) == 1
    (folder,) = (disk.folder / "first").glob("*-*")
    assert (folder / "checkpoint.ckpt").stat().st_size > 100_000
    assert not NO_TRACEBACK.search("".join(capfd.readouterr()))
    disk.enlarge()
    assert main(command) == 0
    assert pictures(disk.folder) == pictures(tmp_path / "whole")
    evaluations = [row["evaluation"] for row in csv.DictReader((folder / "curves.csv").open())]
    assert evaluations == [str(n) for n in range(9)]


@pytest.mark.parametrize("launcher", ["basic", pytest.param("batched", marks=pytest.mark.slow)])
def test_a_sweep_on_a_full_disk_tells_of_every_run_and_ends_them_when_there_is_room(
    disk: SmallDisk, pair: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str], launcher: str
) -> None:
    several = ("-m", "seed=1,2,3", f"hydra/launcher={launcher}")
    assert main(typed(pair, tmp_path / "whole", *several)) == 0
    command = typed(pair, disk.folder, *several)
    capfd.readouterr()
    disk.leave(250_000)
    assert main(command) == 1
    printed = "".join(capfd.readouterr())
    assert not NO_TRACEBACK.search(printed)
    for seed in (1, 2, 3):
        done = re.search(rf"^{disk.folder}/first/\S+-s{seed}-", printed, re.MULTILINE)
        failed = re.search(rf"failed: seed={seed}: {disk.folder}/first/\S+: {FULL}", printed)
        assert bool(done) != bool(failed), printed
    assert not parts(disk.folder)
    disk.enlarge()
    assert main(command) == 0  # without retry_failed=true: no run is at fault
    assert pictures(disk.folder) == pictures(tmp_path / "whole")


@pytest.mark.parametrize("launcher", [pytest.param("basic", marks=pytest.mark.slow), "batched"])
def test_a_run_whose_folder_is_removed_fails_alone(
    pair: dict[str, str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    launcher: str,
) -> None:
    on_evaluation = Reporting.on_evaluation

    def remove(self: Reporting, module: object, evaluation: Evaluation) -> None:
        on_evaluation(self, module, evaluation)
        if evaluation.index == 5 and "-s2-" in self.entry.folder and not removed:
            removed.append(self.entry.folder)
            shutil.rmtree(self.entry.folder)

    removed: list[str] = []
    monkeypatch.setattr(Reporting, "on_evaluation", remove)
    command = typed(pair, tmp_path / "out", "-m", "seed=1,2,3", f"hydra/launcher={launcher}")
    assert main(command) == 1
    printed = "".join(capfd.readouterr())
    assert "3 runs: 2 completed, 1 failed" in printed
    assert re.search(r"failed: seed=2: \S+-s2-\S+: the folder was removed or moved\. Put it back", printed)
    assert not NO_TRACEBACK.search(printed)
    assert not Path(removed[0]).exists()  # nothing of it is made again behind the user's back
    assert main(command) == 0
    assert len(pictures(tmp_path / "out")) == 3


@pytest.mark.parametrize(
    ("module", "name"), [(recording_module, "write_png"), (run_module, "compute_metrics")]
)
def test_a_folder_that_is_removed_before_its_picture_is_read_back_is_named(
    pair: dict[str, str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    name: str,
) -> None:
    function = getattr(module, name)

    def then_removed(*given: object) -> object:
        (folder,) = (tmp_path / "out" / "first").glob("*-*")
        if name == "write_png":
            function(*given)
        shutil.rmtree(folder)
        return None if name == "write_png" else function(*given)

    command = typed(pair, tmp_path / "out", "steps=2", "metrics=fast")
    with monkeypatch.context() as patch:
        patch.setattr(module, name, then_removed)
        assert main(command) == 1
    printed = capfd.readouterr().err
    assert re.search(r"\S+: the folder was removed or moved\. Put it back", printed)
    assert not NO_TRACEBACK.search(printed)
    assert main(command) == 0


def test_outcomes_are_kept_where_the_ledger_cannot_be_written(tmp_path: Path) -> None:
    ledger = Ledger.new(tmp_path / "study" / ".sweep")
    ledger.note(Entry(0, [], "running", folder="x"))
    ledger.note(Entry(1, [], "completed"))
    shutil.rmtree(tmp_path / "study")
    here = Ledger.here()  # as a worker opens it
    assert here is not None
    here.note(Entry(0, [], "failed", error="the disk is full"))
    assert ledger.entries()[0].error == "the disk is full"
    found = ledger.of(0)
    assert found is not None
    assert found.state == "failed"
    ledger.folder.mkdir(parents=True)
    here.note(Entry(0, [], "completed"))
    assert ledger.entries()[0].state == "completed"
    assert ledger.spare is not None
    ledger.close()
    assert not ledger.spare.exists()
    assert Ledger.here() is None

    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = ledger.spare.with_name(f"nstbench-sweep-{gone.pid}-x")
    left.mkdir()  # as a killed sweep does
    Ledger.new(tmp_path / "study" / ".sweep").close()
    assert not left.exists()


@pytest.mark.parametrize(
    "name",
    [
        *("canvas.png", "run.json", "curves.csv"),
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("config.yaml", "run.log", ".lock", "canvas.gif")),
    ],
)
def test_a_folder_in_the_place_of_a_file_is_named_and_its_removal_suffices(
    pair: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    command = typed(pair, tmp_path / "out", "steps=2", "record.animation=gif")
    assert main(command) == 0
    (folder,) = (tmp_path / "out" / "first").glob("*-*")
    shutil.rmtree(folder)
    (folder / name / "within").mkdir(parents=True)
    capfd.readouterr()
    assert main(command) == 1
    printed = capfd.readouterr().err
    lines = [line for line in printed.splitlines() if "nstbench" in line]
    assert len(lines) == 1
    assert f"{folder}: {name} is a folder, and a file is to be written there. Remove it" in lines[0]
    assert not NO_TRACEBACK.search(printed)
    shutil.rmtree(folder / name)
    assert main(command) == 0
    assert (folder / name).is_file()


def test_reports_and_comparisons_on_a_full_disk_say_so_and_can_be_made_later(
    disk: SmallDisk, pair: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    study = disk.folder / "first"
    assert main(typed(pair, disk.folder, "-m", "seed=1,2", "weights.style=1,10", "metrics=fast")) == 0
    commands = (["report", str(study)], ["compare", str(study), "--by", "weights.style"])
    for command, size in zip(commands, (2_000, 1_000), strict=True):
        capfd.readouterr()
        disk.leave(size)
        status = main(command)
        printed = "".join(capfd.readouterr())
        if disk.real or status:  # a comparison is of small files
            assert status == 1
            assert re.search(rf"^nstbench: {study}/\S+: {FULL}", printed, re.MULTILINE)
        assert not NO_TRACEBACK.search(printed)
        assert not parts(study)
        disk.enlarge()
        assert main(command) == 0


class Breaking(EvaluationCallback):
    """Puts a file in the place of a dashboard's folder, in the middle of the run."""

    def __init__(self, name: str) -> None:
        self.name = name

    def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
        if evaluation.index == 3:
            (folder,) = Path("outputs").glob(f"*/*/{self.name}")
            while folder.exists():  # a thread of TensorBoard's may write to it meanwhile
                shutil.rmtree(folder, ignore_errors=True)
            folder.write_text("in the way")


@pytest.mark.parametrize("dashboard", ["tensorboard", "csv"])
def test_a_dashboard_that_cannot_write_is_left_behind_with_one_line(
    compose_config: Compose, capfd: pytest.CaptureFixture[str], dashboard: str
) -> None:
    """TensorBoard writes in a thread, which prints a traceback of its own where nobody prevents it."""
    settings = ["record.curves_every=1", "record.snapshot_every=2", "steps=12"]
    whole = run(compose_config(*settings, "output=whole"))
    result = run(compose_config(*settings, f"logger=[{dashboard}]"), callbacks=[Breaking(dashboard)])
    assert result.record.state == "completed"
    assert (result.folder / "canvas.png").read_bytes() == (whole.folder / "canvas.png").read_bytes()
    printed = "".join(capfd.readouterr())
    assert len(re.findall("shows no more of this run", printed)) == 1
    assert not NO_TRACEBACK.search(printed)


def test_a_wandb_that_finds_no_room_is_left_out_with_one_line(
    compose_config: Compose, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own log is full first, of which logging would print a traceback for each line."""
    import wandb

    def init(**_: object) -> None:
        own = logging.getLogger("wandb_full")
        with Path("/dev/full").open("w") as stream:
            handler = logging.StreamHandler(stream)
            own.addHandler(handler)
            own.error("run started")
            own.removeHandler(handler)
            stream.detach()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(wandb, "init", init)
    result = run(compose_config("logger=[wandb]"))
    assert result.record.state == "completed"
    printed = "".join(capfd.readouterr())
    (line,) = [line for line in printed.splitlines() if line.startswith("nstbench: ")]
    assert line == (
        "nstbench: wandb failed and shows no more of this run, which continues without it: "
        "No space left on device"
    )
    assert not NO_TRACEBACK.search(printed)


def test_a_log_that_finds_no_room_prints_no_traceback(
    disk: SmallDisk, capfd: pytest.CaptureFixture[str]
) -> None:
    raising, logging.raiseExceptions = logging.raiseExceptions, True
    try:
        log = RunLog(disk.folder / "run.log")
        with log.attached():
            disk.leave(0)
            for _ in range(100):
                logging.getLogger("nstbench").warning("x" * 1000)
            disk.enlarge()
        log.close()
    finally:
        logging.raiseExceptions = raising
    assert not NO_TRACEBACK.search("".join(capfd.readouterr()))
    assert (disk.folder / "run.log").stat().st_size < 100_000


def test_a_caller_is_told_which_folder_cannot_be_written(compose_config: Compose) -> None:
    class Remove(EvaluationCallback):
        def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
            if evaluation.index == 2:
                (self.folder,) = Path("outputs").glob("*/*-s0-*")
                shutil.rmtree(self.folder)

    remove = Remove()
    with pytest.raises(StorageError) as raised:
        run(compose_config("record.curves_every=1"), callbacks=[remove])
    assert raised.value.folder == remove.folder
    assert not remove.folder.exists()
