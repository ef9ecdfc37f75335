"""Whatever happened to a checkpoint, the run ends with the bytes of one that was never interrupted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nstbench.callbacks.checkpoint import NAME, PREVIOUS, read_checkpoint
from nstbench.config.schema import Config
from nstbench.modules.image_optimization import ImageOptimization
from nstbench.runs.run import run
from nstbench.tracking.record import RunRecord

Compose = Callable[..., Config]
EVERY = "record.checkpoint_every=2"


def interrupted(config: Config, at: int, killed_at: Callable[[int], Any]) -> Path:
    """Return the folder of a run that ended after ``at`` evaluations."""
    with pytest.raises(RuntimeError, match="killed"):
        run(config, callbacks=[killed_at(at)])
    (folder,) = Path(config.output, config.study).iterdir()
    return folder


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-200] ^= 4  # in a tensor
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_pickle(path: Path) -> None:
    torch.save({"canvas": torch.zeros(1)}, path)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES = [flip, cut, empty, replace_by_pickle, replace_by_pipe]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return {}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("damaged", [(NAME,), (NAME, PREVIOUS)])
def test_a_damaged_checkpoint_is_passed_over_in_one_line(
    compose_config: Compose,
    damage: Callable[[Path], None],
    damaged: tuple[str, ...],
    whole: dict[str, bytes],
    caplog: pytest.LogCaptureFixture,
    killed_at: Callable[[int], Any],
) -> None:
    settings = ["steps=6", EVERY, "optimizer=adam"]
    if not whole:
        done = run(compose_config(*settings, "output=whole"))
        whole["canvas"] = (done.folder / "canvas.png").read_bytes()
    config = compose_config(*settings, "output=broken")
    folder = interrupted(config, 5, killed_at)
    for name in damaged:
        damage(folder / name)
    caplog.clear()
    again = killed_at(-1)
    result = run(config, callbacks=[again])
    assert (result.folder / "canvas.png").read_bytes() == whole["canvas"]
    assert again.first == (2 if damaged == (NAME,) else 0)  # from the one before, or from the start
    told = [r.getMessage() for r in caplog.records if "is not used" in r.getMessage()]
    assert len(told) == len(damaged)
    assert all(name in line and "\n" not in line for name, line in zip(damaged, told, strict=True))


def test_another_runs_checkpoint_is_not_continued(
    compose_config: Compose, caplog: pytest.LogCaptureFixture, killed_at: Callable[[int], Any]
) -> None:
    settings = ["steps=6", EVERY, "optimizer=adam"]
    other = interrupted(compose_config(*settings, "output=other", "weights.style=3"), 5, killed_at)
    config = compose_config(*settings, "output=broken")
    folder = interrupted(config, 3, killed_at)
    for name in (NAME, PREVIOUS):
        shutil.copy(other / name, folder / name)
    result = run(config)
    assert "it belongs to a run with other settings" in caplog.text
    expected = run(compose_config(*settings, "output=whole"))
    assert (result.folder / "canvas.png").read_bytes() == (expected.folder / "canvas.png").read_bytes()


@pytest.mark.parametrize("places", [(NAME,), (NAME, PREVIOUS)])
def test_a_folder_in_the_place_of_a_checkpoint_is_moved_out_of_the_way(
    compose_config: Compose, places: tuple[str, ...], killed_at: Callable[[int], Any]
) -> None:
    config = compose_config("steps=6", EVERY, "optimizer=adam")
    folder = interrupted(config, 5, killed_at)
    for name in places:
        replace_by_folder(folder / name)
        (folder / name / "somebody's").touch()
    again = killed_at(-1)
    result = run(config, callbacks=[again])
    assert again.first == (2 if places == (NAME,) else 0)
    assert result.record.state == "completed"
    assert len([*folder.rglob("somebody's")]) == len(places)
    assert not [*folder.glob("checkpoint*")]


PLATEAU = "+schedule.plateau={tolerance: 0.9, evaluations: 2}"


@pytest.mark.parametrize("ending", [["steps=5"], ["steps=9", PLATEAU]])
@pytest.mark.parametrize("schedule", ["schedule=single", "schedule=two_sizes"])
def test_a_run_whose_last_step_is_made_is_only_written(
    compose_config: Compose, ending: list[str], schedule: str, killed_at: Callable[[int], Any]
) -> None:
    settings = [schedule, "size=96", *ending, "record.checkpoint_every=4", "optimizer=adam"]
    whole = run(compose_config(*settings, "output=whole"))
    config = compose_config(*settings)
    folder = Path("outputs/first") / whole.folder.name
    (folder / "canvas.png").mkdir(parents=True)  # stands for a kill, or a full disk, before it is written
    with pytest.raises(OSError, match=r"canvas\.png"):
        run(config)
    saved = read_checkpoint(folder / NAME)
    assert saved is not None
    assert saved.step == whole.record.steps
    assert saved.stopped_early == (PLATEAU in ending)
    (folder / "canvas.png").rmdir()
    again = killed_at(-1)
    result = run(config, callbacks=[again])
    assert again.first is None  # nothing was left to evaluate
    assert (result.folder / "canvas.png").read_bytes() == (whole.folder / "canvas.png").read_bytes()
    assert result.record.stages == whole.record.stages
    assert result.record.final_losses == whole.record.final_losses


@pytest.mark.parametrize("content", [b"", b"half", None])
def test_a_finished_run_without_its_picture_is_made_again(
    compose_config: Compose, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    first = run(compose_config())
    picture = first.folder / "canvas.png"
    whole = picture.read_bytes()
    assert RunRecord.read(first.folder).canvas_sha256 == first.record.canvas_sha256  # type: ignore[union-attr]
    if content is None:
        picture.unlink()
    else:
        picture.write_bytes(content and whole[:-40])
    again = run(compose_config())
    assert not again.skipped
    assert picture.read_bytes() == whole
    assert "canvas.png is not the picture that was made" in caplog.text
    assert run(compose_config()).skipped


def test_a_canvas_that_was_not_optimised_completes_nothing(
    compose_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever may come between the optimiser and the canvas that is written."""
    trained = ImageOptimization.on_train_end

    def repainted(self: ImageOptimization) -> None:
        trained(self)
        for parameter in self.canvas.parameters():
            parameter.data.zero_()

    monkeypatch.setattr(ImageOptimization, "on_train_end", repainted)
    with pytest.raises(RuntimeError, match="the canvas is not the one that was optimised"):
        run(compose_config())
    (folder,) = Path("outputs/first").iterdir()
    record = RunRecord.read(folder)
    assert record is not None
    assert record.state == "failed"
    assert not (folder / "canvas.png").exists()
