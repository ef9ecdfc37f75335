"""Error messages for settings of other style transfer tools, with nstbench's own instead."""

from __future__ import annotations

from collections.abc import Sequence

from nstbench.cli.other_tools_table import EQUIVALENTS, Equivalent
from nstbench.errors import UserError

_BY_NAME = {name: row for row in EQUIVALENTS for name in row.names}


def find_equivalent(name: str) -> Equivalent | None:
    """Return nstbench's equivalent of a setting of another tool; ``-`` and ``_`` are the same."""
    return _BY_NAME.get(name.lstrip("+-").replace("-", "_").lower())


def refuse_other_tools(arguments: Sequence[str], own: frozenset[str]) -> None:
    """Refuse settings of other tools, typed as ``name=value`` or as flags, and say what to type instead.

    nstbench's own settings that were typed as flags, ``--steps 100``, are refused in the same way.

    Args:
        arguments: Arguments after the command, as typed.
        own: Names of nstbench's settings and groups.

    Raises:
        UserError: There is such a setting; its hint lists all of them.
    """
    found: list[tuple[str, str, str, Equivalent | None]] = []
    for i, argument in enumerate(arguments):
        typed_name, equals, value = argument.partition("=")
        name = typed_name.lstrip("+-")
        is_flag = argument.startswith("-") and len(typed_name) > 1
        if not (is_flag or equals):
            continue
        if is_flag and not equals and i + 1 < len(arguments):
            following = arguments[i + 1]
            takes_it = "=" not in following and (following[:1] != "-" or following[1:].isdigit())
            value = following if takes_it else ""
        if name in own:
            if is_flag and len(name) > 1:
                found.append((typed_name, value, f"{name}={value or '…'}", None))
        elif row := find_equivalent(name):
            found.append((typed_name, value, row.for_value(value), row))
    if not found:
        return
    name, value, instead, row = found[0]
    shown = f" {value}" if name.startswith("-") and value else ""
    reason = (
        f"this is a setting of other tools, such as {row.tool}"
        if row
        else "settings are typed without dashes"
    )
    hint = f"Type {instead}" if instead else "Leave it out"
    hint += f" ({row.note})." if row and row.note else "."
    others = [f"{other or 'nothing'} for {n}" for n, _, other, _ in found[1:]]
    if others:
        hint += f" Likewise {', '.join(dict.fromkeys(others))}."
    raise UserError(f"{name}{shown}", "" if shown else value, reason, hint)
