"""Checks of a sweep before it writes anything: for mistakes that concern all of its runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig

from nstbench.cli.composition.compose import with_hydra
from nstbench.cli.composition.errors import as_user_error, where_typed
from nstbench.cli.composition.jobs import jobs_of
from nstbench.config.files import groups
from nstbench.config.schema import list_settings
from nstbench.config.validation import validate
from nstbench.errors import UserError, did_you_mean


def check_sweep(flags: Sequence[str], overrides: Sequence[str]) -> None:
    """Check that a run of a sweep can start, and that all its options exist.

    Runs are composed and checked with one swept setting changed at a time, not in all combinations:
    all options are tried, and values of other settings until a run is valid.

    Raises:
        UserError: No run of the sweep can start, or one cannot be composed.
    """
    once = [flag for flag in flags if flag not in {"-m", "--multirun"}]
    mistakes: list[UserError] = []
    good = False
    typed: list[str] = []
    elsewhere = "hydra/launcher=slurm" in overrides

    def check(composed: DictConfig) -> None:
        nonlocal good
        if good:
            return  # the configuration was composed, so the option exists
        try:
            config = validate(composed)
            from nstbench.runs.preparation import prepare  # loads torch

            prepare(config)
            good = True
        except UserError as mistake:
            if elsewhere and mistake.setting.startswith("trainer."):
                good = True  # the machine that computes may have the device, and checks it again
            mistakes.append(where_typed(mistake, composed, typed))

    for typed, of_option in _variants(flags, overrides):
        if of_option or not good:
            with_hydra(check, once, [*typed, "hydra.mode=RUN"])  # an experiment may set MULTIRUN
    if not good:
        raise mistakes[0]


def check_experiment(flags: Sequence[str], overrides: Sequence[str]) -> None:
    """Check that a run can start of an experiment whose file makes it a sweep.

    Raises:
        UserError: No run of the sweep can start.
    """
    if not any(override.startswith("experiment=") for override in overrides):
        return
    jobs = jobs_of(flags, overrides)
    mistakes: list[UserError] = []
    for own, composed in jobs if jobs and len(jobs) > 1 else ():  # a single run reports its mistakes itself
        try:
            config = validate(composed)
            from nstbench.runs.preparation import prepare  # loads torch

            prepare(config)
            return
        except UserError as mistake:
            mistakes.append(where_typed(mistake, composed, own))
    if mistakes:
        raise mistakes[0]


def _variants(flags: Sequence[str], overrides: Sequence[str]) -> Iterator[tuple[list[str], bool]]:
    """Yield the first run's overrides, then those with another option, then with another value."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise as_user_error(error, overrides) from error
    known = _list_groups(flags)
    _check_swept(parsed, known)
    # Only Hydra knows the values of a glob or an interval.
    parsed = [o for o in parsed if not isinstance(o.value(), Glob | IntervalSweep)]
    first = [next(_list_values(o), "") for o in parsed]
    for override, value in zip(parsed, first, strict=True):
        if not value:
            typed = str(override.input_line).partition("=")[2]
            raise UserError(override.get_key_element(), typed, "it has no values", "Give at least one.")
    yield first, True
    for options in (True, False):
        for i, override in enumerate(parsed):
            if override.is_sweep_override() and (override.key_or_group in known) is options:
                for value in islice(_list_values(override), 1, None):
                    yield [*first[:i], value, *first[i + 1 :]], options


def _check_swept(overrides: Sequence[Override], known: Mapping[str, list[str]]) -> None:
    """Refuse a sweep over settings that name the sweep, or over values that only a search can choose."""
    searched = any(o.key_or_group == "hydra/sweeper" for o in overrides)
    for override in overrides:
        name, typed = override.get_key_element(), str(override.input_line).partition("=")[2]
        if override.is_sweep_override() and name in {"study", "output"}:
            hint = "Give a command for each."
            raise UserError(name, typed, "the runs of one command belong to one study in one folder", hint)
        glob: object = override.value()
        if isinstance(glob, Glob):
            _check_glob(glob, override, known)
        if name == "hydra.sweeper.max_batch_size" and override.value() in (0, False):
            raise UserError(name, typed, "a batch has at least one run", "Leave it out, or type 1000.")
        if isinstance(override.value(), IntervalSweep) and not searched:
            hint = "Add hydra/sweeper=optuna, which chooses from intervals, or list values: 1,10,100."
            raise UserError(name, typed, "an interval has no values to run one after the other", hint)


def _check_glob(glob: Glob, override: Override, known: Mapping[str, list[str]]) -> None:
    """Refuse a glob for a setting that is not a group, or one that matches none of the group's options."""
    name, typed = override.get_key_element(), str(override.input_line).partition("=")[2]
    if override.key_or_group not in known:
        reason = "glob stands for options of a group, or for picture files"
        hint = f"List the values: {name}=…,…; as in loss/style=glob(*) or 'style=glob(paintings/*.jpg)'."
        if override.key_or_group not in list_settings():
            hint = did_you_mean(override.key_or_group, [*known, *list_settings()], what="groups")
        raise UserError(name, typed, reason, hint)
    if not glob.filter(known[override.key_or_group]):
        shown = ", ".join(known[override.key_or_group])
        raise UserError(name, typed, "this glob matches no option", f"Options to choose from: {shown}.")


def _list_groups(flags: Sequence[str]) -> dict[str, list[str]]:
    """Return the options of all groups, with those in the folder of ``--config-dir``."""
    known = {group: [*options] for group, options in groups().items()}
    own = next((f.partition("=")[2] for f in flags if f.startswith("--config-dir=")), "")
    for i, flag in enumerate(flags[:-1]):
        own = flags[i + 1] if flag in {"--config-dir", "-cd"} else own
    for group, options in groups(Path(own)).items() if own else ():
        known.setdefault(group, []).extend(options)
    return known


def _list_values(override: Override) -> Iterator[str]:
    assert override.input_line is not None
    if not override.is_sweep_override():
        yield override.input_line
        return
    for value in override.sweep_string_iterator():
        yield f"{override.get_key_element()}={value}"
