"""Finding, before a sweep writes anything, the mistakes that concern all of its runs."""

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
from nstbench.config.schema import settings
from nstbench.config.validation import validate
from nstbench.errors import UserError, did_you_mean


def check_sweep(flags: Sequence[str], overrides: Sequence[str]) -> None:
    """Raise what is wrong with all runs of a sweep, or with the name of any option.

    Runs are composed and checked with one swept setting changed at a time, not in all combinations:
    all options, and of other settings as many values as it takes to find one that is good.

    Raises:
        UserError: no run of the sweep could start, or one cannot be composed.
    """
    once = [flag for flag in flags if flag not in {"-m", "--multirun"}]
    mistakes: list[UserError] = []
    good = False
    elsewhere = "hydra/launcher=slurm" in overrides

    def check(composed: DictConfig) -> None:
        nonlocal good
        if good:
            return  # that the option exists is all there was to know
        try:
            config = validate(composed)
            from nstbench.runs.preparation import prepare  # loads torch

            prepare(config)
            good = True
        except UserError as mistake:
            if elsewhere and mistake.setting.startswith("trainer."):
                good = True  # the machine that computes may have what this one lacks, and checks it again
            mistakes.append(where_typed(mistake, composed))

    for variant, of_option in _variants(flags, overrides):
        if of_option or not good:
            with_hydra(check, once, [*variant, "hydra.mode=RUN"])  # an experiment may say MULTIRUN
    if not good:
        raise mistakes[0]


def check_experiment(flags: Sequence[str], overrides: Sequence[str]) -> None:
    """Raise what is wrong with all runs of an experiment that makes itself a sweep.

    Raises:
        UserError: no run of it could start.
    """
    if not any(override.startswith("experiment=") for override in overrides):
        return
    jobs = jobs_of(flags, overrides)
    mistakes: list[UserError] = []
    for _, composed in jobs if jobs and len(jobs) > 1 else ():  # one alone says so itself
        try:
            config = validate(composed)
            from nstbench.runs.preparation import prepare  # loads torch

            prepare(config)
            return
        except UserError as mistake:
            mistakes.append(where_typed(mistake, composed))
    if mistakes:
        raise mistakes[0]


def _variants(flags: Sequence[str], overrides: Sequence[str]) -> Iterator[tuple[list[str], bool]]:
    """Yield the first run's overrides, then those with another option, then with another value."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise as_user_error(error, overrides) from error
    known = _groups(flags)
    _check_swept(parsed, known)
    # The values of a glob or an interval are known to Hydra alone.
    parsed = [o for o in parsed if not isinstance(o.value(), Glob | IntervalSweep)]
    first = [next(_values(o), "") for o in parsed]
    for override, value in zip(parsed, first, strict=True):
        if not value:
            typed = str(override.input_line).partition("=")[2]
            raise UserError(override.get_key_element(), typed, "it has no values", "Give it one at least.")
    yield first, True
    for options in (True, False):
        for i, override in enumerate(parsed):
            if override.is_sweep_override() and (override.key_or_group in known) is options:
                for value in islice(_values(override), 1, None):
                    yield [*first[:i], value, *first[i + 1 :]], options


def _check_swept(overrides: Sequence[Override], known: Mapping[str, list[str]]) -> None:
    """Refuse to sweep over what names the sweep itself, or over what only a search can choose from."""
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
            raise UserError(name, typed, "a batch has a run at least", "Leave it out, or type 1000.")
        if isinstance(override.value(), IntervalSweep) and not searched:
            hint = "Add hydra/sweeper=optuna, which chooses from intervals, or list values: 1,10,100."
            raise UserError(name, typed, "an interval has no values to run one after the other", hint)


def _check_glob(glob: Glob, override: Override, known: Mapping[str, list[str]]) -> None:
    """Refuse a glob over what is no group of options, or one that none of the options fits."""
    name, typed = override.get_key_element(), str(override.input_line).partition("=")[2]
    if override.key_or_group not in known:
        reason = "glob stands for options of a group, or for picture files"
        hint = f"List the values: {name}=…,…; as in loss/style=glob(*) or 'style=glob(paintings/*.jpg)'."
        if override.key_or_group not in settings():
            hint = did_you_mean(override.key_or_group, [*known, *settings()], what="groups")
        raise UserError(name, typed, reason, hint)
    if not glob.filter(known[override.key_or_group]):
        shown = ", ".join(known[override.key_or_group])
        raise UserError(
            name, typed, "none of the options fits this glob", f"Options to choose from: {shown}."
        )


def _groups(flags: Sequence[str]) -> dict[str, list[str]]:
    """Return the options of all groups, with those in the folder of ``--config-dir``."""
    known = {group: [*options] for group, options in groups().items()}
    own = next((f.partition("=")[2] for f in flags if f.startswith("--config-dir=")), "")
    for i, flag in enumerate(flags[:-1]):
        own = flags[i + 1] if flag in {"--config-dir", "-cd"} else own
    for group, options in groups(Path(own)).items() if own else ():
        known.setdefault(group, []).extend(options)
    return known


def _values(override: Override) -> Iterator[str]:
    assert override.input_line is not None
    if not override.is_sweep_override():
        yield override.input_line
        return
    for value in override.sweep_string_iterator():
        yield f"{override.get_key_element()}={value}"
