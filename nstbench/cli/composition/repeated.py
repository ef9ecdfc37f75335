"""Refusal of a setting that was typed twice with different values, of which Hydra takes the last."""

from __future__ import annotations

from collections.abc import Iterable

from nstbench.errors import UserError

_OF_ALL_RUNS = frozenset({"study", "output"})  # the runs of one command are in one folder


def refuse_repeated(overrides: Iterable[str], *, sweeps: bool = True) -> None:
    """Refuse overrides of one setting, or choices of one group, with different values.

    What is typed twice alike is accepted. So are several settings of one section, ``~setting`` before
    ``+setting=…``, options that are added with ``+`` to a group, and ``group@package=…``, as each names
    something else. Settings in files, such as those of a recipe, are not looked at.

    Args:
        overrides: Overrides that were typed, with shorthands spelt out.
        sweeps: Whether a setting may have several values in this command.

    Raises:
        UserError: There is such a setting.
    """
    found: dict[str, tuple[str, str]] = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        added = key.startswith("+") and "/" in key
        if not equals or key.startswith(("~", "-")) or added:
            continue
        setting = key.lstrip("+")
        first, before = found.setdefault(setting, (key, value))
        if before != value:
            hint = f"Type one of them: {first}={before} or {key}={value}"
            several = (
                f"; to run both, type -m {setting}={before},{value}"
                if sweeps and setting not in _OF_ALL_RUNS
                else ""
            )
            raise UserError(
                setting, value, f"it was typed before with another value, {before}", f"{hint}{several}."
            )
