"""Where a run computes, and how much memory it took."""

from __future__ import annotations

import resource
import sys
from functools import lru_cache
from pathlib import Path

import torch

from nstbench.config import TrainerSettings
from nstbench.errors import UserError


def choose_device(settings: TrainerSettings) -> torch.device:
    """Return the device of a run, and set the number of CPU threads.

    Raises:
        UserError: if the accelerator asked for is not there.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    # "fp32" means float32: without this, cuDNN rounds the inputs of convolutions to 10 bits (TF32).
    torch.backends.cudnn.allow_tf32 = False
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if settings.accelerator == "auto":
        return torch.device(next(name for name, there in present.items() if there))
    if not present[settings.accelerator]:
        hint = "Use trainer=auto or trainer=cpu; `nstbench doctor` tells what PyTorch sees."
        raise UserError("trainer.accelerator", settings.accelerator, "PyTorch sees no such device here", hint)
    return torch.device(settings.accelerator)


def device_name(device: torch.device) -> str:
    """Return a name for the run record."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def reset_peak_memory(device: torch.device) -> None:
    """Start measuring anew, where the device can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Return bytes: of the GPU since `reset_peak_memory`; on the CPU, of the process since it began."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@lru_cache(maxsize=1)  # asked at every evaluation
def cpu_has_bf16() -> bool:
    """Tell whether the CPU multiplies bfloat16 in hardware; emulated, it is slower than float32."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def fast_bf16(device: torch.device) -> bool:
    """Tell whether bfloat16 is computed in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and cpu_has_bf16()
