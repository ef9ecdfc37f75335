"""The weight file of the encoder: writing it with its hash, and reading it only if the hash agrees."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from nstbench.encoders.weights import own_file
from nstbench.errors import NonFiniteObjectiveError, UserError
from nstbench.runtime.files import write_bytes

SHIPPED = Path(__file__).parent / "encoder.safetensors"
"""The weights in the package, trained on procedural textures alone."""

IN_PACKAGE = {"shipped": SHIPPED, "distilled": Path(__file__).parent / "distilled.safetensors"}
"""Files in the package by their names for ``encoder.weights``; ``distilled`` learnt a VGG-16's features."""

_LARGEST = 2**28
"""Largest size of a file of weights, in bytes: three times that of a VGG-19 without its classifier."""


def write_weights(path: Path, tensors: Mapping[str, Tensor], made_by: Mapping[str, object]) -> str:
    """Write tensors in half precision and return the file's sha256.

    Args:
        path: Path of the file, which is written atomically.
        tensors: Tensors of the folded convolutions.
        made_by: Provenance, for the metadata of the file.

    Raises:
        NonFiniteObjectiveError: If a tensor is not finite in half precision.
    """
    from safetensors.torch import save

    halves = {name: t.detach().cpu().to(torch.float16).contiguous() for name, t in tensors.items()}
    for name, t in halves.items():
        if not torch.isfinite(t).all():
            raise NonFiniteObjectiveError(f"{name} is infinite in half precision")
    data = save(halves, {"nstbench": json.dumps(made_by, sort_keys=True)})
    digest = hashlib.sha256(data).hexdigest()
    checksum = f"{digest}  {path.name}\n".encode("ascii")
    for file, content in ((path, data), (path.with_suffix(".sha256"), checksum)):
        write_bytes(file, content)
    return digest


def read_weights(path: Path) -> tuple[dict[str, Tensor], str]:
    """Return the tensors, in float32, and the sha256 of a weight file.

    Raises:
        UserError: If it is missing, or not the file that its ``.sha256`` describes.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    checksum = path.with_suffix(".sha256")
    ours = path in IN_PACKAGE.values()
    remedy = "Reinstall nstbench." if ours else "Make it again with nstbench train."
    hint = remedy if ours else "Give a file that nstbench train made, or shipped or distilled."
    if (size := own_file(path, "there is no such file", hint).stat().st_size) > _LARGEST:
        reason = f"it holds {size:,} bytes, more than the {_LARGEST:,} that a file of this encoder may hold"
        raise UserError("encoder.weights", str(path), reason, hint)
    try:
        data = path.read_bytes()
        wanted = checksum.read_text(encoding="ascii").split()[0]
    except FileNotFoundError as error:
        reason = f"there is no {checksum.name} beside it to compare it with"
        raise UserError("encoder.weights", str(path), reason, f"Copy both files. {remedy}") from error
    except (OSError, IndexError, UnicodeDecodeError) as error:
        raise UserError("encoder.weights", str(path), f"it cannot be read ({error})", remedy) from error
    found = hashlib.sha256(data).hexdigest()
    if found != wanted:
        reason = f"it is damaged or was edited: its sha256 is {found[:12]}…, not {wanted[:12]}…"
        raise UserError("encoder.weights", str(path), reason, remedy)
    # Sorted by name, blocks are in their order, which the file does not keep.
    try:
        return {name: t.float() for name, t in sorted(load(data).items())}, found
    except SafetensorError as error:
        raise UserError("encoder.weights", str(path), f"it holds no tensors ({error})", remedy) from error
