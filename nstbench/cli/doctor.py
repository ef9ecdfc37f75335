"""``nstbench doctor``: what this machine can do, what is wrong with it, and how to mend it."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_GIGABYTE = 1e9
_LOW_DISK = 2 * _GIGABYTE


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: what was looked at.
        state: ``ok``, ``note`` (works, could be better) or ``wrong``.
        text: what was found.
        mend: what to do about it.
    """

    subject: str
    state: Literal["ok", "note", "wrong"]
    text: str
    mend: str = ""


def add_parser(subparsers: _SubParsersAction[Any]) -> None:
    """Add ``doctor`` to the command line."""
    parser = subparsers.add_parser("doctor", help="check versions, devices, weights, dashboards and disk")
    parser.add_argument("--output", default="outputs", help="the folder results would go to")
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
        table.add_row(signs[f.state], f.subject, Text(f"{f.text}. {f.mend}" if f.mend else f.text))
    console = Console()
    (console if console.is_terminal else Console(width=120)).print(table)
    return int(any(f.state == "wrong" for f in findings))


def examine(output: Path) -> Iterator[Finding]:
    """Yield everything worth knowing before a run; results would go to ``output``."""
    yield from _versions()
    yield from _devices()
    yield from _threads()
    yield from _configuration()
    yield from _weights()
    yield from _dashboards()
    yield _disk(output)


def _versions() -> Iterator[Finding]:
    from nstbench.tracking.record import versions

    found = versions()
    missing = [name for name, version in found.items() if version == "missing"]
    yield Finding("versions", "ok", ", ".join(f"{name} {version}" for name, version in found.items()))
    if missing:
        yield Finding(
            "versions",
            "wrong",
            f"not installed: {', '.join(missing)}",
            "Run make setup, or pip install nstbench.",
        )
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:
        mend = "Install torch and torchvision together, from one index: pip install torch torchvision."
        yield Finding("torchvision", "wrong", f"it does not import ({error})", mend)


def _devices() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            p = torch.cuda.get_device_properties(i)
            bf16 = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16"
            tf32 = "tf32" if p.major >= 8 else "no tf32"
            text = f"{p.name}, {p.total_memory / _GIGABYTE:.0f} GB; fp32, {tf32}, {bf16}"
            yield Finding(f"cuda:{i}", "ok", text)
    elif torch.backends.mps.is_available():
        yield Finding("mps", "ok", "an Apple GPU; fp32")
    else:
        built = (
            f"PyTorch is built for CUDA {torch.version.cuda}"
            if torch.version.cuda
            else "PyTorch is built for the CPU"
        )
        yield Finding("GPU", "note", f"none is seen; {built}", "Runs use the CPU.")
    fast = _cpu_has_bf16()
    text = "fp32, and bf16 in hardware" if fast else "fp32; bf16 is emulated, so slower"
    yield Finding(
        "CPU", "ok", text, "schedule.precision=bf16 is faster here, and less exact." if fast else ""
    )


def _cpu_has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags or " bf16 " in flags


def _threads() -> Iterator[Finding]:
    import torch

    used, cores = (
        torch.get_num_threads(),
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    )
    text = f"{used} of {cores} cores"
    if cores and used > cores:
        yield Finding(
            "threads", "wrong", text, f"More threads than cores slow every run: trainer.threads={cores}."
        )
    else:
        yield Finding("threads", "ok", text)


def _configuration() -> Iterator[Finding]:
    from nstbench.config_files import conf_dir, groups

    try:
        folder = conf_dir()
    except FileNotFoundError as error:
        yield Finding("configuration", "wrong", str(error), "Install nstbench again.")
        return
    found = groups(folder)
    yield Finding(
        "configuration", "ok", f"{sum(map(len, found.values()))} options in {len(found)} groups, in {folder}"
    )


def _weights() -> Iterator[Finding]:
    from nstbench.encoders.weights import REGISTRY, find, weights_folder

    present = [name for name in REGISTRY if find(name) is not None]
    text = f"{', '.join(present) or 'none'} of {len(REGISTRY)} registered, in {weights_folder()}"
    state: Literal["ok", "note"] = "ok" if present else "note"
    yield Finding(
        "weights",
        state,
        text,
        "" if present else "encoder=random needs none; nstbench weights fetch vgg19 gets some.",
    )
    if "alexnet" not in present:
        yield Finding(
            "lpips", "note", "LPIPS will be recorded as unavailable", "nstbench weights fetch alexnet."
        )


def _dashboards() -> Iterator[Finding]:
    from nstbench.tracking.login import logged_in

    mode = (
        "online"
        if logged_in()
        else "offline (not logged in); see runs with wandb leet <output>/<study>/wandb"
    )
    yield Finding("wandb", "ok", f"{metadata.version('wandb')}, {mode}")
    if util.find_spec("tensorboard") is None:
        yield Finding(
            "tensorboard", "note", "not installed", 'pip install "nstbench[dash]" adds logger=[tensorboard].'
        )
    else:
        yield Finding("tensorboard", "ok", metadata.version("tensorboard"))


def _disk(output: Path) -> Finding:
    folder = output.absolute()
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        return Finding("output", "wrong", f"{folder} cannot be written to", "Give another folder: output=…")
    free = shutil.disk_usage(folder).free
    text = f"{free / _GIGABYTE:.0f} GB free for {output}"
    if free < _LOW_DISK:
        return Finding("output", "wrong", text, "Free some space, or give another folder: output=…")
    return Finding("output", "ok", text)
