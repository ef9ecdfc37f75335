"""Whether wandb would go online; apart from the loggers, which load Lightning."""

from __future__ import annotations

import os
from pathlib import Path


def logged_in() -> bool:
    """Return whether the user has given wandb a key, by environment or ``wandb login``."""
    if os.environ.get("WANDB_MODE") in {"offline", "disabled"}:
        return False
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return netrc.is_file() and "api.wandb.ai" in netrc.read_text(encoding="utf-8", errors="ignore")
