"""nstbench doctor: on a machine that is well, and on machines that are not."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nstbench.cli import doctor, main
from nstbench.cli.doctor import Finding, examine
from nstbench.encoders.registry import REGISTRY
from nstbench.tracking import record

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def _a_machine_that_is_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody is logged in, there is room on the disk, and no more threads than cores."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, 10**12))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


def about(subject: str, output: str = "outputs") -> Finding:
    """The last thing that is said about a subject: what is wrong, if anything is."""
    found = [f for f in examine(Path(output)) if f.subject == subject]
    return next((f for f in found if f.state == "wrong"), found[-1])


def exit_status_and_words(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main(["doctor", *arguments])
    return status, " ".join(capsys.readouterr().out.split())


def test_a_machine_that_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    status, said = exit_status_and_words(capsys)
    assert status == 0
    assert "wrong" not in said
    for words in (
        f"torch {torch.__version__.split('+')[0]}",
        "fp32; bf16",
        f"none of {len(REGISTRY)} registered",
        "offline",
    ):
        assert words in said
    assert "1000.0 GB free for outputs" in said
    assert not Path("outputs").exists()  # looking changes nothing


def test_everything_that_is_wrong_says_how_to_mend_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 10**12, 10**8))
    monkeypatch.setitem(sys.modules, "torchvision", None)
    status, said = exit_status_and_words(capsys, "--output", "results")
    assert status == 1
    assert "wrong output 0.1 GB free for results. Free some space, or give another folder: output=…" in said
    assert "wrong packages not installed: torchvision. Run make setup, or pip install nstbench." in said


def test_a_torchvision_of_another_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "torchvision":
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(doctor, "_is_installed", lambda _: True)
    monkeypatch.delitem(sys.modules, "torchvision")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    finding = about("torchvision")
    assert (finding.state, "torchvision::nms" in finding.text) == ("wrong", True)
    assert "pip install torch torchvision" in finding.fix


def test_an_output_folder_that_cannot_be_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    finding = about("output", "some/where/new")
    assert (finding.state, finding.fix) == ("wrong", "Give another folder: output=…")
    assert "cannot be written to (Read-only file system)" in finding.text


def test_an_output_folder_that_is_a_file() -> None:
    Path("results").touch()
    for output in ("results", "results/below"):
        assert (about("output", output).state, "is a file" in about("output", output).text) == ("wrong", True)


def test_weights_that_are_there_and_damaged_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert about("weights").state == "note"
    assert "nstbench weights fetch vgg16_hed efficientnet_lite0" in about("weights").fix
    assert "nstbench weights fetch vgg19" in about("weights").fix
    assert (about("lpips").state, about("lpips").fix) == (
        "note",
        "nstbench weights fetch alexnet downloads its network.",
    )
    (tmp_path / "weights").mkdir()
    for name in ("alexnet", "squeezenet"):
        torch.save({"features.0.bias": torch.zeros(1)}, tmp_path / "weights" / REGISTRY[name].file)
    damaged = about("weights")
    assert (damaged.state, "is damaged or is another file" in damaged.text) == ("wrong", True)
    assert "nstbench weights fetch" in damaged.fix
    for name in ("alexnet", "squeezenet"):
        sha256 = hashlib.sha256((tmp_path / "weights" / REGISTRY[name].file).read_bytes()).hexdigest()
        monkeypatch.setitem(REGISTRY, name, replace(REGISTRY[name], sha256=sha256))
    assert about("weights").text.startswith(f"alexnet, squeezenet of {len(REGISTRY)} registered")
    assert (about("lpips").state, about("lpips").text) == ("ok", "lpips_alex, lpips_squeeze can be computed")


def test_who_judges(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert (about("judge").state, about("judge").text) == ("note", "random weights judge")
    assert "nstbench weights fetch efficientnet_lite0" in about("judge").fix
    weights = REGISTRY["efficientnet_lite0"]
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / weights.file).touch()
    monkeypatch.setitem(REGISTRY, weights.name, replace(weights, sha256=hashlib.sha256(b"").hexdigest()))
    assert about("judge").state == "ok"


def test_a_folder_of_weights_that_is_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(b"weights")
    monkeypatch.setenv("NSTBENCH_WEIGHTS", str(tmp_path / "mine.pth"))
    found = about("weights")
    assert (found.state, found.fix.startswith("Set it to a folder")) == ("wrong", True)
    assert found.text == f"NSTBENCH_WEIGHTS={tmp_path / 'mine.pth'}: it must be a folder, and this is a file"


@pytest.mark.parametrize(
    ("environment", "state", "words"),
    [
        ({}, "ok", "offline (not logged in)"),
        ({"WANDB_API_KEY": "the-key"}, "ok", "online (the key is from WANDB_API_KEY)"),
        (
            {"WANDB_API_KEY": "the-key", "WANDB_MODE": "offline"},
            "ok",
            "offline (WANDB_MODE=offline, the key is from",
        ),
        ({"WANDB_MODE": "disabled"}, "ok", "disabled (WANDB_MODE=disabled, not logged in)"),
        ({"WANDB_MODE": "online"}, "wrong", "online but without a key"),
    ],
)
def test_whether_wandb_goes_online_and_why(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], state: str, words: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    finding = about("wandb")
    assert (finding.state, words in finding.text) == (state, True), finding
    assert "the-key" not in finding.text


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(doctor, "cores", lambda: 2)
    assert about("threads") == Finding(
        "threads", "wrong", "64 for 2 cores", "More threads than cores slow every run: trainer.threads=2."
    )


@pytest.mark.parametrize(("limit", "cores"), [("max 100000", 8), ("150000 100000", 2), ("50000 100000", 1)])
def test_a_container_may_use_fewer_cores_than_it_sees(
    monkeypatch: pytest.MonkeyPatch, limit: str, cores: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: limit)
    assert doctor.cores() == cores


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine on which CUDA does not work")
def test_a_gpu_that_is_seen_but_does_not_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(name="A100", major=8, total_memory=40e9)
    fakes: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_properties": lambda _: properties,
        "mem_get_info": lambda _: (30e9, 40e9),
        "is_bf16_supported": lambda **_: True,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    finding = about("cuda:0")
    assert finding.state == "wrong"
    assert finding.text.startswith("A100, 30 of 40 GB free, tf32; fp32 fails: ")
    assert "trainer=cpu" in finding.fix
    monkeypatch.setattr(
        doctor, "_check_device", lambda device, text, **how: Finding(str(device), "ok", f"{text}; {how}")
    )
    assert about("cuda:0").text == (
        "A100, 30 of 40 GB free, tf32; {'bf16': 'in hardware', "
        "'hint': 'schedule.precision=auto is faster here: bf16 first, tf32 at the end.'}"
    )


def test_a_gpu_that_this_pytorch_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    finding = about("GPU")
    assert (finding.state, "cannot use the GPU" in finding.text) == ("note", True)
    assert "nvidia-smi" in finding.fix


def test_bf16_that_does_not_work_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.nn.functional.conv2d

    def without_bf16(*arguments: Any) -> torch.Tensor:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("not implemented for 'BFloat16'")
        return real(*arguments)

    monkeypatch.setattr(torch.nn.functional, "conv2d", without_bf16)
    finding = about("CPU")
    assert (finding.state, "fp32; bf16 fails: not implemented" in finding.text) == ("note", True)


def test_a_check_that_fails_itself_is_a_finding_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise PermissionError("no entry")

    monkeypatch.setattr(record, "versions", broken)
    monkeypatch.setattr(shutil, "disk_usage", broken)
    status, said = exit_status_and_words(capsys)
    assert status == 1
    assert said.count("it could not be checked (PermissionError: no entry)") == 2
    assert "49 options" in said or "options in" in said


@pytest.mark.parametrize(("installed", "state"), [(True, "ok"), (False, "note")])
def test_whether_encoders_can_be_compiled(
    monkeypatch: pytest.MonkeyPatch, installed: bool, state: str
) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    monkeypatch.setattr(doctor, "_is_installed", lambda name: installed or name != "triton")
    found = about("compile")
    assert found.state == state
    assert "C++ compiler: none" in found.text
