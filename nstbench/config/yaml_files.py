"""Reading YAML of configurations in bounded time and memory.

A file of some lines can stand for billions of values by aliases of aliases (``*a``), or nest more deeply than
Python can follow. Files are therefore checked as a stream of events before OmegaConf builds anything of them.
"""

from __future__ import annotations

import copy
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.plugins.config_source import ConfigResult
from yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent, ScalarEvent

from nstbench.config.plain_values import DEEPEST, LONGEST, MOST_VALUES
from nstbench.errors import UserError

LARGEST = 262_144
"""Bytes of a file; the largest of conf/ has 3,000."""

# The YAML types that a setting can have; !!binary, !!set, !!timestamp and Python's own are refused.
_PLAIN = ("str", "int", "float", "bool", "null", "map", "seq", "merge")
_TYPES = {None, "!", *(f"tag:yaml.org,2002:{name}" for name in _PLAIN)}
_FASTEST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check_yaml(file: Path) -> None:
    """Check that a file of YAML can be read in bounded time and memory, and holds plain values.

    Errors of syntax are not raised here: OmegaConf reports them when it reads the file.

    Raises:
        UserError: The file is not a regular one, is too large or nested too deeply, stands for too many
            values, or has a tag such as ``!!binary``.
    """
    try:
        regular = stat.S_ISREG(os.stat(file).st_mode)
        if not regular:
            raise UserError(str(file), "", "it is not a regular file", "Give a file of YAML.")
        with open(file, "rb") as stream:
            content = stream.read(LARGEST + 1)
    except OSError as error:
        raise UserError(
            str(file), "", f"it cannot be read ({error.strerror})", "Make it readable."
        ) from error
    if len(content) > LARGEST:
        hint = "Remove what no setting needs."
        raise UserError(str(file), "", f"it has more than {LARGEST:,} bytes", hint)
    text = content.decode("utf-8")
    try:
        _check_events(file, yaml.parse(text, Loader=_FASTEST))
    except yaml.YAMLError:
        # The two parsers differ in what they refuse, and OmegaConf uses this one.
        try:
            _check_events(file, yaml.parse(text, Loader=yaml.SafeLoader))
        except yaml.MarkedYAMLError:
            return
        except yaml.YAMLError as error:
            reason = f"this is not YAML: {' '.join(str(error).split())}"
            raise UserError(str(file), "", reason, "Remove that character.") from error


def _check_events(file: Path, events: Iterator[Any]) -> None:
    """Count values, including those that aliases stand for, without building any."""
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and count before it
    count = 0
    for event in events:
        where = f"{file}, line {event.start_mark.line + 1}"
        if isinstance(event, AliasEvent):
            if event.anchor not in sizes:
                reason = f"*{event.anchor} refers to nothing before it"
                raise UserError(where, "", reason, f"Mark what it means with &{event.anchor}.")
            count += sizes[event.anchor]
        elif isinstance(event, NodeEvent):
            count += 1
            _check_tag(where, getattr(event, "tag", None))
            if isinstance(event, ScalarEvent) and len(event.value) > LONGEST:
                reason = f"a string of {len(event.value):,} characters is too long"
                raise UserError(where, "", reason, f"Give one of at most {LONGEST:,}.")
        if count > MOST_VALUES:
            reason = f"the file stands for more than {MOST_VALUES:,} values"
            raise UserError(where, "", reason, "Use fewer aliases (*name), or fewer values.")
        if isinstance(event, CollectionStartEvent):
            open_nodes.append((event.anchor, count - 1))
            if len(open_nodes) > DEEPEST:
                reason = f"more than {DEEPEST} mappings or lists inside each other"
                raise UserError(where, "", reason, "No setting is nested that deeply.")
        elif isinstance(event, CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = count - before
        elif isinstance(event, ScalarEvent) and event.anchor:
            sizes[event.anchor] = 1


def _check_tag(where: str, tag: str | None) -> None:
    if tag not in _TYPES:
        shown = str(tag).replace("tag:yaml.org,2002:", "!!")
        hint = "Settings are strings, numbers, true, false, null, lists and mappings."
        raise UserError(where, "", f"no setting has values of the type {shown}", hint)


class CheckedFiles(FileConfigSource):
    """Hydra's source of configuration files, with a check of each file before it is loaded.

    Args:
        provider: Name that Hydra shows for the folder.
        path: Folder of the files.
        parsed: Files that were read before.
    """

    def __init__(self, provider: str, path: str, parsed: ParsedFiles) -> None:
        super().__init__(provider, path)
        self.parsed = parsed

    def load_config(self, config_path: str) -> ConfigResult:
        """Return the configuration of a file.

        Raises:
            UserError: See `check_yaml`.
        """
        file = Path(self.path, self._normalize_file_name(config_path)).resolve()
        found = self.parsed.find(file)
        if found is None:
            read_of = _version(file)
            if file.exists():
                check_yaml(file)
            found = super().load_config(config_path)
            self.parsed.keep(file, read_of, found)
        # A file may be reached from folders of several names.
        found.provider, found.path = self.provider, f"{self.scheme()}://{self.path}"
        return found


class ParsedFiles:
    """Parsed YAML files, kept until they change."""

    def __init__(self) -> None:
        self._kept: dict[Path, tuple[_Version, ConfigResult]] = {}

    def find(self, file: Path) -> ConfigResult | None:
        """Return a copy of a parsed file, as Hydra changes it; None if the file must be read."""
        read_of, found = self._kept.get(file, (None, None))
        if found is None or read_of != _version(file):
            return None
        return copy.deepcopy(found)

    def keep(self, file: Path, version: _Version | None, found: ConfigResult) -> None:
        """Keep a parsed file that was of this version when it was read."""
        if version is not None:
            self._kept[file] = version, copy.deepcopy(found)

    def __deepcopy__(self, _: object) -> ParsedFiles:
        """Return itself: Hydra copies its sources for each composition."""
        return self

    def __reduce__(self) -> tuple[type[ParsedFiles], tuple[()]]:
        """Pickle it without the files: workers read them themselves."""
        return ParsedFiles, ()


class FileSources:
    """Function by which Hydra reads a folder: it makes `CheckedFiles`, which share what is read."""

    # In each worker of a sweep Hydra registers its own class again. A registered class of the same name is
    # kept; one of another name is an error.
    __name__ = FileConfigSource.__name__

    def __init__(self) -> None:
        self.parsed = ParsedFiles()

    def __call__(self, provider: str, path: str) -> CheckedFiles:
        """Return the source of a folder."""
        return CheckedFiles(provider, path, self.parsed)


def register_checked_files() -> None:
    """Make Hydra read its files through `CheckedFiles`; its registry owns what they have read."""
    types: dict[str, Any] = SourcesRegistry.instance().types
    if not isinstance(types.get(FileConfigSource.scheme()), FileSources):
        types[FileConfigSource.scheme()] = FileSources()


_Version = tuple[int, int, int]


def _version(file: Path) -> _Version | None:
    """Return what changes when a file is written; None where there is no such file."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
