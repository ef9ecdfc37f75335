"""From what a person types to Hydra's override grammar."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

# What a first-time user types, and the setting it stands for.
SHORTHANDS = {"content": "pictures.content", "style": "pictures.style"}

# Settings that hold a path: their values may hold characters that mean something to Hydra.
_PATHS = {"pictures.content", "pictures.style", "canvas.start", "output"}
_SPECIAL = set(" \t()[]{}'\"=,#&;!<>`~")


def overrides_from(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with shorthands spelt out and file names quoted where Hydra needs it.

    ``content=my photo (1).jpg`` becomes ``pictures.content="my photo (1).jpg"``. A list, a choice
    sweep over several values, or text that is quoted already is left as it is, unless a file of
    exactly that name exists.
    """
    return [_override(argument) for argument in arguments]


def _override(argument: str) -> str:
    key, equals, value = argument.partition("=")
    if argument.startswith("-") or not equals:
        return argument
    key = SHORTHANDS.get(key, key)
    if key in _PATHS and _SPECIAL & set(value):
        parts = [value] if _is_file_name(value) else value.split(",")
        value = ",".join(_quoted(part) if _needs_quotes(part) else part for part in parts)
    return f"{key}={value}"


def _is_file_name(value: str) -> bool:
    try:
        return Path(value).expanduser().exists()
    except OSError:
        return False


def _needs_quotes(part: str) -> bool:
    # Quotes and brackets that open a value are grammar: somebody knew what they were doing.
    return bool(_SPECIAL & set(part)) and (part[:1] not in "'\"[{" or _is_file_name(part))


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
