"""Whether a picture's file is there and can be opened: what can be told without decoding, in no time."""

from __future__ import annotations

import re
from pathlib import Path

from nstbench.errors import UserError, nearest

NO_SUCH_FILE = "there is no such file"


def existing_file(path: str | Path, setting: str) -> Path:
    """The path of a file that can be opened and has bytes, or the reason why not."""
    given = str(path)
    if re.match(r"(https?|ftp|s3|gs)://", given):
        raise UserError(
            setting, given, "pictures are not fetched from the network", "Download it, give its path."
        )
    try:
        path = Path(path).expanduser()
        if path.is_dir():
            raise UserError(setting, given, "this is a folder", _files_in(path))
        if not path.exists():
            raise UserError(setting, given, NO_SUCH_FILE, _nearest_file(path))
        if not path.is_file():
            raise UserError(setting, given, "this is not a regular file")
        with path.open("rb") as file:
            if not file.read(1):
                raise UserError(setting, given, "the file is empty", "Fetch or save it again.")
    except PermissionError as error:
        raise UserError(setting, given, "you may not read this file", "Ask its owner, or copy it.") from error
    except (
        OSError,
        ValueError,
        RuntimeError,
    ) as error:  # too long, a null byte, no such home, a failing disk
        raise UserError(setting, given, f"the file cannot be opened ({error})") from error
    return path


def _nearest_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"The folder {folder} does not exist either."
    near = nearest(path.name, (entry.name for entry in folder.iterdir() if entry.is_file()))
    return f"Did you mean {' or '.join(str(folder / name) for name in near)}?" if near else ""


def _files_in(folder: Path) -> str:
    known = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
    found = sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in known)
    return f"Name a picture in it, such as {found[0]}." if found else "Name a picture file."
