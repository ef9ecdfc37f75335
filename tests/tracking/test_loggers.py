"""Dashboards, read back with their own readers."""

from __future__ import annotations

import csv
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import wandb
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from nstbench.config.schema import Config
from nstbench.errors import UserError
from nstbench.modules.member import EvaluationCallback
from nstbench.runs.run import Result, run
from nstbench.tracking import loggers
from nstbench.tracking.dashboards import Dashboards
from nstbench.tracking.loggers import RunInfo, wandb_logger
from nstbench.tracking.wandb_login import wandb_key, wandb_mode

Compose = Callable[..., Config]
ALL = "logger=[wandb,tensorboard,csv]"
SHOWN = ("record.curves_every=2", "record.snapshot_every=2", "metrics=fast")


def wandb_runs(study: Path = Path("outputs/first")) -> list[Path]:
    return sorted((study / "wandb").glob("*run-*"), key=lambda p: p.stat().st_mtime_ns)


def inspect(folder: Path, *options: str) -> str:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", *options, str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def summary_of(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads(inspect(folder, "--summary"))
    return summary


def history_size_of(folder: Path) -> dict[int, dict[str, Any]]:
    records = [json.loads(line) for line in inspect(folder).splitlines()]
    rows = [r["history"]["item"] for r in records if r["type"] == "history"]
    assert len({r["_step"] for r in rows}) == len(rows)
    return {r["_step"]: r for r in rows}


def pixels_of(path: Path) -> Any:
    return np.asarray(Image.open(path).convert("RGB"))


def curves_of(result: Result) -> dict[int, float]:
    with (result.folder / "curves.csv").open() as file:
        return {int(r["evaluation"]): float(r["loss/total"]) for r in csv.DictReader(file)}


def test_wandb_holds_the_curves_the_pictures_the_config_and_the_result(compose_config: Compose) -> None:
    result = run(compose_config("logger=[wandb]", *SHOWN))
    (folder,) = wandb_runs()
    assert folder.name.startswith("offline-run-")

    history = history_size_of(folder)
    assert {step: row["loss/total"] for step, row in history.items()} == pytest.approx(curves_of(result))
    # Pictures stand in the same row as the losses of their evaluation, and wandb adds no axis of its own.
    for step, name in ((0, "canvas"), (2, "canvas"), (4, "final")):
        logged = folder / "files" / history[step][f"image/{name}.path"]
        file = result.folder / ("canvas.png" if name == "final" else f"snapshots/{step:06d}.png")
        np.testing.assert_array_equal(pixels_of(logged), pixels_of(file))
    assert not any(key.startswith("trainer/") for row in history.values() for key in row)

    said = summary_of(folder)
    assert (said["state"], said["exit_code"], said["step"]) == ("finished", 0, 4)
    assert (said["project"], said["name"]) == ("nstbench", result.record.run_id)
    assert said["tags"] == ["RandomVGG", "vgg11", "LBFGS", "gram"]
    assert said["config"]["fingerprint"] == result.record.fingerprint
    assert said["config"]["inputs"]["content"] == result.record.inputs["content"]
    assert said["config"]["weights"] == result.record.config["weights"]
    for name, value in result.record.metrics.items():
        assert said["summary"][f"metrics/{name}"] == pytest.approx(value)
    for name, value in result.record.final_losses.items():
        assert said["summary"][name] == pytest.approx(value)


def test_runs_in_one_process_do_not_merge_and_share_a_folder_and_a_group(compose_config: Compose) -> None:
    own = wandb.init(mode="offline", project="mine", settings=wandb.Settings(silent=True))  # the caller's
    try:
        results = [
            run(compose_config("logger=[wandb]", f"seed={seed}", f"steps={3 + seed}")) for seed in (0, 1)
        ]
        own.log({"mine": 1})
    finally:
        own.finish()
    assert len(list(Path("outputs").rglob("wandb"))) == 1
    for seed, (folder, result) in enumerate(zip(wandb_runs(), results, strict=True)):
        said = summary_of(folder)
        assert (said["name"], said["config"]["seed"], said["step"]) == (result.record.run_id, seed, 3 + seed)
        assert "mine" not in said["summary"]
        records = [json.loads(line) for line in inspect(folder).splitlines()]
        (of_run,) = [r["run"] for r in records if r["type"] == "run"]
        assert (of_run["run_group"], of_run["job_type"]) == ("first", "stylize")
    assert (summary_of(Path(own.dir).parent)["project"], wandb.run) == ("mine", None)


