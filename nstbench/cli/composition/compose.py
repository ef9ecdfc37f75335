"""Composing a configuration with Hydra, and saying in one line why that did not work."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from yaml import MarkedYAMLError

from nstbench.cli.composition.overrides import SHORTHANDS
from nstbench.cli.hydra_settings import check_hydra_settings
from nstbench.cli.other_tools import look_up
from nstbench.config.files import conf_dir
from nstbench.config.files import groups as all_groups
from nstbench.config.instantiate import parameters_of
from nstbench.config.messages import NO_SUCH_SETTING
from nstbench.config.schema import Config, settings
from nstbench.config.validation import referred
from nstbench.config.yaml_files import register_checked_files
from nstbench.errors import FULL, StorageError, UserError, did_you_mean, nearest


@dataclass(frozen=True)
class Program:
    """A command whose settings Hydra composes.

    Attributes:
        command: as it is typed.
        config: the file at the top of conf/ that it starts from, without its suffix.
        schema: of the composed configuration, a dataclass.
        chosen: the groups that the file chooses from; None: all there are.
        sweeps: whether settings may have several values.
        shorthands: names that may be typed for settings, and those settings.
    """

    command: str
    config: str
    schema: Any
    chosen: frozenset[str] | None = None
    sweeps: bool = True
    shorthands: Mapping[str, str] = field(default_factory=dict)

    @property
    def help(self) -> str:
        """A hint for whom nothing better can be told."""
        return f"`{self.command} --help` lists settings and groups."

    def groups(self) -> dict[str, list[str]]:
        """Return the options of the groups that can be chosen from."""
        return {g: o for g, o in all_groups().items() if self.chosen is None or g in self.chosen}

    def names(self) -> frozenset[str]:
        """Return the names that may be typed before ``=``: settings, groups and shorthands."""
        return frozenset([*settings(self.schema), *self.groups(), *self.shorthands])


RUN = Program("nstbench run", "config", Config, shorthands=SHORTHANDS)


def with_hydra(
    task: Callable[[DictConfig], object],
    flags: Sequence[str],
    overrides: Sequence[str],
    program: Program = RUN,
) -> None:
    """Compose what was typed and call ``task`` with it, once or for every run of a sweep.

    Args:
        task: must not raise: Hydra would print lines of its own.
        flags: such as ``-m``.
        overrides: in Hydra's grammar.
        program: the command that they were typed after.

    Raises:
        UserError: the configuration cannot be composed, or a sweep's folder cannot be written.
        StorageError: there is no room left in it.
    """
    # Hydra prints errors its own way, without suggestions, unless it is told to raise them.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Results have folders of their own, and paths are relative to where the command is typed: a change of
    # folder (hydra.job.chdir) would only break them. Of two overrides of a setting, the last holds.
    stay = "hydra.job.chdir=false"
    before, sys.argv = sys.argv, [program.command, *flags, *overrides, stay]
    try:
        register_checked_files()
        check_hydra_settings(program.config, str(conf_dir()), flags, overrides)
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=program.config)(task)()
    except (UserError, StorageError):
        raise
    except OSError as error:
        if isinstance(error, HydraException):
            raise as_user_error(error, overrides, program) from error
        if error.errno in FULL:
            # Hydra's own files: what writing reports names no file.
            typed = [each.partition("=")[2] for each in overrides if each.startswith("output=")]
            raise StorageError(Path(error.filename or (typed or ["outputs"])[-1]), error) from error
        hint = "Give a folder you may write to: output=…"
        reason = f"it cannot be written ({error.strerror})"
        raise UserError("output", error.filename or "", reason, hint) from error
    except Exception as error:  # what is typed makes Hydra raise anything; the task raises nothing
        raise as_user_error(error, overrides, program) from error
    finally:
        sys.argv = before


def as_user_error(error: Exception, overrides: Sequence[str], program: Program = RUN) -> UserError:
    """Return the `UserError` that says what ``error`` means for the user, who typed ``overrides``."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        return _not_in_grammar(error.override, program)
    if isinstance(error, MissingConfigException):
        return _no_option(error.missing_cfg_file or "", error.options, program)
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark
        where = f"{mark.name}, line {mark.line + 1}" if mark else "--config-dir"
        return UserError(where, "", f"this is not YAML: {error.problem}", "Correct that line.")
    if isinstance(error, UnicodeDecodeError):
        return UserError("--config-dir", "", "a file there is not UTF-8", "Save it as UTF-8.")
    for cause in _chain(error):
        parent = getattr(cause, "parent_node", None)
        if "is not in struct" in str(cause):
            path = _quoted_in(text) or str(getattr(cause, "full_key", ""))
            return _no_setting(path, str(getattr(cause, "full_key", path)), parent, overrides, program)
    if "No match in the defaults list" in text or "config group" in text:
        return _no_group(_quoted_in(text), overrides, program)
    if match := re.search(r"Ambiguous value for argument '(.*)'$", text, re.MULTILINE):
        key, _, value = match[1].partition("=")
        several = "Add -m to run one after the other" if program.sweeps else "Give one"
        hint = f"{several}; if it is one text, type {_quoted(key, value)}."
        return UserError(key, value, "it has several values", hint)
    if "already at '" in text or "Multiple values for" in text:
        for key, _, value in (override.partition("=") for override in overrides):
            if key[:1] == "+" and re.search(rf"(at '|for ){re.escape(key[1:])}['.]", text):
                hint = f"Type it without the +: {key[1:]}={value}"
                return UserError(key, value, "it is there already", hint)
    # Hydra wraps some of OmegaConf's errors in one of its own without a text.
    text = next((str(cause) for cause in _chain(error) if str(cause).strip()), "")
    return _other(text, overrides, program)


