"""Splitting a typed value at its commas, and quoting its strings for Hydra's override grammar."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString

_PLAIN = re.compile(r"[\w/.$%*@?|:+-]+", re.ASCII)  # text that Hydra accepts without quotes
_NO_TEXT = re.compile(r"[+-]?[\d_.]+(e[+-]?\d+)?|[+-]?(inf|nan)|true|false", re.IGNORECASE)
_FUNCTION = re.compile(r"(choice|glob|sort|shuffle|tag|str)\s?\(")
_CLOSERS = {"[": "]", "{": "}", "(": ")"}
_LONGEST_NAME = 8  # parts between commas that may be one file's name


def split(value: str, prefix: re.Pattern[str] | None = None) -> list[str] | None:
    """Return the parts of a value between the commas that are outside of brackets and quotes.

    Brackets and quotes count only where a part begins with them, or with a function such as ``choice(``:
    elsewhere they belong to a string. The parts keep their spaces.

    Args:
        value: Value as typed.
        prefix: Pattern that may precede the bracket or quote of a part, such as a keyword.

    Returns:
        The parts, at least one; None if a bracket or quote is not closed.
    """
    parts: list[str] = []
    start = 0
    while True:
        before = prefix.match(value, start) if prefix else None
        begin = before.end() if before else start
        end = begin + _leading(value[begin:])
        if end < begin:
            return None
        comma = value.find(",", end)
        if comma < 0:
            return [*parts, value[start:]]
        parts.append(value[start:comma])
        start = comma + 1


def is_list(part: str) -> bool:
    """Return whether a part is a list: ``[a,b]`` from its first to its last character."""
    return part.startswith("[") and _leading(part) == len(part)


def is_grammar(part: str) -> bool:
    """Return whether a part is written in Hydra's grammar: quoted, a mapping, a reference or a function."""
    if "${" in part:
        return True
    return bool(part[:1] in {"'", '"', "{"} or _FUNCTION.match(part)) and _leading(part) == len(part)


def join_file_names(parts: Sequence[str]) -> list[str]:
    """Return the parts without the spaces around them, and joined again where commas are a file name's.

    ``["a", " b.jpg", "c.jpg"]`` becomes ``["a, b.jpg", "c.jpg"]`` if there is a file ``a, b.jpg`` and
    none called ``a``.
    """
    joined = []
    at = 0
    while at < len(parts):
        taken = 1
        if not file_exists(parts[at].strip()):
            ends = range(min(len(parts), at + _LONGEST_NAME), at + 1, -1)
            taken = next((e - at for e in ends if file_exists(",".join(parts[at:e]).strip())), 1)
        joined.append(",".join(parts[at : at + taken]).strip())
        at += taken
    return joined


def convert(value: str, text: Callable[[str], str], *, is_path: bool) -> str:
    """Return a value with its strings, in lists too, converted; parts in Hydra's grammar are unchanged.

    Args:
        value: Value of a setting: one, several separated by commas, or lists of them.
        text: Function from a string as typed to the same text in Hydra's grammar.
        is_path: Whether strings are paths: existing files may have commas and brackets in their names.
    """
    if is_path and file_exists(value):
        return text(value)
    if "${" in value:
        return value
    parts = split(value)
    if parts is None:  # Hydra refuses it later
        return value
    if len(parts) == 1 and not is_list(value):
        return value if is_grammar(value) else text(value)
    if is_path:
        parts = join_file_names(parts)
    return ",".join(_convert_part(part.strip(), text, is_path=is_path) for part in parts)


def _convert_part(part: str, text: Callable[[str], str], *, is_path: bool) -> str:
    if is_list(part) and not (is_path and file_exists(part)):
        inside = part[1:-1]
        return f"[{convert(inside, text, is_path=is_path)}]" if inside.strip() else part
    return part if is_grammar(part) else text(part)


def quote(text: str) -> str:
    """Return a string in Hydra's grammar: in quotes, or unchanged if it needs none."""
    if not text or (_PLAIN.fullmatch(text) and not _NO_TEXT.fullmatch(text)):
        return text
    return QuotedString(text, Quote.double).with_quotes()


def file_exists(value: str) -> bool:
    """Return whether there is a file or folder of a name; ``~`` is the home folder."""
    try:
        return os.path.lexists(value) or (value.startswith("~") and Path(value).expanduser().exists())
    except (OSError, ValueError, RuntimeError):
        return False


def _leading(value: str) -> int:
    """Return the length of the bracketed or quoted beginning of a value.

    0 if it begins otherwise, -1 if a bracket or quote is not closed.
    """
    spaces = len(value) - len(value.lstrip(" \t"))  # what Hydra's grammar skips
    body = value[spaces:]
    function = _FUNCTION.match(body)
    if not function and body[:1] not in {"'", '"', "[", "{"}:
        return 0
    open_brackets: list[str] = []
    at = 0
    before = ","
    while at < len(body):
        c = body[at]
        if c in "'\"" and before in ",[{(:=":
            closing = re.compile(rf"(?:\\.|[^\\{c}])*{c}", re.DOTALL).match(body, at + 1)
            if closing is None:
                return -1
            at = closing.end() - 1
        elif c in "[{" or (function and c == "("):
            open_brackets.append(_CLOSERS[c])
        elif open_brackets and c == open_brackets[-1]:
            open_brackets.pop()
        if not c.isspace():
            before = c
        at += 1
        if not open_brackets and not (function and at < function.end()):
            return spaces + at
    return -1
