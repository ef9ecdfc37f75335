"""``nstbench train`` as people type it: from start to end, its help, its mistakes, its exit statuses."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from commands import Command, CommandServer
from conftest import TINY_TRAINING, last_of_each

from nstbench.cli import main
from nstbench.config.files import conf_dir, describe, groups

ROOT = Path(__file__).resolve().parents[2]
Complain = Callable[..., str]


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


# ------------------------------------------------------------------------ from start to end


@pytest.mark.usefixtures("textures_drawn")
def test_from_start_to_end_and_once_more(
    pair: dict[str, str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["train", *last_of_each(*TINY_TRAINING, "logger=csv", "encoder=procedural")]
    assert main(command) == 0
    out, err = capfd.readouterr()
    (folder,) = Path("outputs/train").glob("encoder-s0-*")
    record = json.loads((folder / "training.json").read_text())
    assert record["weights"]["sha256"] in out
    assert f"weights  {folder}/encoder.safetensors" in out
    assert "8 textures, 48 px" in out
    for layer, share in record["accuracies"][0]["at"].items():
        assert re.search(rf"{layer} +│ {share:.3f} ", out)
    assert re.search(r"chance +│ 0\.125 ", out)
    assert "Traceback" not in err
    # The line that it says to use the weights with is one that works.
    (advice,) = re.findall(r"use them nstbench (.*)\n", out)
    run = [
        *shlex.split(advice),
        "encoder=procedural",
        f"content={pair['photo']}",
        f"style={pair['painting']}",
    ]
    small = ["size=48", "steps=2", "metrics=none", "logger=none", "record.progress=false"]
    assert main([*run, *small]) == 0
    (made,) = Path("outputs/first").glob("*/run.json")
    assert json.loads(made.read_text())["inputs"]["weights"] == record["weights"]["sha256"]
    capfd.readouterr()
    # By another path, the same weights are the same run.
    monkeypatch.setenv("HOME", str(Path.cwd()))
    run[1] = f"encoder.weights=~/{folder}/encoder.safetensors"
    assert main([*run, *small]) == 0
    assert "This run was finished before" in capfd.readouterr().out
    # And given again, the training is not done again.
    before = tree(folder)
    assert main(command) == 0
    again, err = capfd.readouterr()
    assert again.startswith("This training was finished before: nothing was computed again.")
    assert again.endswith(out[out.index("sha256") :])
    assert err == ""
    assert tree(folder) == before


def test_the_composed_training_can_be_printed(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    phases = "phases=[{crop: 48, batch: 64, steps: 100}]"
    typed = ["bank.programs=256", phases, "output=2024", "trainer=cpu", "logger=[]", "seed=3", "-c", "job"]
    assert main(["train", *typed]) == 0
    shown = yaml.safe_load(capfd.readouterr().out)
    assert shown["bank"]["programs"] == 256
    assert shown["phases"] == [{"crop": 48, "batch": 64, "steps": 100}]
    assert (shown["output"], shown["logger"], shown["trainer"]["accelerator"]) == ("2024", {}, "cpu")
    assert "hydra" not in shown
    assert [*tmp_path.iterdir()] == []


# ------------------------------------------------------------------------------------- help


def test_help_has_every_setting_with_its_comment(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    printed = capfd.readouterr().out
    lines = printed.splitlines()
    file = (conf_dir() / "train.yaml").read_text()
    plain = yaml.safe_load(file)
    for key in set(plain) - {"defaults", "hydra"}:
        assert any(line.startswith((f"  {key}", f"  '{key}")) for line in lines), key
    for comment in re.findall(r"^ *\w+:.*?# (.*)$", file, re.MULTILINE):
        assert any(line.endswith(comment) for line in lines), comment
    assert f"  bank.programs={plain['bank']['programs']} " in printed
    assert "hydra" not in printed
    for group in ("logger", "trainer"):
        for option in groups()[group]:
            assert any(line.split()[:1] == [option] and describe(group, option) in line for line in lines)
    assert "optimizer" not in printed  # a group of `nstbench run`


def test_what_the_help_says_can_be_typed(capfd: pytest.CaptureFixture[str]) -> None:
    main(["train", "--help"])
    settings = capfd.readouterr().out.partition("conf/train.yaml:")[2].partition("flags:")[0]
    typed = [shlex.split(line.strip().replace("…", ""))[0] for line in settings.splitlines() if "=" in line]
    typed = [word for word in typed if "=" in word]
    assert len(typed) > 18
    assert main(["train", *typed, "--cfg", "job"]) == 0
    shown = yaml.safe_load(capfd.readouterr().out)
    assert main(["train", "--cfg", "job"]) == 0
    assert yaml.safe_load(capfd.readouterr().out) == shown


def test_help_and_mistakes_load_no_torch() -> None:
    code = (
        "import sys; from nstbench.cli import main; "
        "print(main(['train', '-h']), main(['train', 'bank.programs=x']), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "0 2 False"


def test_the_program_knows_the_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "    train " in capfd.readouterr().out
    assert main(["trian"]) == 2
    assert "Did you mean train?" in capfd.readouterr().err


# --------------------------------------------------------------------------------- mistakes


@pytest.fixture
def complain(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Complain:
    """Return a function from what is typed to the one line that is printed, checking all else."""

    def train(*arguments: str) -> str:
        before = tree(tmp_path)
        capfd.readouterr()
        status = main(["train", *arguments])
        out, err = capfd.readouterr()
        assert err.count("\n") == 1, err
        assert (status, out) == (2, "")
        assert tree(tmp_path) == before
        return err.rstrip("\n")

    return train


@pytest.mark.parametrize(
    ("typed", "setting", "reason", "hint"),
    [
        ("bank.progams=3", "bank.progams=3", "there is no such setting", "Did you mean programs?"),
        ("programs=3", "programs=3", "there is no such setting", "Did you mean bank.programs"),
        ("+bank.progams=3", "bank.progams=3", "there is no such setting", "Did you mean programs?"),
        ("learning_rat=1", "learning_rat=1", "there is no such setting", "learning_rate"),
        ("lr=1", "lr=1", "there is no such setting", "nstbench train --help"),
        ("phases=[{crp: 48, batch: 2, steps: 1}]", "phases.0.crp=48", "there is no such setting", "crop"),
        ("phases=[{crop: 48, batch: 2}]", "phases.0.steps", "it has no value", "phases.0.steps=…"),
        ("phases=[]", "phases=[]", "a list of at least 1 items", "Type phases=[{crop: 48"),
        ("phases=[{crop: 50, batch: 2, steps: 1}]", "phases.0.crop=50", "a multiple of 16", "crop=64"),
        ("phases=[{crop: 16, batch: 2, steps: 1}]", "phases.0.crop=16", "at least 32", "crop=32"),
        ("phases=[{crop: 256, batch: 2, steps: 1}]", "phases.0.crop=256", "192 pixels", "bank.size=256"),
        ("bank.programs=abc", "bank.programs=abc", "it must be a whole number", "bank.programs=512"),
        ("bank.programs=1", "bank.programs=1", "it must be at least 2", "bank.programs=2"),
        ("bank.held_out=99", "bank.held_out=99", "it leaves none", "more bank.pictures"),
        ("bank=big", "bank=big", "it must be a mapping of settings", "bank.…=…"),
        (
            "network.widths=[1,2]",
            "network.widths=[1,2]",
            "at least 5 items",
            "network.widths=[32,64,128,256,256]",
        ),
        ("tasks.texture=-1", "tasks.texture=-1", "at least 0", "tasks.texture=0"),
        ("precision=fp16", "precision=fp16", "it must be auto, fp32 or bf16", "precision="),
        ("learning_rate=fast", "learning_rate=fast", "it must be a number", "learning_rate=0.003"),
        ("study=a/b", "study=a/b", "it must be a plain folder name", "study=train"),
        ("study=.hidden", "study=.hidden", "it must be a plain folder name", "study=train"),
        ("seed=${sed}", "seed=${sed}", "there is no setting sed to refer to", "Did you mean seed?"),
        ("seed=???", "seed=???", "it has no value", "seed="),
        ("seed=1,2", "seed=1,2", "it has several values", "Give one"),
        ("seed", "seed", "this is not of the form setting=value", "Type seed=…"),
        ("seed=(2)", "seed=(2)", "this cannot be read", "If it is a string, type"),
        ("logger=wnadb", "logger=wnadb", "there is no such option", "wandb"),
        ("logger.wandb.mod=offline", "logger.wandb.mod=offline", "there is no such setting", "mode"),
        ("logger.wandb.mode=offlin", "logger.wandb.mode=offlin", "it must be auto, online or", "offline"),
        ("trainer=gpu", "trainer=gpu", "there is no such option", "cpu"),
        ("optimizer=adam", "optimizer=adam", "there is no such group", "logger, trainer"),
        ("optimizer.lr=1", "optimizer.lr=1", "there is no such setting", "--help"),
        ("content=a.jpg", "content=a.jpg", "there is no such setting", "--help"),
        ("encoder=vgg19", "encoder=vgg19", "the only encoder that is trained here is procedural", "leave it"),
        ("encoder=", "encoder", "the only encoder that is trained", "Type encoder=procedural"),
        ("-m", "-m", "there are no sweeps of trainings", "a command for each"),
        ("--multirun", "-m", "there are no sweeps of trainings", "a command for each"),
        ("--hlep", "--hlep", "there is no such flag", "--help"),
        ("--config-name=mine", "--config-name=mine", "there is no such file", "train"),
        ("output=afile", "output=afile", "results cannot be written there", "output=…"),
    ],
)
def test_a_mistake_is_one_line(complain: Complain, typed: str, setting: str, reason: str, hint: str) -> None:
    Path("afile").touch()
    line = complain(typed, "trainer=cpu") if not typed.startswith("trainer") else complain(typed)
    assert line.startswith(f"nstbench: {setting}: "), line
    said = line.removeprefix(f"nstbench: {setting}: ")
    assert reason in said
    assert hint in said.partition(reason)[2], line


def test_tasks_that_weigh_nothing(complain: Complain) -> None:
    line = complain("tasks.texture=0", "tasks.histogram=0", "tasks.reconstruction=0")
    assert "all weights are 0. Type one above 0: tasks.texture=1." in line


def test_a_folder_of_ones_own(complain: Complain, tmp_path: Path) -> None:
    own = tmp_path / "own" / "trainer" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("accelerator: cpu\nthreads: 1\ndeterministc: false\n")
    line = complain("--config-dir", "own", "trainer=mine")
    assert line.startswith("nstbench: trainer.deterministc=false: there is no such setting. Did you mean det")


@pytest.mark.usefixtures("textures_drawn")
def test_a_training_that_diverges_is_one_line_and_status_1(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *TINY_TRAINING, "learning_rate=1e30"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    said = err.splitlines()[-1]
    assert said.startswith("nstbench: the training failed: ")
    assert said.endswith("Try a smaller learning_rate.")
    assert "Traceback" not in err
    assert not [*Path("outputs/train").glob("*/training.json")]


# ------------------------------------------------------------------- stopped, and given again

LONG = [setting for setting in TINY_TRAINING if not setting.startswith(("phases", "record"))]
LONG += ["record.progress=false", "record.curves_every=1", "record.checkpoint_every=2"]


Start = Callable[..., Command]


@pytest.fixture
def start(commands: CommandServer) -> Start:
    """Return a function that starts a training as a process."""

    def begin(output: Path, steps: int, *extra: str) -> Command:
        phases = f"phases=[{{crop: 48, batch: 4, steps: {steps}}}]"
        return commands.start("train", *LONG, phases, f"output={output}", *extra)

    return begin


def until(found: Callable[[], bool], process: Command) -> None:
    deadline = time.monotonic() + 60
    while not found() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)


def steps_in(output: Path) -> int:
    curves = [*output.glob("*/*/curves.csv")]
    return len(curves[0].read_text().splitlines()) - 1 if curves else 0


@pytest.mark.usefixtures("textures_drawn")
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_by_a_signal_it_can_be_given_again(
    start: Start, tmp_path: Path, sent: signal.Signals, status: int
) -> None:
    output = tmp_path / "outputs"
    process = start(output, 100_000)
    until(lambda: steps_in(output) >= 10, process)
    process.send_signal(sent)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in printed
    assert ("the same command continues" in printed) == (sent == signal.SIGINT)
    (folder,) = output.glob("*/encoder-*")
    assert (folder / "checkpoint.ckpt").is_file()
    assert not (folder / "training.json").exists()


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_while_textures_are_drawn_nothing_half_drawn_is_left(
    start: Start, tmp_path: Path, sent: signal.Signals, status: int
) -> None:
    process = start(tmp_path, 10, "bank.programs=50000", "bank.pictures=2")
    until(lambda: bool([*tmp_path.glob("train/textures-*.part")]), process)
    time.sleep(1)  # for the workers to start
    process.send_signal(sent)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == status, printed
    assert "Traceback" not in printed
    assert [*tmp_path.glob("train/textures-*")] == []


@pytest.mark.slow
@pytest.mark.usefixtures("textures_drawn")
def test_killed_and_given_again_it_ends_with_the_same_bytes(start: Start, tmp_path: Path) -> None:
    whole, broken = tmp_path / "outputs", tmp_path / "broken"
    (broken / "train").mkdir(parents=True)
    (bank,) = (whole / "train").glob("textures-*.npy")
    (broken / "train" / bank.name).write_bytes(bank.read_bytes())
    process = start(whole, 120)
    assert "use them" in process.communicate(timeout=120)[0]
    for step in (31, 83):
        process = start(broken, 120)
        until(lambda: steps_in(broken) >= step, process)  # noqa: B023
        process.kill()
        assert process.returncode == -signal.SIGKILL, "the training ended before it could be killed"
        assert not [*broken.glob("*/*/training.json")]
    process = start(broken, 120)
    printed = process.communicate(timeout=120)[0]
    assert re.search(r"\d+ of 120 steps are done", printed)
    ours, theirs = (next(o.glob("*/encoder-*/training.json")) for o in (broken, whole))
    assert ours.parent.name == theirs.parent.name
    assert json.loads(ours.read_text())["weights"] == json.loads(theirs.read_text())["weights"]
    assert len((ours.parent / "curves.csv").read_text().splitlines()) == 121
