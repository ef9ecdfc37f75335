"""From the setting `encoder.weights` to tensors in a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from nstbench.encoders.preprocessing import PreprocessingName
from nstbench.encoders.weights import REGISTRY, check_finite, locate, own_file
from nstbench.errors import UserError


def own_or_registered(
    weights: str, preprocessing: PreprocessingName | None, download: bool
) -> tuple[Path, PreprocessingName]:
    """Return the file that ``encoder.weights`` means, and the input its weights expect.

    Raises:
        UserError: if it is neither a name of the registry nor a file, or its file is missing.
    """
    if weights in REGISTRY:
        return locate(weights, download=download), preprocessing or REGISTRY[weights].preprocessing
    missing = "there is neither a registered name nor a file of that name"
    hint = f"Registered: {', '.join(REGISTRY)}. `encoder=procedural` runs without them."
    return own_file(weights, missing, hint), preprocessing or "torch"


def load_into(network: nn.Module, state: Mapping[str, Tensor], file: str) -> None:
    """Load a state dict, refusing tensors that are missing, left over, of another shape or not finite.

    Raises:
        UserError: naming the file and the first difference.
    """
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        reason = f"its tensors are not this network's ({str(error).splitlines()[1].strip()})"
        raise UserError("encoder.weights", file, reason, "Give a file made for this network.") from error
    check_finite(state, file)
