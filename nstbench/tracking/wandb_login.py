"""Whether wandb is online, and where its files are; separate from the loggers, which load Lightning."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Literal
from urllib.parse import urlparse

Mode = Literal["online", "offline", "disabled"]


def wandb_mode() -> Mode:
    """Return what ``logger.wandb.mode=auto`` means: ``WANDB_MODE`` decides, else whether there is a key."""
    asked = os.environ.get("WANDB_MODE", "").lower()
    if asked in {"online", "shared"}:
        return "online"
    if asked == "disabled":
        return "disabled"
    if asked:  # offline, and its old name dryrun
        return "offline"
    return "online" if wandb_key() else "offline"


def wandb_key() -> str:
    """Return where wandb's key was found: ``WANDB_API_KEY``, or a file of `wandb login`; "" if nowhere."""
    if os.environ.get("WANDB_API_KEY"):
        return "WANDB_API_KEY"
    server = urlparse(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    own = os.environ.get("NETRC")
    for path in [own] if own else ["~/.netrc", "~/_netrc"]:
        try:
            if netrc(Path(path).expanduser()).authenticators(server):
                return path
        except (OSError, RuntimeError, NetrcParseError, UnicodeDecodeError):
            continue  # the file does not exist or cannot be read
    return ""


@contextmanager
def wandb_files_under(folder: Path) -> Iterator[None]:
    """Keep wandb's files out of the home folder, which may not be writable or not exist.

    They are wandb's own logs, and pictures in tables until they are uploaded.
    """
    ours = {"WANDB_CACHE_DIR": folder / ".cache", "WANDB_DATA_DIR": folder / ".data"}
    ours = {name: path.absolute() for name, path in ours.items() if name not in os.environ}
    os.environ.update({name: str(path) for name, path in ours.items()})
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
