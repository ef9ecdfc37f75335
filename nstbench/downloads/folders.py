"""Where downloaded files are kept."""

from __future__ import annotations

import os
from pathlib import Path


def own_folder(variable: str, name: str) -> Path:
    """Return the folder of an environment variable, else `nstbench/<name>` in the user's cache."""
    own = os.environ.get(variable)
    return Path(own).expanduser() if own else cache_folder() / "nstbench" / name


def cache_folder() -> Path:
    """Return the user's cache: `$XDG_CACHE_HOME`, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
