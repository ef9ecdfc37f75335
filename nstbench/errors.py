"""What is said when a user's setting cannot be used.

A mistake of the user's is a `UserError`: the command line prints it as one message, without a
traceback, and exits with status 2. Everything else that is raised is a fault of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from unicodedata import category


class UserError(Exception):
    """A setting that cannot be used, and what to do about it.

    Args:
        setting: the name the user would type, such as ``pictures.content``.
        value: what was given.
        reason: why it cannot be used, as a clause: "there is no such file".
        hint: what to type instead, as a sentence. May be empty.

    The message reads ``setting=value: reason. hint``. Without a value (``""``) it begins with the
    setting alone.
    """

    def __init__(self, setting: str, value: object, reason: str, hint: str = "") -> None:
        self.setting, self.value, self.reason, self.hint = setting, value, reason.rstrip("."), hint
        given = as_typed(value)
        what = f"{setting}={given}" if given else setting
        super().__init__(f"{what}: {self.reason}." + (f" {hint}" if hint else ""))

    def __reduce__(self) -> tuple[type[UserError], tuple[str, object, str, str]]:
        # Exceptions travel between the processes of a sweep; the default would call __init__(message).
        return type(self), (self.setting, self.value, self.reason, self.hint)


def as_typed(value: object) -> str:
    """Return a value as one would type it: ``null``, ``true``, ``[a,b]``; cut where it is very long."""
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
    text = " ".join(text.splitlines())  # a file may be called anything
    if not text.isprintable():  # control characters would reach the terminal
        text = "".join(c if category(c) not in {"Cc", "Cs"} else ascii(c)[1:-1] for c in text[: _LONGEST + 1])
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


_LONGEST = 300


class NonFiniteObjectiveError(Exception):
    """The objective became NaN or infinite: the run has failed, its last good canvas is kept.

    Args:
        message: What is not finite.
        hint: What to do, as a sentence without its full stop; "": the optimiser went too far.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.hint = hint
        super().__init__(message)

    def __reduce__(self) -> tuple[type[NonFiniteObjectiveError], tuple[str, str]]:
        return type(self), (str(self), self.hint)


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """Return the known names that look most like ``name``, best first; may be empty."""
    known = list(known)
    by_lower = {k.lower(): k for k in known}
    close = get_close_matches(name.lower(), by_lower, n=most, cutoff=0.6)
    return [by_lower[k] for k in close]


def did_you_mean(name: str, known: Iterable[str], *, what: str = "") -> str:
    """Return "Did you mean a or b?", or the list of all names when none is near.

    Args:
        name: what was typed.
        known: the valid names.
        what: a word for them in the plural, for the list: "layers", "encoders".
    """
    known = list(known)
    close = nearest(name, known)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return f"{(what or 'names').capitalize()} to choose from: {shown}." if known else ""