def events_of(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    return events


def test_tensorboard_holds_the_same(compose_config: Compose) -> None:
    from io import BytesIO

    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    result = run(compose_config("logger=[tensorboard]", *SHOWN))
    events = events_of(result.folder / "tensorboard")
    curve = [(e.step, e.value) for e in events.Scalars("loss/total")]
    assert curve == [(step, pytest.approx(value, rel=1e-6)) for step, value in curves_of(result).items()]
    for name, value in result.record.metrics.items():
        assert [(e.step, e.value) for e in events.Scalars(f"metrics/{name}")] == [
            (4, pytest.approx(value, rel=1e-6))
        ]
    assert [e.step for e in events.Images("image/canvas")] == [0, 2]
    (final,) = events.Images("image/final")
    assert final.step == 4
    np.testing.assert_array_equal(
        pixels_of(BytesIO(final.encoded_image_string)),  # type: ignore[arg-type]
        pixels_of(result.folder / "canvas.png"),
    )

    def plugin(part: str) -> Any:
        content = events.summary_metadata[f"_hparams_/{part}"].plugin_data.content
        return HParamsPluginData.FromString(content)

    settings = plugin("session_start_info").session_start_info.hparams
    assert settings["loss.style.gram._target_"].string_value == "nstbench.losses.gram.Gram"
    assert settings["weights.style"].number_value == result.record.config["weights"]["style"]
    assert settings["study"].string_value == "first"
    assert not [name for name in settings if name.startswith(("output", "logger", "trainer"))]
    shown = {m.name.tag for m in plugin("experiment").experiment.metric_infos}
    assert {"loss/total", "loss/style/gram", "metrics/ssim"} <= shown <= set(events.Tags()["scalars"])


def csv_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_csv_holds_the_same(compose_config: Compose) -> None:
    result = run(compose_config("logger=[csv]", *SHOWN))
    rows = csv_rows(result.folder / "csv")
    assert {int(r["step"]): float(r["loss/total"]) for r in rows if r["loss/total"]} == pytest.approx(
        curves_of(result)
    )
    (judged,) = [r for r in rows if r["metrics/ssim"]]
    assert (judged["step"], float(judged["metrics/ssim"])) == (
        "4",
        pytest.approx(result.record.metrics["ssim"]),
    )
    pictures = result.folder / "csv" / "pictures"
    assert sorted(p.name for p in pictures.iterdir()) == [
        "image_canvas_000000.png",
        "image_canvas_000002.png",
        "image_final_000004.png",
    ]
    final = pixels_of(pictures / "image_final_000004.png")
    np.testing.assert_array_equal(final, pixels_of(result.folder / "canvas.png"))


def test_dashboards_and_their_absence_leave_the_picture_alone(compose_config: Compose) -> None:
    without = run(compose_config("output=without"))
    assert sorted(p.name for p in without.folder.parent.iterdir()) == [without.folder.name]
    assert not {"csv", "tensorboard", "wandb"} & {p.name for p in without.folder.iterdir()}
    with_all = run(compose_config(ALL, *SHOWN, "output=with"))
    assert {"csv", "tensorboard"} <= {p.name for p in with_all.folder.iterdir()}
    assert len(wandb_runs(Path("with/first"))) == 1
    assert (with_all.folder / "canvas.png").read_bytes() == (without.folder / "canvas.png").read_bytes()


def test_a_failed_run_is_closed_as_failed_and_the_next_attempt_has_curves_of_its_own(
    compose_config: Compose, killed_at: Callable[[int], EvaluationCallback]
) -> None:
    settings = [ALL, "record.curves_every=1", "record.checkpoint_every=2", "steps=6"]
    with pytest.raises(RuntimeError, match="killed"):
        run(compose_config(*settings), callbacks=[killed_at(3)])
    (failed,) = wandb_runs()
    said = summary_of(failed)
    assert (said["state"], said["exit_code"]) == ("failed", 1)
    assert set(history_size_of(failed)) == {0, 1, 2, 3}

    result = run(compose_config(*settings))
    assert [summary_of(f)["exit_code"] for f in wandb_runs()] == [1, 0]
    wanted = {"": [0, 1, 2, 3], "-2": [2, 3, 4, 5, 6]}  # from the checkpoint on
    for attempt, steps in wanted.items():
        assert [int(r["step"]) for r in csv_rows(result.folder / f"csv{attempt}")] == steps
        events = events_of(result.folder / f"tensorboard{attempt}")
        assert [e.step for e in events.Scalars("loss/total")] == steps


def test_tensorboard_that_is_not_installed_is_a_mistake_that_leaves_nothing_behind(
    compose_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [n for n in sys.modules if n.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=r'logger=tensorboard.*not installed.*pip install "nstbench\[dash\]"'):
        run(compose_config("logger=[wandb,tensorboard]"))
    assert not list(Path("outputs").rglob("run.json"))
    (begun,) = wandb_runs()
    assert summary_of(begun)["exit_code"] == 1  # closed, so that the next run does not continue it


def test_a_dashboard_that_breaks_at_the_end_does_not_spoil_the_run(
    compose_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(TensorBoardLogger, "finalize", broken)
    result = run(compose_config("logger=[tensorboard,wandb]"))
    assert result.record.state == "completed"
    assert summary_of(wandb_runs()[0])["exit_code"] == 0


def test_nothing_is_written_or_said_but_what_was_asked_for(tmp_path: Path) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    tiny = [
        "encoder=random",
        "encoder.shape=vgg11",
        "encoder.width=0.0625",
        "size=48",
        "steps=2",
        "metrics=fast",
        "trainer=cpu",
    ]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "XDG", "NETRC"))}
    ran = subprocess.run(
        [sys.executable, "-m", "nstbench", "run", *tiny, "trainer.threads=1", ALL],
        cwd=here,
        env={**kept, "HOME": str(home), "PYTHONPATH": str(Path(loggers.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    said = [line.split()[0] for line in ran.stderr.splitlines()]
    assert said == ["term", "content/features", "style/gram", "regularizer/tv"]  # how the terms start
    assert "wandb" not in ran.stdout
    assert [p.name for p in here.iterdir()] == ["outputs"]
    # torchmetrics imports matplotlib, which keeps a list of the fonts of the machine.
    assert {str(p.relative_to(home)) for p in home.rglob("*") if "matplotlib" not in str(p)} <= {
        ".cache",
        ".config",
    }


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A machine on which nobody has told wandb anything."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.setenv(name, "")  # so that it is restored, whatever sets it meanwhile
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


def test_wandb_goes_online_for_those_who_are_logged_in(nobody: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert (wandb_key(), wandb_mode()) == ("", "offline")
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine elsewhere.example login user password x\n")
    assert wandb_mode() == "offline"
    netrc.write_text("machine api.wandb.ai login user password x\n")
    netrc.chmod(0o600)
    assert (wandb_key(), wandb_mode()) == ("~/.netrc", "online")
    nobody.setenv(
        "WANDB_BASE_URL", "https://wandb.example:8080"
    )  # a server of one's own has a key of its own
    assert wandb_mode() == "offline"
    nobody.setenv("WANDB_API_KEY", "x")
    assert (wandb_key(), wandb_mode()) == ("WANDB_API_KEY", "online")
    for asked, mode in {
        "offline": "offline",
        "dryrun": "offline",
        "disabled": "disabled",
        "online": "online",
    }.items():
        nobody.setenv("WANDB_MODE", asked)
        assert wandb_mode() == mode


@pytest.mark.parametrize("content", [b"machine", b"\xff\xfe\x00", None])
def test_a_netrc_that_cannot_be_read_is_no_login(
    nobody: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    if content is None:
        (tmp_path / ".netrc").mkdir()
    else:
        (tmp_path / ".netrc").write_bytes(content)
    assert wandb_mode() == "offline"


INFO = RunInfo(
    "photo-gram-0123abcd", "study", Path("outputs/study/photo"), ["VGG"], {"fingerprint": "0123abcd" * 8}
)


@pytest.mark.parametrize(
    ("mode", "environment", "wanted"),
    [
        ("auto", {}, "offline"),
        ("auto", {"WANDB_API_KEY": "x"}, None),  # left to wandb, which obeys `wandb offline`, too
        ("auto", {"WANDB_API_KEY": "x", "WANDB_MODE": "offline"}, "offline"),
        ("auto", {"WANDB_MODE": "disabled"}, None),
        ("offline", {"WANDB_API_KEY": "x"}, "offline"),
        ("online", {"WANDB_MODE": "offline"}, "online"),
    ],
)
def test_the_mode_that_wandb_is_given(
    nobody: pytest.MonkeyPatch, mode: Any, environment: dict[str, str], wanted: str | None
) -> None:
    given: dict[str, Any] = {}

    def init(**arguments: Any) -> Any:
        given.update(arguments)
        return SimpleNamespace()

    nobody.setattr(wandb, "init", init)
    for name, value in environment.items():
        nobody.setenv(name, value)
    wandb_logger(INFO, mode=mode)
    assert given["mode"] == wanted
    assert given["settings"].silent == ("online" not in {mode, wandb_mode()} or wanted == "offline")
    assert os.environ.get("WANDB_MODE") == environment.get("WANDB_MODE")  # later runs find it as it was
    assert "WANDB_CACHE_DIR" not in os.environ


def test_without_an_answer_auto_goes_offline_once_and_online_is_refused(
    nobody: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def init(**arguments: Any) -> Any:
        asked.append(arguments["mode"])
        if arguments["mode"] != "offline":
            Path(arguments["dir"], "wandb", f"run-20260101_000000-{arguments['id']}").mkdir(parents=True)
            raise wandb.errors.CommError("no answer\nConsider increasing init_timeout")
        return SimpleNamespace()

    nobody.setattr(wandb, "init", init)
    nobody.setenv("WANDB_API_KEY", "x")
    for _ in range(2):
        assert isinstance(wandb_logger(INFO), WandbLogger)
    assert asked == [None, "offline", "offline"]
    (said,) = [r.getMessage() for r in caplog.records if r.name == loggers.__name__]
    assert said == "wandb stays offline, because it cannot go online: no answer"
    with pytest.raises(
        UserError, match=r"logger\.wandb\.mode=online: no answer\. .*wandb login.*mode=offline"
    ):
        wandb_logger(INFO, mode="online")
    assert wandb_runs(Path("outputs/study")) == []  # what was begun for nothing is gone


@pytest.fixture
def no_server(nobody: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A key, but a server that nobody listens at; wandb reads the environment once per process."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        nobody.setenv("WANDB_API_KEY", "0" * 40)
        nobody.setattr(loggers, "_WANDB_PATIENCE", 1.0)
        wandb.teardown()
        yield nobody
        wandb.teardown()


@pytest.mark.slow  # wandb itself tries for ten seconds
def test_a_server_out_of_reach_means_offline_unless_online_was_asked_for(
    no_server: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        first = wandb_logger(INFO)
    (said,) = [r.getMessage() for r in caplog.records if r.name == loggers.__name__]
    assert said.startswith("wandb stays offline, because")
    began = time.monotonic()
    second = wandb_logger(INFO)  # the next run of a sweep does not wait again
    assert time.monotonic() - began < 0.9
    with pytest.raises(UserError, match=r"logger\.wandb\.mode=online: .*wandb login.*mode=offline"):
        wandb_logger(INFO, mode="online")
    Dashboards([first, second]).finish({"loss/total": 1.0}, step=1, success=True)
    runs = wandb_runs(Path("outputs/study"))
    assert len({f.name for f in runs}) == 2
    assert all(f.name.startswith("offline-run-") for f in runs)


def test_a_project_that_wandb_refuses_is_a_mistake(nobody: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"logger\.wandb=.*a/b.*Invalid project name"):
        wandb_logger(INFO, project="a/b", mode="offline")


def test_wandb_can_be_disabled_by_its_own_variable(nobody: pytest.MonkeyPatch) -> None:
    nobody.setenv("WANDB_MODE", "disabled")
    wandb.teardown()
    logger = wandb_logger(INFO)
    assert isinstance(logger, WandbLogger)
    dashboards = Dashboards([logger])
    dashboards.log(0, {"loss/total": 1.0})
    dashboards.finish({}, step=0, success=True)
    assert wandb_runs(Path("outputs/study")) == []
    wandb.teardown()
