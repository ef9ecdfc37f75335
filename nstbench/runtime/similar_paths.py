"""Files and folders that a misspelt path may mean."""

from __future__ import annotations

import os
from pathlib import Path

from nstbench.errors import nearest


def did_you_mean_path(path: str | Path, *, folder: bool = False) -> str:
    """Return "Did you mean a/b or a/c?", with whole paths that exist; "" if none is similar.

    Args:
        path: Path that does not exist, as typed; ``~`` at its start is the home folder.
        folder: Whether a folder is meant, not a file.
    """
    near = similar_paths(path, folder=folder)
    return f"Did you mean {' or '.join(map(str, near))}?" if near else ""


def similar_paths(path: str | Path, *, folder: bool = False, most: int = 3) -> list[Path]:
    """Return the paths most similar to ``path`` that exist, best first; folders in it may be misspelt too.

    Args:
        path: Path that does not exist, as typed; ``~`` at its start is the home folder.
        folder: Whether a folder is meant, not a file.
        most: Number of paths at most.
    """
    path = Path(os.path.expanduser(path))
    found = [Path(path.anchor)]
    parts = path.parts[1:] if path.anchor else path.parts
    if not parts:
        return []
    for i, part in enumerate(parts):
        wants_folder = folder or i < len(parts) - 1
        found = [each for above in found for each in _similar_in(above, part, wants_folder, most)][:most]
    return found


def _similar_in(above: Path, name: str, wants_folder: bool, most: int) -> list[Path]:
    """Return the entries of a folder that are, or resemble, a name."""
    try:
        exact = above / name
        if exact.is_dir() if wants_folder else exact.is_file():
            return [exact]
        entries = [e.name for e in os.scandir(above) if (e.is_dir() if wants_folder else e.is_file())]
    except (OSError, ValueError):  # unreadable, or a name that is too long or holds a NUL
        return []
    same_stem = sorted(entry for entry in entries if Path(entry).stem == name)
    return [above / entry for entry in dict.fromkeys([*same_stem, *nearest(name, entries, most=most)])][:most]
