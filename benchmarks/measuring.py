"""Timing, the device's peak, and tables in benchmarks/README.md, for the benchmarks of speed."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from nstbench.runtime.files import write_text

README = Path(__file__).with_name("README.md")


def synchronizer(device: torch.device) -> Callable[[], object]:
    """Return a function that waits for the device."""
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


def alternating(
    calls: Mapping[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Return the seconds of every call, ``rounds`` times in turn, so that a busy machine slows all alike.

    The first round, which allocates and compiles, is not counted.
    """
    synchronize = synchronizer(device)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(rounds + 1):
        for name, call in calls.items():
            synchronize()
            began = time.perf_counter()
            call()
            synchronize()
            if i:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median over rounds of ours divided by theirs of the same round."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _edge(device: torch.device) -> int:
    return 8192 if device.type == "cuda" else 2048


def product_flops(device: torch.device) -> int:
    """Return the FLOPs of `product`."""
    return 2 * _edge(device) ** 3


def product(precision: str, device: torch.device) -> Callable[[], object]:
    """Return the product of large square matrices in a precision: the highest speed of a device."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(_edge(device), _edge(device), dtype=dtype, device=device) for _ in range(2))

    def multiply() -> None:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        try:
            a @ b
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before

    return multiply


def machine(device: torch.device) -> str:
    """Return the description of this machine above a table."""
    if device.type == "cuda":
        where = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    else:
        cpu = Path("/proc/cpuinfo")
        lines = cpu.read_text(encoding="utf-8").splitlines() if cpu.is_file() else []
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "CPU"
        )
        where = f"{model}, {torch.get_num_threads()} threads"
    return f"{where}; torch {torch.__version__}, Python {platform.python_version()}"


def put(mark: str, body: str) -> None:
    """Put a table between its marks in benchmarks/README.md."""
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    text = README.read_text(encoding="utf-8")
    before, after = text.split(begin)[0], text.split(end)[1]
    write_text(README, f"{before}{begin}\n{body}\n{end}{after}")
