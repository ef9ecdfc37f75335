"""One training, end to end: what is left in its folder, and that stopping it changes nothing."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

import nstbench.training.train as training
from nstbench.encoders.procedural.encoder import ProceduralVGG
from nstbench.encoders.procedural.weights import read_weights
from nstbench.errors import NonFiniteObjectiveError, UserError
from nstbench.runtime.device import cpu_has_bf16
from nstbench.runtime.tensor_file import read_tensors
from nstbench.training.module import TextureTraining
from nstbench.training.schema import BankSettings, TrainConfig
from nstbench.training.textures.bank import open_bank
from nstbench.training.train import Trained, train

Compose = Callable[..., TrainConfig]
CHECKPOINTS = "record.checkpoint_every=3"


def quietly(config: TrainConfig) -> tuple[Trained, str]:
    told = io.StringIO()
    return train(config, Console(file=told, width=200)), told.getvalue()


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "curves.csv").open() as file:
        return list(csv.DictReader(file))


def left_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name[0] != ".")


@contextmanager
def stopping(at: int, with_: BaseException) -> Iterator[None]:
    """Raise at the given step of a training."""
    whole = TextureTraining.training_step

    def step(self: TextureTraining, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == at:
            raise with_
        return whole(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TextureTraining, "training_step", step)
        yield


# ------------------------------------------------------------------------ from start to end


@pytest.mark.usefixtures("textures_drawn")
def test_what_a_training_leaves(compose_training: Compose) -> None:
    config = compose_training(CHECKPOINTS, "logger=csv")
    trained, told = quietly(config)
    assert trained.folder.parent == Path("outputs/train")
    expected = ["config.yaml", "csv", "curves.csv", "encoder.safetensors", "encoder.sha256", "training.json"]
    assert left_in(trained.folder) == expected
    assert hashlib.sha256(trained.weights.read_bytes()).hexdigest() == trained.sha256
    record = json.loads((trained.folder / "training.json").read_text())
    assert (record["state"], record["precision"], record["device"]) == ("completed", "fp32", "cpu")
    assert record["weights"] == {"file": "encoder.safetensors", "sha256": trained.sha256}
    assert record["config"]["bank"]["programs"] == 8
    assert "output" not in record["config"]
    assert record["seconds"] == trained.seconds > 0
    # Examined at the size of the textures, where 64 and 128 pixels are more than they have.
    assert [(a.classes, a.crop) for a in trained.accuracies] == [(8, 48)]
    assert all(0 <= share <= 1 for share in trained.accuracies[0].at.values())
    rows = rows_of(trained.folder)
    assert [(int(r["step"]), int(r["crop"])) for r in rows] == [(2, 32), (4, 32), (6, 32), (8, 48), (10, 48)]
    assert all(float(r["loss"]) > 0 for r in rows)
    (dashboard,) = trained.folder.glob("csv/metrics.csv")
    assert "train/loss" in dashboard.read_text()
    assert "metrics/relu5_1_8classes_48px" in dashboard.read_text()
    assert "training on cpu in fp32: about" in told
    features = ProceduralVGG(str(trained.weights))(torch.rand(1, 3, 32, 32), ["relu5_1"])
    assert features["relu5_1"].shape == (1, 8, 2, 2)


@pytest.mark.usefixtures("textures_drawn")
def test_a_finished_training_is_not_done_again(compose_training: Compose) -> None:
    first, _ = quietly(compose_training())
    before = (first.folder / "training.json").stat().st_mtime_ns
    again, told = quietly(compose_training("record.curves_every=5", "trainer.threads=null"))
    assert (again.skipped, told) == (True, "")
    assert (again.folder, again.weights, again.sha256) == (first.folder, first.weights, first.sha256)
    assert again.accuracies == first.accuracies
    assert (first.folder / "training.json").stat().st_mtime_ns == before
    other, _ = quietly(compose_training("seed=1"))
    assert other.folder != first.folder
    assert other.sha256 != first.sha256
    # What was lost or edited is made again, as the message about such a file says.
    first.weights.write_bytes(b"edited")
    restored, _ = quietly(compose_training())
    assert (restored.skipped, restored.sha256) == (False, first.sha256)


def test_textures_are_drawn_where_there_are_none(compose_training: Compose) -> None:
    short = "phases=[{crop: 32, batch: 2, steps: 1}]"
    trained, told = quietly(compose_training("bank.programs=2", "bank.size=32", short))
    assert "drawing 3 pictures of each of 2 textures" in told
    (bank,) = trained.folder.parent.glob("textures-*.npy")
    assert np.load(bank).shape == (2, 3, 32, 32, 3)


@pytest.mark.usefixtures("textures_drawn")
def test_timing_a_few_steps_leaves_the_textures_on_the_disk(
    compose_training: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OnDisk(np.memmap):
        def __deepcopy__(self, memo: dict[int, Any]) -> None:
            raise AssertionError("gigabytes were copied into memory")

    def on_disk(settings: BankSettings, folder: Path) -> Any:
        return open_bank(settings, folder).view(OnDisk)

    monkeypatch.setattr(training, "open_bank", on_disk)
    assert quietly(compose_training())[0].sha256


# ------------------------------------------------------------------------- the same again

PRECISIONS = [
    "fp32",
    pytest.param("bf16", marks=pytest.mark.skipif(not cpu_has_bf16(), reason="no bf16 in this CPU")),
]


@pytest.mark.usefixtures("textures_drawn")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_two_trainings_with_one_seed_are_the_same(
    compose_training: Compose, tmp_path: Path, precision: str
) -> None:
    settings = [
        f"precision={precision}",
        "phases=[{crop: 48, batch: 4, steps: 50}]",
        "record.curves_every=50",
    ]
    first, _ = quietly(compose_training(*settings))
    shutil.copytree(first.folder, tmp_path / "kept")
    shutil.rmtree(first.folder)
    torch.manual_seed(12345)  # whatever the process did before
    second, _ = quietly(compose_training(*settings))
    assert (second.skipped, second.sha256) == (False, first.sha256)
    assert second.accuracies == first.accuracies
    ours, theirs = rows_of(second.folder), rows_of(tmp_path / "kept")
    assert all(row.pop("seconds") for row in [*ours, *theirs])
    assert ours == theirs
    third, _ = quietly(compose_training(*settings, "seed=2"))
    assert third.sha256 != first.sha256


@pytest.mark.usefixtures("textures_drawn")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("at", [pytest.param([2], marks=pytest.mark.slow), [5, 9]], ids=str)
def test_stopped_and_given_again_it_ends_with_the_same_bytes(
    compose_training: Compose, tmp_path: Path, at: list[int], precision: str
) -> None:
    settings = [f"precision={precision}", CHECKPOINTS]
    whole, _ = quietly(compose_training(*settings))
    whole_rows = rows_of(whole.folder)
    shutil.rmtree(whole.folder)
    for step in at:
        with stopping(step, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
            quietly(compose_training(*settings))
        assert "training.json" not in left_in(whole.folder)
        assert ("checkpoint.ckpt" in left_in(whole.folder)) == (step >= 3)
    again, told = quietly(compose_training(*settings))
    assert (f"{at[-1] // 3 * 3} of 10 steps are done" in told) == (at[-1] >= 3)
    assert again.sha256 == whole.sha256
    assert again.accuracies == whole.accuracies
    rows = rows_of(again.folder)
    assert [r["loss"] for r in rows] == [r["loss"] for r in whole_rows]
    seconds = [float(r["seconds"]) for r in rows]
    assert seconds == sorted(seconds)
    assert "checkpoint.ckpt" not in left_in(again.folder)


@pytest.mark.usefixtures("textures_drawn")
def test_stopped_after_the_last_step_nothing_is_trained_again(
    compose_training: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["record.checkpoint_every=5"]
    with monkeypatch.context() as patch:
        patch.setattr(training, "exported", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            quietly(compose_training(*settings))
    with stopping(0, AssertionError()):  # no step is made
        again, told = quietly(compose_training(*settings))
    assert "10 of 10 steps are done" in told
    shutil.rmtree(again.folder)
    assert quietly(compose_training(*settings))[0].sha256 == again.sha256


@pytest.mark.usefixtures("textures_drawn")
def test_what_a_killed_process_left_half_written_is_no_hindrance(compose_training: Compose) -> None:
    whole, _ = quietly(compose_training(CHECKPOINTS))
    folder = whole.folder
    (folder / "training.json").unlink()
    whole_curves = rows_of(folder)
    (folder / "checkpoint.ckpt").write_bytes(b"half a checkpo")
    (folder / ".checkpoint.next.ckpt.4711.part").write_bytes(b"half a checkpo")
    with (folder / "curves.csv").open("a") as curves:
        curves.write("12,48,3.")
    again, _ = quietly(compose_training(CHECKPOINTS))
    assert again.sha256 == whole.sha256
    assert len(rows_of(folder)) == len(whole_curves)
    assert [name for name in left_in(folder) if "checkpoint" in name] == []


# ------------------------------------------------------------------------- what goes wrong


@pytest.mark.usefixtures("textures_drawn")
@pytest.mark.parametrize("every", [1, 100])
def test_a_training_that_diverges_completes_nothing(compose_training: Compose, every: int) -> None:
    settings = ["learning_rate=1e30", f"record.curves_every={every}", f"record.checkpoint_every={every}"]
    with pytest.raises(NonFiniteObjectiveError, match=r"became .* by step \d+") as caught:
        quietly(compose_training(*settings))
    assert "\n" not in str(caught.value)
    (folder,) = Path("outputs/train").glob("encoder-*")
    # A step can leave weights so large that only the next loss is infinite.
    assert set(left_in(folder)) <= {
        "config.yaml",
        "curves.csv",
        "checkpoint.ckpt",
        "checkpoint.previous.ckpt",
    }
    if every == 1:
        assert all(np.isfinite(float(r["loss"])) for r in rows_of(folder))
        saved = read_tensors(folder / "checkpoint.ckpt")["state_dict"]
        assert all(bool(torch.isfinite(t).all()) for t in saved.values())


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    compose_training: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(training.shutil, "disk_usage", lambda _: SimpleNamespace(free=1e8))
    with pytest.raises(UserError, match=r"the textures take 2\.0 GB, and 0\.1 GB are free there"):
        quietly(compose_training("bank.programs=512", "bank.pictures=36", "bank.size=192"))
    assert [*tmp_path.iterdir()] == []


def test_a_dashboard_that_cannot_be_had_leaves_nothing(
    compose_training: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise UserError("logger", "x", "it cannot be had")

    monkeypatch.setattr(training.Dashboards, "open", refuse)
    with pytest.raises(UserError, match="it cannot be had"):
        quietly(compose_training())
    assert [*tmp_path.iterdir()] == []


@pytest.mark.usefixtures("textures_drawn")
def test_two_processes_do_not_train_the_same(compose_training: Compose) -> None:
    config = compose_training()
    with stopping(1, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        quietly(config)
    (folder,) = Path("outputs/train").glob("encoder-*")
    with training.alone_in(folder), pytest.raises(UserError, match="another process is at work on it"):
        quietly(config)


@pytest.mark.usefixtures("textures_drawn")
def test_weights_that_were_made_are_those_that_are_read(compose_training: Compose) -> None:
    trained, _ = quietly(compose_training())
    tensors, sha256 = read_weights(trained.weights)
    assert sha256 == trained.sha256
    assert all(bool(torch.isfinite(t).all()) for t in tensors.values())
    with (trained.folder / "encoder.safetensors").open("rb") as file:
        header = file.read(20_000)
    assert b'"programs\\": 8' in header  # what made it stands in the file
