"""What Hydra and OmegaConf say when a configuration cannot be composed, as one line with a suggestion."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nstbench.config_files import groups
from nstbench.errors import UserError, did_you_mean, nearest

_NOT_IN_STRUCT = re.compile(r"Key '(?P<key>[^']+)' is not in struct")
_OVERRIDE = re.compile(r"Could not override '(?P<path>[^']+)'")
_NO_OPTION = re.compile(r"Could not find '(?P<path>[^']+)'")
_NO_GROUP = re.compile(r"Could not override '(?P<path>[^']+)'.\s+No match in the defaults list")
_CONVERT = re.compile(r"Value '(?P<value>.*)' of type|Invalid value '(?P<other>.*)'")


def as_user_error(error: Exception) -> UserError:
    """Return the `UserError` that says what ``error`` means for the user."""
    text = "\n".join(str(e) for e in _chain(error))
    if match := _NO_GROUP.search(text):
        path = match["path"]
        hint = did_you_mean(path.replace("/", "."), [g.replace("/", ".") for g in groups()], what="groups")
        return UserError(path, "…", "there is no such group of options", hint)
    if match := _NO_OPTION.search(text):
        return _no_option(match["path"])
    if match := _OVERRIDE.search(text):
        return _no_setting(match["path"])
    if match := _NOT_IN_STRUCT.search(text):
        return _no_setting(match["key"])
    first = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
    setting = str(getattr(error, "full_key", None) or getattr(error, "override", None) or "command line")
    hint = (
        "Put a value with spaces, commas or brackets in quotes: 'key=\"value\"'."
        if "mismatched" in text
        else ""
    )
    hint = hint or ("Put it in quotes: 'key=\"value\"'." if "no viable" in text or "token" in text else "")
    key, _, value = setting.partition("=")
    return UserError(key, value, _sentence(first), hint)


def _no_option(path: str) -> UserError:
    group, _, option = path.rpartition("/")
    known = groups()
    if group not in known:
        return UserError(
            group or path, option, "there is no such group of options", _near_group(group or path)
        )
    return UserError(
        group, option, "there is no such option", did_you_mean(option, known[group], what="options")
    )


def _no_setting(path: str) -> UserError:
    from nstbench.config import settings

    names = [*settings(), *(g.replace("/", ".") for g in groups()), "content", "style"]
    close = nearest(path, names) or [n for n in names if n.rpartition(".")[2] == path.rpartition(".")[2]]
    hint = f"Did you mean {' or '.join(close[:3])}?" if close else "`nstbench run --help` lists the settings."
    return UserError(path, "…", "there is no such setting", hint)


def _near_group(name: str) -> str:
    return did_you_mean(name, groups(), what="groups")


def _chain(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _sentence(line: str) -> str:
    return line.strip().rstrip(".")
