"""The device of a run, and its memory."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import psutil
import torch

from nstbench.errors import UserError
from nstbench.runtime.cores import check_threads

_CGROUP = Path("/sys/fs/cgroup")


def choose_device(accelerator: str, threads: int | None) -> torch.device:
    """Return the device of a run, and set the number of CPU threads.

    Raises:
        UserError: There is no such accelerator, or there are fewer cores than threads.
    """
    check_threads("trainer.threads", threads)
    if threads:
        torch.set_num_threads(threads)
    # "fp32" means float32: without this, cuDNN rounds the inputs of convolutions to 10 bits (TF32).
    torch.backends.cudnn.allow_tf32 = False
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if accelerator == "auto":
        return torch.device(next(name for name, there in present.items() if there))
    if not present[accelerator]:
        hint = "Use trainer=auto or trainer=cpu; `nstbench doctor` shows what PyTorch sees."
        raise UserError("trainer.accelerator", accelerator, "PyTorch sees no such device here", hint)
    return torch.device(accelerator)


def device_name(device: torch.device) -> str:
    """Return a name for the run record."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak that `peak_memory` returns, where the system can do that."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: of this process only


def peak_memory(device: torch.device) -> int:
    """Return the peak in bytes since `reset_peak_memory`: of the GPU, or on the CPU of the process.

    Where the process's peak cannot be reset (macOS, Windows), it is that since the process began.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def held_memory(device: torch.device) -> int:
    """Return the bytes that this process uses now: on the GPU, or for the CPU in main memory."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    held: int = psutil.Process().memory_info().rss
    return held


def free_cached_memory() -> None:
    """Return memory that is no longer used to the device and the system, so that it counts as free."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # the C library is not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def free_memory(device: torch.device) -> int:
    """Return the bytes that this process can still allocate: on the device, or in its container."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free) + int(cached)
    available: int = psutil.virtual_memory().available
    return min([available, *_free_in_container()])


def _free_in_container() -> list[int]:
    """Return the free bytes of the control group, if one limits memory; cached files count as free."""
    for folder, limit, used, cached in (
        (_CGROUP, "memory.max", "memory.current", "file"),
        (_CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache"),
    ):
        with suppress(OSError, ValueError, KeyError):  # there is none, or its limit is "max"
            most, now = (int((folder / name).read_text(encoding="ascii")) for name in (limit, used))
            lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
            files = int(dict(line.split(maxsplit=1) for line in lines)[cached])
            return [max(0, most - now + files)]
    return []


@lru_cache(maxsize=1)  # called at every evaluation
def cpu_has_bf16() -> bool:
    """Return whether the CPU multiplies bfloat16 in hardware; emulated, it is slower than float32."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def fast_bf16(device: torch.device) -> bool:
    """Return whether bfloat16 is computed in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and cpu_has_bf16()
