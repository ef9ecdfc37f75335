"""Checking that a picture's file exists and can be opened, without decoding it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from nstbench.errors import UserError
from nstbench.runtime.similar_paths import did_you_mean_path

NO_SUCH_FILE = "there is no such file"


def picture_path(path: str | Path) -> Path:
    """Return the path with ``~`` or ``~user`` at its start expanded to a home folder.

    It is not expanded if a file of that literal name exists, and there is no such user or no such file
    in the home folder.

    Raises:
        RuntimeError: If there is neither such a user nor a file of the literal name.
    """
    path = Path(path)
    if not path.parts or not path.parts[0].startswith("~"):
        return path
    literal = Path.cwd() / path
    try:
        at_home = path.expanduser()
    except RuntimeError:
        if os.path.lexists(literal):
            return literal
        raise
    return literal if os.path.lexists(literal) and not os.path.lexists(at_home) else at_home


def existing_file(path: str | Path, setting: str) -> Path:
    """Return the path of a file that can be opened and is not empty.

    Raises:
        UserError: If there is none; it names the reason.
    """
    given = str(path)
    if re.match(r"(https?|ftp|s3|gs)://", given):
        raise UserError(
            setting, given, "pictures are not fetched from the network", "Download it and type its path."
        )
    try:
        path = picture_path(path)
        if path.is_dir():
            raise UserError(setting, given, "this is a folder", _suggest_file(path))
        if not path.exists():
            raise UserError(setting, given, NO_SUCH_FILE, _nearest_file(path))
        if not path.is_file():
            raise UserError(setting, given, "this is not a regular file")
        with path.open("rb") as file:
            if not file.read(1):
                raise UserError(setting, given, "the file is empty", "Fetch or save it again.")
    except RuntimeError as error:  # raised by expanduser
        reason = f"there is no user {given.split('/')[0][1:]}, nor a file of this name"
        raise UserError(
            setting, given, reason, "~ at the start is a home folder: type ~/picture.png."
        ) from error
    except PermissionError as error:
        raise UserError(setting, given, "you may not read this file", "Ask its owner, or copy it.") from error
    except (
        OSError,
        ValueError,
    ) as error:  # a name that is too long, a null byte, a failing disk
        raise UserError(setting, given, f"the file cannot be opened ({error})") from error
    return path


def _nearest_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return did_you_mean_path(path) or f"The folder {folder} does not exist either."
    return did_you_mean_path(path)


def _suggest_file(folder: Path) -> str:
    known = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
    found = sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in known)
    return f"Name a picture in it, such as {found[0]}." if found else "Name a picture file."
