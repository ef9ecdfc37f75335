"""Hydra's errors as a `UserError` that says what to type instead."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from yaml import MarkedYAMLError

from nstbench.cli.composition.chosen_files import explain_choice
from nstbench.cli.composition.program import RUN, Program
from nstbench.cli.other_tools import find_equivalent
from nstbench.config.files import options_with
from nstbench.config.instantiate import parameters_of
from nstbench.config.messages import NO_SUCH_SETTING
from nstbench.config.schema import list_settings
from nstbench.config.validation import follow_references
from nstbench.errors import UserError, did_you_mean, nearest


def as_user_error(error: Exception, overrides: Sequence[str], program: Program = RUN) -> UserError:
    """Return the `UserError` for an error that Hydra raised on the ``overrides`` that were typed."""
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
    for cause in _causes(error):
        parent = getattr(cause, "parent_node", None)
        if "is not in struct" in str(cause):
            path = _quoted_in(text) or str(getattr(cause, "full_key", ""))
            return _no_setting(path, str(getattr(cause, "full_key", path)), parent, overrides, program)
    if "No match in the defaults list" in text or "config group" in text:
        return _no_group(_quoted_in(text), overrides, program)
    if match := re.search(r"Ambiguous value for argument '(.*)'$", text, re.MULTILINE):
        key, _, value = match[1].partition("=")
        several = "Add -m to run one after the other" if program.sweeps else "Give one"
        hint = f"{several}; if it is one string, type {_quoted(key, value)}."
        return UserError(key, value, "it has several values", hint)
    if "already at '" in text or "Multiple values for" in text:
        for key, _, value in (override.partition("=") for override in overrides):
            if key[:1] == "+" and re.search(rf"(at '|for ){re.escape(key[1:])}['.]", text):
                hint = f"Type it without the +: {key[1:]}={value}"
                return UserError(key, value, "this setting exists already", hint)
    if match := re.search(r"merging override \+*(schedule\.stages\.\d+\.\w+)=(.*)", text):
        own = "'schedule.stages=[{size: 50%}, {size: 100%}]'"
        hint = f"Stages are counted from 0. For a list of your own, type {own}."
        return UserError(match[1], match[2], "the schedule has no such stage", hint)
    # Hydra wraps some of OmegaConf's errors in one of its own without a message.
    text = next((str(cause) for cause in _causes(error) if str(cause).strip()), "")
    return _other_error(text, overrides, program)


def _not_in_grammar(override: str, program: Program) -> UserError:
    key, equals, value = override.partition("=")
    if not equals:
        close = nearest(key, [*list_settings(program.schema), *program.groups()])
        hint = f"Type {close[0]}=…" if close else program.help
        return UserError(key, "", "this is not of the form setting=value", hint)
    if not re.fullmatch(r"[~+]*[\w$-]+([./@:][\w$-]+)*", key):
        return UserError(key, value, "this is not the name of a setting", program.help)
    reason = "this cannot be read: a bracket or quote is not closed, or text with one of ,=[]{}() not quoted"
    return UserError(key, value, reason, f"If it is a string, type {_quoted(key, value)}.")


def _quoted(key: str, value: str) -> str:
    """Return what to type in a shell so that ``value`` is taken as one text."""
    return shlex.quote(f"{key}={QuotedString(value, Quote.double).with_quotes()}")


def _no_option(path: str, options: Sequence[str] | None, program: Program) -> UserError:
    group, _, option = path.rpartition("/")
    known = [*(options or ())]
    if group and group not in program.groups():  # the option is in a folder, as in experiment=gatys2016/fig9
        above, _, folder = group.rpartition("/")
        if above in program.groups():
            group, option = above, f"{folder}/{option}"
    # Hydra lists no options that lie in folders.
    known += [each for each in program.groups().get(group, ()) if each not in known]
    if not group:
        hint = f"The usual one is {program.config}."
        return UserError("--config-name", path, "there is no such file", hint)
    if not known:
        return UserError(group, option, "there is no such group of options", _near_group(group, program))
    inside = [each for each in known if each.startswith(f"{option}/")]
    shown = f"Options to choose from: {', '.join(inside)}."
    hint = shown if inside else did_you_mean(option, known, what="options")
    return UserError(group, option, "there is no such option", hint)


def _no_group(path: str, overrides: Sequence[str], program: Program) -> UserError:
    value = _typed_value(path, overrides)
    having = [group for group, options in program.groups().items() if value in options]
    hint = f"Did you mean {having[0]}={value}?" if having else _near_group(path, program)
    return UserError(path, value, "there is no such group of options", hint)


def _near_group(name: str, program: Program) -> str:
    return did_you_mean(name, program.groups(), what="groups")


def _no_setting(
    path: str, missing: str, parent: object, overrides: Sequence[str], program: Program
) -> UserError:
    """Return the error for a setting that does not exist.

    ``missing`` is the first part of ``path`` that does not exist, in ``parent``.
    """
    if "/" in path:
        return _no_group(path, overrides, program)
    value = _typed_value(path, overrides)
    above, _, key = missing.rpartition(".")
    known = [str(k) for k in parent] if isinstance(parent, DictConfig) else []
    group = above.replace(".", "/")
    if key in program.groups().get(group, ()):
        hint = f"Select the option that defines it: {group}={key}."
    elif isinstance(parent, DictConfig) and not known:  # a reference, which OmegaConf has emptied
        hint = _of_reference("judge" if re.fullmatch(r"metrics/\w+/encoder", group) else group, key, value)
    elif isinstance(parent, DictConfig) and "_target_" in known:
        arguments = [a for a in parameters_of(str(parent["_target_"])) or [] if a != "params"]
        if key in arguments:
            hint = f"It is an argument that is not in the option's file: add it with +{path}={value}."
        else:
            own = [k for k in dict.fromkeys([*known, *arguments]) if k[0] != "_"]
            hint = did_you_mean(key, own, what="its settings")
            if others := options_with(group, key):
                hint = f"It is a setting of another option: type {group}={others[0]} {path}={value}."
    elif above:
        hint = did_you_mean(key, known, what="its settings")
    else:
        hint = _near_setting(path, program)
    return UserError(path, value, NO_SUCH_SETTING, hint or program.help)


def _of_reference(group: str, key: str, value: str) -> str:
    """Return what to type for a setting of an option of the group that is referred to; "" if it has none."""
    others = options_with(group, key)
    return f"It is a setting of an option: type {group}={others[0]} {group}.{key}={value}." if others else ""


def _near_setting(name: str, program: Program) -> str:
    names = [*list_settings(program.schema), *program.groups(), *program.shorthands]
    last = {known: known.rpartition(".")[2] for known in names}
    parts = nearest(name.rpartition(".")[2], set(last.values()))
    close = nearest(name, names) or [known for known in names if last[known] in parts]
    return f"Did you mean {' or '.join(close[:3])}?" if close else ""


def _other_error(text: str, overrides: Sequence[str], program: Program) -> UserError:
    """Return any other error: the first line of Hydra's message, with the override that it names."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "it cannot be composed")
    parts = [override.partition("=") for override in overrides]
    if "Config group override must be" in first:  # encoder=5, a number: the message does not name the group
        known = program.groups()
        for group, _, value in parts:
            if group in known and value not in known[group]:
                hint = did_you_mean(value, known[group], what="options")
                return UserError(group, value, "there is no such option", hint)
    for key, equals, value in parts:
        if f"{key}{equals}{value}" in text or f"'{key.lstrip('+~')}'" in text:
            return UserError(key, value, first, program.help)
    return UserError("configuration", "", first, program.help)


def _typed_value(path: str, overrides: Sequence[str]) -> str:
    """Return the value that was typed for a setting; "" if it was not typed."""
    for override in overrides:
        key, _, value = override.partition("=")
        if key.lstrip("+~") == path:
            return value
    return ""


def _quoted_in(text: str) -> str:
    match = re.search(r"'([^']*)'", text.partition("Could not override")[2] or text)
    return match[1] if match else ""


def _causes(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def where_typed(error: UserError, composed: DictConfig, overrides: Sequence[str] = ()) -> UserError:
    """Return ``error`` with the setting to type, if the setting that it names is a reference.

    ``loss.style.gram.layers`` is ``${layers.style}``, so the user has to change ``layers.style``. A setting
    that a recipe names and the user did not type is explained by the recipe.

    Args:
        error: Error about the composed configuration.
        composed: Composed configuration.
        overrides: Overrides that were typed.
    """
    of_run = "pictures" in composed and error.reason == NO_SUCH_SETTING
    equivalent = find_equivalent(error.setting) if of_run else None
    hint = f"Type {equivalent.typed}." if equivalent and equivalent.typed else error.hint
    named = UserError(follow_references(composed, error.setting), error.value, error.reason, hint)
    return explain_choice(named, composed, overrides) or named
