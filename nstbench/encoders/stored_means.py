"""Mean activations over the calibration pictures, kept on disk: to paint and encode these takes seconds.

Means that are read are those that would be computed, to the bit: a file is found only by the same network,
the same source text of what is computed, the same libraries, and the same processor and number of threads.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nstbench.downloads.folders import own_folder
from nstbench.encoders.base import Encoder
from nstbench.encoders.calibration import calibration_pictures
from nstbench.runtime.files import write_atomically
from nstbench.runtime.tensor_file import DamagedFileError, read_tensors, write_tensors

VARIABLE = "NSTBENCH_CALIBRATION"
_SIZE = 224  # of the calibration pictures
_PACKAGE = Path(__file__).resolve().parents[1]
_SOURCES = ("encoders", "pictures")  # folders whose code determines the means
_LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "pillow", "scikit-image")
_WITHOUT_EFFECT = frozenset({"weights", "download"})  # the hash of the weights stands for them


def calibration_folder() -> Path:
    """Return the folder: `$NSTBENCH_CALIBRATION`, or nstbench/calibration in the user's cache."""
    return own_folder(VARIABLE, "calibration")


def calibration_means(encoder: Encoder, arguments: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the mean activation of each channel over the calibration pictures, by layer.

    Args:
        encoder: Encoder, not normalised.
        arguments: Class path and arguments that it was built from.
    """
    if not type(encoder).__module__.startswith("nstbench.") or not encoder.weights_sha256:
        return encoder.mean_activations(calibration_pictures(_SIZE))  # its code may change
    path = calibration_folder() / f"{_key(encoder, arguments)}.means"
    with suppress(OSError, DamagedFileError):
        means: dict[str, Tensor] = read_tensors(path)
        return means
    means = encoder.mean_activations(calibration_pictures(_SIZE))
    with suppress(OSError):  # what cannot be kept is computed again next time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: write_tensors(file, means), durable=False)
    return means


def _key(encoder: Encoder, arguments: Mapping[str, Any]) -> str:
    """Return a hash of all that the means depend on."""
    network = {name: value for name, value in arguments.items() if name not in _WITHOUT_EFFECT}
    libraries = [metadata.version(name) for name in _LIBRARIES]
    machine = [_processor(), torch.get_num_threads(), torch.get_float32_matmul_precision()]
    found = [network, encoder.weights_sha256, _SIZE, _source_hash(), libraries, machine]
    return hashlib.sha256(json.dumps(found, sort_keys=True, default=str).encode()).hexdigest()[:32]


@lru_cache(maxsize=1)
def _source_hash() -> str:
    found = hashlib.sha256()
    for folder in _SOURCES:
        for file in sorted((_PACKAGE / folder).rglob("*.py")):
            found.update(f"{file.relative_to(_PACKAGE)}\n".encode())
            found.update(file.read_bytes())
    return found.hexdigest()


@lru_cache(maxsize=1)
def _processor() -> str:
    """Return the kind of processor: libraries choose their instructions by it."""
    model = platform.processor()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model
        )
    return f"{platform.machine()} {model} {torch.backends.cpu.get_cpu_capability()}"
