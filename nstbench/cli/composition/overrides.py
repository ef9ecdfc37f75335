"""Conversion of a command's arguments to Hydra's flags and overrides."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.errors import HydraException

from nstbench.cli.values import convert, file_exists, quote
from nstbench.config.files import groups
from nstbench.errors import UserError, did_you_mean
from nstbench.runtime.similar_paths import did_you_mean_path

# Short names of settings.
SHORTHANDS = {"content": "pictures.content", "style": "pictures.style"}

# Settings that hold text: a path may contain characters of Hydra's grammar, and a name may be a number.
_PATHS = {"pictures.content", "pictures.style", "canvas.start", "encoder.weights", "output"}
_TEXTS = _PATHS | {"study"}

# Users choose the names of regions, and the settings of a stage have defaults: with ++, Hydra adds settings
# that are not in the files.
_ADDED = re.compile(r"pictures\.guides(\..*)?|schedule\.stages\.\d+\.(size|steps|precision)")
_MASK = re.compile(r"pictures\.guides\.[^.]+\.(content|style)")


def split_arguments(
    arguments: Sequence[str], command: str = "nstbench run"
) -> tuple[list[str], list[str], argparse.Namespace]:
    """Split the arguments, in any order, into flags and overrides, and parse the flags.

    Args:
        arguments: Arguments after the command, as typed.
        command: Command as typed, for messages.

    Returns:
        The flags, the overrides and the parsed flags.

    Raises:
        UserError: An argument has a line break or is not valid text, or Hydra has no such flag.
    """
    for argument in arguments:
        line = " ".join(argument.splitlines())
        key, _, value = line.partition("=")
        if line != argument:
            raise UserError(key, value, "it contains a line break", "Type it in one line.")
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise UserError(key, value, "it is not UTF-8", "Rename the file.") from error
    parser = get_args_parser()
    if command == "nstbench run":
        parser.add_argument("--dry-run", action="store_true")
    parser.exit_on_error = parser.allow_abbrev = False
    # Only intermixed parsing takes `a=1 -m b=2`, which people type.
    try:
        parsed, unknown = parser.parse_known_intermixed_args(list(arguments))
    except argparse.ArgumentError as error:
        name = str(error.argument_name).split("/")[0]
        raise UserError(name, "", error.message, f"`{command} --help` lists the flags.") from error
    if unknown:
        flags = [option for action in parser._actions for option in action.option_strings]
        hint = did_you_mean(unknown[0], [f for f in flags if f.startswith("--")], what="flags")
        raise UserError(unknown[0], "", "there is no such flag", hint)
    if parsed.config_dir and not Path(parsed.config_dir).is_dir():
        hint = "Give a folder like conf/, with folders such as experiment/ in it."
        near = did_you_mean_path(parsed.config_dir, folder=True)
        raise UserError("--config-dir", parsed.config_dir, "there is no such folder", near or hint)
    overrides: list[str] = parsed.overrides
    flags, rest = [], list(overrides)
    for argument in arguments:
        if argument in rest:
            rest.remove(argument)
        elif argument != "--dry-run":  # nstbench's own flag; the others are Hydra's
            flags.append(argument)
    return flags, overrides, parsed


def overrides_from(arguments: Sequence[str], shorthands: Mapping[str, str] = SHORTHANDS) -> list[str]:
    """Return the arguments with shorthands spelt out and strings quoted where Hydra needs it.

    ``content=my photo (1).jpg`` becomes ``pictures.content="my photo (1).jpg"``, ``study=2024`` the
    text ``"2024"``. Commas separate the values of a sweep, unless a file of exactly that name
    exists; a ``~`` at the start of a path is the home folder. Quoted strings are left unchanged.
    A glob over a group with folders in it, such as ``experiment=glob(gatys2016/*)``, becomes the options
    that it matches: Hydra's own glob finds none in folders.
    """
    return [_override(argument, shorthands) for argument in arguments]


def _override(argument: str, shorthands: Mapping[str, str]) -> str:
    key, equals, value = argument.partition("=")
    if argument.startswith("-") or not equals:
        return argument
    name = key.lstrip("+")
    setting = shorthands.get(name, name)
    if value.startswith("glob"):
        value = ",".join(_matching_options(setting, value)) or value
    if setting in _TEXTS or _MASK.fullmatch(setting):
        if "${" in value and file_exists(value):
            hint = "Rename the file, or type the name of a link to it."
            raise UserError(setting, value, "${...} in a file's name is read as the value of a setting", hint)
        is_path = setting not in _TEXTS - _PATHS
        value = convert(value, _quoted_path if is_path else quote, is_path=is_path)
    if _ADDED.fullmatch(setting) and "~" not in key:
        return f"++{setting}={value}"
    return f"{key[: len(key) - len(name)]}{setting}={value}"


def _matching_options(group: str, glob: str) -> list[str]:
    """Return the options of a group that a glob matches; [] if no option of the group is in a folder."""
    options = groups().get(group, [])
    if not any("/" in option for option in options):
        return []
    try:
        parsed = OverridesParser.create().parse_override(f"{group}={glob}").value()
    except HydraException:
        return []  # Hydra raises the same error later
    return parsed.filter(options) if isinstance(parsed, Glob) else []


def _quoted_path(path: str) -> str:
    return quote(os.path.expanduser(path) if path.startswith("~") and not os.path.lexists(path) else path)
