"""Errors that the command line prints as one message, without a traceback.

A mistake in a setting is a `UserError`, with exit status 2. Exceptions of other types than those
of this module are bugs.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from unicodedata import category


class UserError(Exception):
    """A setting that cannot be used, and what to do about it.

    Args:
        setting: Name of the setting as typed, such as ``pictures.content``.
        value: Value of the setting.
        reason: Why the value cannot be used, as a clause: "there is no such file".
        hint: What to type instead, as a sentence. May be empty.

    The message reads ``setting=value: reason. hint``. Without a value (``""``) it begins with the
    setting alone.
    """

    def __init__(self, setting: str, value: object, reason: str, hint: str = "") -> None:
        self.setting, self.value, self.reason, self.hint = setting, value, reason.rstrip("."), hint
        typed = as_typed(value)
        assignment = f"{setting}={typed}" if typed else setting
        super().__init__(f"{assignment}: {self.reason}." + (f" {hint}" if hint else ""))

    def __reduce__(self) -> tuple[type[UserError], tuple[str, object, str, str]]:
        # Exceptions are pickled between the processes of a sweep; the default would call __init__(message).
        return type(self), (self.setting, self.value, self.reason, self.hint)


def as_typed(value: object) -> str:
    """Return a value as it is typed: ``null``, ``true``, ``[a,b]``; truncated if it is very long."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        text = f"[{','.join(as_typed(item) for item in value)}]"
    elif isinstance(value, Mapping):
        text = f"{{{', '.join(f'{k}: {as_typed(v)}' for k, v in value.items())}}}"
    else:
        text = str(value)
    text = " ".join(text.splitlines())  # names of files may contain line breaks
    if not text.isprintable():  # control characters would reach the terminal
        text = "".join(c if category(c) not in {"Cc", "Cs"} else ascii(c)[1:-1] for c in text[: _LONGEST + 1])
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


_LONGEST = 300


FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers of the operating system for a full disk, quota or file."""

_AGAIN = "then type the same command: it continues where it stopped"
_STORAGE = {
    errno.ENOSPC: ("the disk is full", f"Free disk space, {_AGAIN}"),
    errno.EDQUOT: ("the disk quota is used up", f"Free disk space, {_AGAIN}"),
    errno.EFBIG: ("a file would exceed the limit on file sizes", f"Raise the limit, {_AGAIN}"),
    errno.EROFS: ("the file system is read-only", f"Make it writable, {_AGAIN}"),
    errno.EACCES: ("the permission to write is missing", f"Make it writable, {_AGAIN}"),
    errno.EPERM: ("writing is not permitted; it may be immutable", f"Make it writable, {_AGAIN}"),
    errno.EIO: ("the disk reports an input/output error", f"Check the disk, {_AGAIN}"),
    errno.ENOENT: ("the folder was removed or moved", f"Put it back, {_AGAIN}; otherwise it starts again"),
    errno.ENOTDIR: ("a file is in the place of a folder", f"Remove the file, {_AGAIN}"),
    errno.EISDIR: ("a folder is in the place of a file", f"Remove it, {_AGAIN}"),
    errno.ESTALE: ("the folder was removed or moved on the server", f"Put it back, {_AGAIN}"),
}


class StorageError(OSError):
    """A file of a run or a study cannot be written; files written before are complete.

    It is neither a mistake in a setting nor a bug: the command line prints it as one line and exits
    with status 1.

    Args:
        folder: Folder that was written to.
        error: Error that the operating system reported.
        file: File that was to be written; None: any file of the folder.

    The message reads ``folder: reason. What to do.``
    """

    def __init__(self, folder: Path, error: OSError, file: Path | None = None) -> None:
        super().__init__(error.errno, error.strerror or str(error) or type(error).__name__, str(folder))
        self.folder, self.error, self.file = folder, error, file

    @property
    def reason(self) -> str:
        """Why the folder cannot be written to, as a clause."""
        return self._explanation()[0]

    def _explanation(self) -> tuple[str, str]:
        system = " ".join(str(self.strerror).split())
        what = self.file.name if self.file else "it"
        unknown = (f"{what} cannot be written ({system})", f"Correct that, {_AGAIN}")
        reason, hint = _STORAGE.get(self.errno or 0, unknown)
        if self.errno == errno.EISDIR and self.file is not None:
            reason = f"{self.file.name} is a folder, and a file is to be written there"
        return reason, hint

    def __str__(self) -> str:
        reason, hint = self._explanation()
        return f"{as_typed(self.folder)}: {reason}. {hint}."

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder, self.error, self.file)


class NonFiniteObjectiveError(Exception):
    """The objective became NaN or infinite: the run has failed, its last finite canvas is kept.

    Args:
        message: What is not finite.
        hint: What to do, as a sentence without its full stop; "" where a step was too long.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.hint = hint
        super().__init__(message)

    def __reduce__(self) -> tuple[type[NonFiniteObjectiveError], tuple[str, str]]:
        return type(self), (str(self), self.hint)


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """Return the known names most similar to ``name``, best first; may be empty."""
    known = list(known)
    by_lower = {k.lower(): k for k in known}
    close = get_close_matches(name.lower(), by_lower, n=most, cutoff=0.6)
    return [by_lower[k] for k in close]


def did_you_mean(name: str, known: Iterable[str], *, what: str = "") -> str:
    """Return "Did you mean a or b?", or the list of all names if none is similar.

    Args:
        name: Name that was typed.
        known: Valid names.
        what: Noun for the names in the plural, for the list: "layers", "encoders".
    """
    known = list(known)
    close = nearest(name, known)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return f"{(what or 'names').capitalize()} to choose from: {shown}." if known else ""
