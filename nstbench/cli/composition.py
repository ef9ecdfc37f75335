"""Composing a configuration with Hydra, and saying in one line why that did not work."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence

import hydra
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from yaml import MarkedYAMLError

from nstbench.config import settings
from nstbench.config_files import conf_dir, groups
from nstbench.errors import UserError, did_you_mean, nearest
from nstbench.targets import parameters_of
from nstbench.validation import referred

_HELP = "`nstbench run --help` lists settings and groups."


def with_hydra(task: Callable[[DictConfig], object], flags: Sequence[str], overrides: Sequence[str]) -> None:
    """Compose what was typed and call ``task`` with it, once or for every run of a sweep.

    Args:
        task: must not raise: Hydra would print lines of its own.
        flags: such as ``-m``.
        overrides: in Hydra's grammar.

    Raises:
        UserError: the configuration cannot be composed, or a sweep's folder cannot be written.
    """
    # Hydra prints errors its own way, without suggestions, unless it is told to raise them.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    before, sys.argv = sys.argv, ["nstbench run", *flags, *overrides]
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(task)()
    except UserError:
        raise
    except OSError as error:
        if isinstance(error, HydraException):
            raise as_user_error(error, overrides) from error
        hint = "Give a folder you may write to: output=…"
        raise UserError("output", error.filename, f"it cannot be written ({error.strerror})", hint) from error
    except Exception as error:  # what is typed makes Hydra raise anything; the task raises nothing
        raise as_user_error(error, overrides) from error
    finally:
        sys.argv = before


def as_user_error(error: Exception, overrides: Sequence[str]) -> UserError:
    """Return the `UserError` that says what ``error`` means for the user, who typed ``overrides``."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        return _not_in_grammar(error.override)
    if isinstance(error, MissingConfigException):
        return _no_option(error.missing_cfg_file or "", error.options)
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
            return _no_setting(path, str(getattr(cause, "full_key", path)), parent, overrides)
    if "No match in the defaults list" in text or "config group" in text:
        return _no_group(_quoted_in(text), overrides)
    if match := re.search(r"Ambiguous value for argument '(.*)'$", text, re.MULTILINE):
        key, _, value = match[1].partition("=")
        hint = f"Add -m to run one after the other; if it is one text, type {_quoted(key, value)}."
        return UserError(key, value, "it has several values", hint)
    if "already at '" in text or "Multiple values for" in text:
        for key, _, value in (override.partition("=") for override in overrides):
            if key[:1] == "+" and re.search(rf"(at '|for ){re.escape(key[1:])}['.]", text):
                hint = f"Type it without the +: {key[1:]}={value}"
                return UserError(key, value, "it is there already", hint)
    return _other(text, overrides)


def where_typed(error: UserError, composed: DictConfig) -> UserError:
    """Return ``error`` about the setting that people type, where the one it names only refers to it.

    ``schedule.stages.0.size`` is ``${size}``, and that is what the user can change.
    """
    return UserError(referred(composed, error.setting), error.value, error.reason, error.hint)


def _not_in_grammar(override: str) -> UserError:
    key, equals, value = override.partition("=")
    if not equals:
        close = nearest(key, [*settings(), *groups()])
        hint = f"Type {close[0]}=…" if close else _HELP
        return UserError(key, "", "this is not of the form setting=value", hint)
    if not re.fullmatch(r"[~+]*[\w$-]+([./@:][\w$-]+)*", key):
        return UserError(key, value, "this is not the name of a setting", _HELP)
    reason = "this cannot be read: a bracket or quote is not closed, or text with one of ,=[]{}() not quoted"
    return UserError(key, value, reason, f"As text it is typed {_quoted(key, value)}.")


def _quoted(key: str, value: str) -> str:
    """Return what to type in a shell so that ``value`` is taken as one text."""
    return shlex.quote(f"{key}={QuotedString(value, Quote.double).with_quotes()}")


def _no_option(path: str, options: Sequence[str] | None) -> UserError:
    group, _, option = path.rpartition("/")
    known = options or groups().get(group)
    if not group:
        return UserError("--config-name", path, "there is no such file", "The one here is called config.")
    if not known:
        return UserError(group, option, "there is no such group of options", _near_group(group))
    return UserError(group, option, "there is no such option", did_you_mean(option, known, what="options"))


def _no_group(path: str, overrides: Sequence[str]) -> UserError:
    value = _typed(path, overrides)
    having = [group for group, options in groups().items() if value in options]
    hint = f"Did you mean {having[0]}={value}?" if having else _near_group(path)
    return UserError(path, value, "there is no such group of options", hint)


def _near_group(name: str) -> str:
    return did_you_mean(name, groups(), what="groups")


def _no_setting(path: str, missing: str, parent: object, overrides: Sequence[str]) -> UserError:
    """``missing`` is the first part of ``path`` that does not exist, in ``parent``."""
    if "/" in path:
        return _no_group(path, overrides)
    value = _typed(path, overrides)
    above, _, key = missing.rpartition(".")
    known = [str(k) for k in parent] if isinstance(parent, DictConfig) else []
    group = above.replace(".", "/")
    if key in groups().get(group, ()):
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
        hint = _near_setting(path)
    return UserError(path, value, "there is no such setting", hint or _HELP)


def _near_setting(name: str) -> str:
    names = [*settings(), *groups(), "content", "style"]
    last = {known: known.rpartition(".")[2] for known in names}
    parts = nearest(name.rpartition(".")[2], set(last.values()))
    close = nearest(name, names) or [known for known in names if last[known] in parts]
    return f"Did you mean {' or '.join(close[:3])}?" if close else ""


def _other(text: str, overrides: Sequence[str]) -> UserError:
    """What is not worth a sentence of ours: Hydra's first line, about the override it names."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "it cannot be composed")
    parts = [override.partition("=") for override in overrides]
    if "Config group override must be" in first:  # encoder=5, which is a number: of which group is not said
        known = groups()
        for group, _, value in parts:
            if group in known and value not in known[group]:
                hint = did_you_mean(value, known[group], what="options")
                return UserError(group, value, "there is no such option", hint)
    for key, equals, value in parts:
        if f"{key}{equals}{value}" in text or f"'{key.lstrip('+~')}'" in text:
            return UserError(key, value, first, _HELP)
    return UserError("configuration", "", first, _HELP)


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
