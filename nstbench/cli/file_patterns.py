"""Pictures of a folder as the values of a sweep: ``style=glob(paintings/*.jpg)``."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from nstbench.cli.composition.overrides import SHORTHANDS
from nstbench.cli.values import file_exists, is_list, join_file_names, quote, split
from nstbench.errors import UserError
from nstbench.runtime.similar_paths import did_you_mean_path

_PICTURES = frozenset({"pictures.content", "pictures.style", "canvas.start"})
_BUILT_IN = ("sample:", "procedural:")
# Of a pattern such as paintings/*, files with other suffixes are left out: folders hold notes and thumbnails.
_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".heic", ".pfm", ".ppm"}
)
_KEYWORD = re.compile(r"\s*(include|exclude)\s*=")
_GLOB = re.compile(r"glob\s?\((.*)\)\s*", re.DOTALL)


def expand_patterns(arguments: Sequence[str], *, sweep: bool) -> tuple[list[str], list[str]]:
    """Return overrides with the file patterns of picture settings replaced by the files that they match.

    A pattern is ``glob(paintings/*.jpg)``, with ``exclude=`` and lists of patterns as in Hydra's ``glob``, or
    a path with ``*`` or ``?`` in it that is not the name of a file. ``**`` matches folders of any depth. The
    files are sorted by name, and quoted so that no character in a name means anything to Hydra. Patterns
    such as ``sample:*`` match built-in pictures.

    Args:
        arguments: Overrides as typed.
        sweep: Whether settings may have several values (``-m``).

    Returns:
        The overrides, and for each setting with patterns, how many values it has and from where.

    Raises:
        UserError: A pattern matches nothing, or is given where a setting needs one value.
    """
    expanded, notes = [], []
    for argument in arguments:
        key, _, value = argument.partition("=")
        setting = SHORTHANDS.get(key.lstrip("+"), key.lstrip("+"))
        if setting not in _PICTURES or file_exists(value) or not (parts := split(value)):
            expanded.append(argument)
            continue
        parts = join_file_names(parts)
        patterns = [part for part in parts if _is_pattern(part)]
        if patterns and not sweep:
            _refuse_without_sweep(setting, value, patterns)
        values = [file for part in parts for file in (_values(setting, part) if part in patterns else [part])]
        if patterns:
            number = f"{len(values)} value{'s' * (len(values) != 1)}"
            shown = ", ".join(_describe(setting, part) for part in patterns)
            notes.append(f"{_shorthand(setting)} has {number} from {shown}")
            argument = f"{key}={','.join(values)}"
        expanded.append(argument)
    return expanded, notes


def _is_pattern(part: str) -> bool:
    if _GLOB.fullmatch(part):
        return True
    is_text = part[:1] not in {"'", '"', "{"} and not is_list(part) and "${" not in part
    plain = is_text and not re.match(r"(choice|sort|shuffle|tag|str)\s?\(", part)
    return plain and bool(set("*?") & set(part)) and "://" not in part and not file_exists(part)


def _refuse_without_sweep(setting: str, value: str, patterns: Sequence[str]) -> None:
    name = _shorthand(setting)
    inside = patterns[0] if _GLOB.fullmatch(patterns[0]) else f"glob({patterns[0]})"
    hint = f"Type -m '{name}={inside}' for a run with each of the pictures that it matches."
    raise UserError(setting, value, "a pattern of file names stands for several values", hint)


def _describe(setting: str, part: str) -> str:
    included, excluded = _arguments(setting, part)
    return ", ".join(included) + (f" without {', '.join(excluded)}" if excluded else "")


def _shorthand(setting: str) -> str:
    return next((short for short, name in SHORTHANDS.items() if name == setting), setting)


def _values(setting: str, part: str) -> list[str]:
    """Return the files that a pattern matches, sorted, each quoted for Hydra."""
    included, excluded = _arguments(setting, part)
    found = {file for pattern in included for file in _matches(setting, part, pattern)}
    kept = [file for file in found if not any(_is_excluded(file, pattern) for pattern in excluded)]
    if not kept:
        if found:
            hint = "Remove exclude=, or narrow it."
            raise UserError(setting, part, "exclude removes all pictures", hint)
        raise UserError(setting, part, "no picture matches this pattern", _hint(setting, included[0]))
    return [quote(file) for file in sorted(kept)]


def _arguments(setting: str, part: str) -> tuple[list[str], list[str]]:
    """Return the patterns to include and to exclude of ``glob(…)``, or of a bare pattern."""
    match = _GLOB.fullmatch(part)
    if not match:
        return [part], []
    included: list[str] = []
    excluded: list[str] = []
    for argument in split(match[1], _KEYWORD) or []:
        keyword = _KEYWORD.match(argument)
        given = _patterns_in(argument[keyword.end() :] if keyword else argument)
        (excluded if keyword and keyword[1] == "exclude" else included).extend(given)
    if not included:
        hint = f"Type {_shorthand(setting)}=glob(paintings/*.jpg), with the folder of your pictures."
        raise UserError(setting, part, "it contains no pattern", hint)
    return included, excluded


def _patterns_in(argument: str) -> list[str]:
    argument = argument.strip()
    if is_list(argument):
        return [each for part in split(argument[1:-1]) or [] for each in _patterns_in(part)]
    if len(argument) > 1 and argument[0] == argument[-1] and argument[0] in "'\"":
        return [argument[1:-1]]
    return [argument] if argument else []


def _matches(setting: str, part: str, pattern: str) -> list[str]:
    if pattern.startswith(_BUILT_IN):
        from nstbench.pictures.source import names

        return [name for name in names() if fnmatchcase(name, pattern)]
    path = os.path.expanduser(pattern)
    if path.startswith("~") and not file_exists(path.partition("/")[0]):
        raise UserError(
            setting,
            part,
            f"there is no user {path[1:].partition('/')[0]} on this machine",
            "Type the whole path.",
        )
    named = Path(path).suffix.lower()
    files = (file for file in glob.iglob(path, recursive=True) if Path(file).is_file())
    return [f for f in files if (s := Path(f).suffix.lower()) in _SUFFIXES or (s and s == named)]


def _is_excluded(file: str, pattern: str) -> bool:
    """Return whether an ``exclude`` pattern matches a file's whole path, or its name alone."""
    return fnmatchcase(file, os.path.expanduser(pattern)) or fnmatchcase(Path(file).name, pattern)


def _hint(setting: str, pattern: str) -> str:
    """Return a hint about a pattern that matches nothing: which pictures there are instead."""
    if pattern.startswith(_BUILT_IN):
        return "`nstbench images` lists the built-in pictures."
    path = Path(os.path.expanduser(pattern))
    folder = path.parent
    if set("*?[") & set(str(folder)):
        return "A pattern such as paintings/**/*.jpg matches folders of any depth."
    if not folder.is_dir():
        return did_you_mean_path(folder, folder=True) or f"The folder {folder} does not exist."
    suffixes = Counter(
        file.suffix for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES and file.is_file()
    )
    if not suffixes:
        return f"There are no pictures in {'this folder' if folder == Path() else f'the folder {folder}'}."
    (most, number), *_ = suffixes.most_common()
    files = f"{number} files that end" if number > 1 else "a file that ends"
    typed = f"{_shorthand(setting)}=glob({folder / f'*{most}'})"
    return f"There {'are' if number > 1 else 'is'} {files} in {most} there: type '{typed}'."