def where_typed(error: UserError, composed: DictConfig) -> UserError:
    """Return ``error`` about the setting that people type, where the one it names only refers to it.

    ``schedule.stages.0.size`` is ``${size}``, and that is what the user can change.
    """
    of_run = "pictures" in composed and error.reason == NO_SUCH_SETTING
    equivalent = look_up(error.setting) if of_run else None
    hint = f"Type {equivalent.typed}." if equivalent and equivalent.typed else error.hint
    return UserError(referred(composed, error.setting), error.value, error.reason, hint)


def _not_in_grammar(override: str, program: Program) -> UserError:
    key, equals, value = override.partition("=")
    if not equals:
        close = nearest(key, [*settings(program.schema), *program.groups()])
        hint = f"Type {close[0]}=…" if close else program.help
        return UserError(key, "", "this is not of the form setting=value", hint)
    if not re.fullmatch(r"[~+]*[\w$-]+([./@:][\w$-]+)*", key):
        return UserError(key, value, "this is not the name of a setting", program.help)
    reason = "this cannot be read: a bracket or quote is not closed, or text with one of ,=[]{}() not quoted"
    return UserError(key, value, reason, f"As text it is typed {_quoted(key, value)}.")


def _quoted(key: str, value: str) -> str:
    """Return what to type in a shell so that ``value`` is taken as one text."""
    return shlex.quote(f"{key}={QuotedString(value, Quote.double).with_quotes()}")


def _no_option(path: str, options: Sequence[str] | None, program: Program) -> UserError:
    group, _, option = path.rpartition("/")
    known: Sequence[str] | None = options or program.groups().get(group)
    if group and group not in program.groups():  # the option is one in a folder: experiment=gatys2016/fig9
        above, _, folder = group.rpartition("/")
        if above in program.groups():
            group, option, known = above, f"{folder}/{option}", program.groups()[above]
    if not group:
        hint = f"The one here is called {program.config}."
        return UserError("--config-name", path, "there is no such file", hint)
    if not known:
        return UserError(group, option, "there is no such group of options", _near_group(group, program))
    return UserError(group, option, "there is no such option", did_you_mean(option, known, what="options"))


def _no_group(path: str, overrides: Sequence[str], program: Program) -> UserError:
    value = _typed(path, overrides)
    having = [group for group, options in program.groups().items() if value in options]
    hint = f"Did you mean {having[0]}={value}?" if having else _near_group(path, program)
    return UserError(path, value, "there is no such group of options", hint)


def _near_group(name: str, program: Program) -> str:
    return did_you_mean(name, program.groups(), what="groups")


def _no_setting(
    path: str, missing: str, parent: object, overrides: Sequence[str], program: Program
) -> UserError:
    """``missing`` is the first part of ``path`` that does not exist, in ``parent``."""
    if "/" in path:
        return _no_group(path, overrides, program)
    value = _typed(path, overrides)
    above, _, key = missing.rpartition(".")
    known = [str(k) for k in parent] if isinstance(parent, DictConfig) else []
    group = above.replace(".", "/")
    if key in program.groups().get(group, ()):
        hint = f"Select the option that defines it: {group}={key}."
    elif isinstance(parent, DictConfig) and "_target_" in known:
        arguments = [a for a in parameters_of(str(parent["_target_"])) or [] if a != "params"]
        if key in arguments:
            hint = f"It is an argument that the file leaves out: add it with +{path}={value}."
        else:
            own = [k for k in dict.fromkeys([*known, *arguments]) if k[0] != "_"]
            hint = did_you_mean(key, own, what="its settings")
    elif above:
        hint = did_you_mean(key, known, what="its settings")
    else:
        hint = _near_setting(path, program)
    return UserError(path, value, NO_SUCH_SETTING, hint or program.help)


def _near_setting(name: str, program: Program) -> str:
    names = [*settings(program.schema), *program.groups(), *program.shorthands]
    last = {known: known.rpartition(".")[2] for known in names}
    parts = nearest(name.rpartition(".")[2], set(last.values()))
    close = nearest(name, names) or [known for known in names if last[known] in parts]
    return f"Did you mean {' or '.join(close[:3])}?" if close else ""


def _other(text: str, overrides: Sequence[str], program: Program) -> UserError:
    """What is not worth a sentence of ours: Hydra's first line, about the override it names."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "it cannot be composed")
    parts = [override.partition("=") for override in overrides]
    if "Config group override must be" in first:  # encoder=5, which is a number: of which group is not said
        known = program.groups()
        for group, _, value in parts:
            if group in known and value not in known[group]:
                hint = did_you_mean(value, known[group], what="options")
                return UserError(group, value, "there is no such option", hint)
    for key, equals, value in parts:
        if f"{key}{equals}{value}" in text or f"'{key.lstrip('+~')}'" in text:
            return UserError(key, value, first, program.help)
    return UserError("configuration", "", first, program.help)


def _typed(path: str, overrides: Sequence[str]) -> str:
    """Return the value typed for a setting, "" if it was not typed."""
    for override in overrides:
        key, _, value = override.partition("=")
        if key.lstrip("+~") == path:
            return value
    return ""


def _quoted_in(text: str) -> str:
    match = re.search(r"'([^']*)'", text.partition("Could not override")[2] or text)
    return match[1] if match else ""


def _chain(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
