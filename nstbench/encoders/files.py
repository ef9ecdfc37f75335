"""Finding the file of the setting `encoder.weights`, and loading tensors into a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from nstbench.encoders.preprocessing import PreprocessingName
from nstbench.encoders.registry import REGISTRY
from nstbench.encoders.state_dict import check_finite
from nstbench.encoders.weights import locate, own_file
from nstbench.errors import UserError, nearest


def own_or_registered(weights: str, download: bool) -> Path:
    """Return the file that ``encoder.weights`` names.

    Raises:
        UserError: If it is neither a name of the registry nor a file, or its file is missing.
    """
    if weights in REGISTRY:
        return locate(weights, download=download)
    missing = "there is neither a registered name nor a file of that name"
    near = nearest(weights, REGISTRY)
    known = f"Did you mean {' or '.join(near)}?" if near else f"Registered: {', '.join(REGISTRY)}."
    hint = f"{known} `encoder=procedural` runs without them."
    return own_file(weights, missing, hint)


def expected_preprocessing(weights: str, sha256: str) -> PreprocessingName:
    """Return the preprocessing that weights expect: that of the registry's entry of this name or hash.

    Of other files nothing is known, and ``torch`` is assumed.
    """
    if weights in REGISTRY:
        return REGISTRY[weights].preprocessing
    known = (w for w in REGISTRY.values() if w.sha256 and sha256.startswith(w.sha256))
    return next((w.preprocessing for w in known), "torch")


def load_into(network: nn.Module, state: Mapping[str, Tensor], file: str) -> None:
    """Load a state dict whose tensors are those of the network, in name and shape, and finite.

    Raises:
        UserError: If they are not; it names the file and the first difference.
    """
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        reason = f"its tensors are not this network's ({str(error).splitlines()[1].strip()})"
        raise UserError("encoder.weights", file, reason, "Give a file made for this network.") from error
    check_finite(state, file)
