"""Reading an encoder's tensors from a file: torch's formats and safetensors, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nstbench.downloads.verification import describe_head
from nstbench.encoders.pickle_check import DAMAGED, TensorFileError
from nstbench.encoders.safe_load import load_tensors, open_regular, too_large
from nstbench.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_NETWORK = 150_000_000
"""Upper bound of the parameters of the registry's networks: a VGG-19 with its classifier has fewer."""


def load_state_dict(
    path: str | Path, *, setting: str = "encoder.weights", parameters: int = LARGEST_NETWORK
) -> dict[str, Tensor]:
    """Read named tensors from a torch file (.pth, .pt) or a safetensors file, onto the CPU.

    No code in the file is run, and reading takes no more memory than a file for such a network needs; see
    `nstbench.encoders.safe_load`. A dictionary under the key "state_dict" is unwrapped, and entries that
    are not tensors (an epoch, settings) are left out.

    Args:
        path: Path of the file.
        setting: Setting to name in messages.
        parameters: Number of parameters of the whole network that the file is for.

    Raises:
        UserError: If there is no such file, it is damaged, it is not a file of weights, it holds Python
            objects or no tensors, or it is larger than any file for such a network.
    """
    path = Path(path)
    # Float64, and as much again for what is saved beside the weights, such as an optimiser's moments.
    max_bytes = 16 * parameters + 2**26
    try:
        with open_regular(path) as file:
            head = file.read(512)
        if what := describe_head(head):
            raise TensorFileError(f"this is {what}, not a file of weights")
        if path.suffix == ".safetensors":
            content = _read_safetensors(path, max_bytes)
        else:
            content = load_tensors(path, max_bytes=max_bytes)
    except TensorFileError as error:
        raise UserError(setting, path, error.reason, error.hint) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]

    import torch

    named = content.items() if isinstance(content, dict) else ()
    tensors = {key: value for key, value in named if isinstance(key, str) and isinstance(value, torch.Tensor)}
    if not tensors:
        hint = "Save the network's state_dict(), not something else."
        raise UserError(setting, path, "the file holds no named tensors", hint)
    return tensors


def check_finite(tensors: Mapping[str, Tensor], file: str, *, setting: str = "encoder.weights") -> None:
    """Raise UserError for the first tensor that holds NaN or an infinite value.

    Such a network makes every objective NaN, which could be mistaken for the effect of too long a step.
    """
    import torch

    for name, tensor in tensors.items():
        wrong = tensor.numel() - int(torch.isfinite(tensor).sum())
        if wrong:
            reason = f"{wrong:,} of the {tensor.numel():,} values of its tensor {name} are NaN or infinite"
            raise UserError(setting, file, reason, "Get the file once more, or give another.")


def _read_safetensors(path: Path, max_bytes: int) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if (size := path.stat().st_size) > max_bytes:
        raise too_large(f"it holds {size:,} bytes", max_bytes)
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError) as error:
        raise TensorFileError(f"{DAMAGED} ({error})") from error
