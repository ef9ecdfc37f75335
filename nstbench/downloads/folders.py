"""Where downloaded files are kept."""

from __future__ import annotations

import os
from pathlib import Path

from nstbench.errors import UserError

WEIGHTS_VARIABLE = "NSTBENCH_WEIGHTS"


def own_folder(variable: str, name: str) -> Path:
    """Return the folder of an environment variable, else `nstbench/<name>` in the user's cache.

    Raises:
        UserError: If the variable names a file.
    """
    own = os.environ.get(variable)
    if not own:
        return _usual(name)
    folder = Path(own).expanduser()
    if folder.exists() and not folder.is_dir():
        hint = f"Set it to a folder, such as {folder.parent / name}, or unset it: then it is {_usual(name)}."
        raise UserError(variable, own, "it must be a folder, and this is a file", hint)
    return folder


def _usual(name: str) -> Path:
    return cache_folder() / "nstbench" / name


def weights_folder() -> Path:
    """Return nstbench's folder of weights: `$NSTBENCH_WEIGHTS`, or nstbench/weights in the user's cache."""
    return own_folder(WEIGHTS_VARIABLE, "weights")


def folders_of_weights() -> tuple[Path, Path]:
    """Return the folders in which weights are looked for: nstbench's, then that of torch hub."""
    torch_home = os.environ.get("TORCH_HOME")
    torch_folder = Path(torch_home).expanduser() if torch_home else cache_folder() / "torch"
    return weights_folder(), torch_folder / "hub" / "checkpoints"


def cache_folder() -> Path:
    """Return the user's cache: `$XDG_CACHE_HOME`, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
