"""Composing a configuration with Hydra, with its errors as a `UserError`."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from omegaconf import DictConfig

from nstbench.cli.composition.application import Application, Loader
from nstbench.cli.composition.errors import as_user_error
from nstbench.cli.composition.program import RUN, Program
from nstbench.cli.hydra_settings import can_build_anything, check_hydra_settings, refuse_reruns
from nstbench.config.files import conf_dir
from nstbench.config.yaml_files import register_checked_files
from nstbench.errors import FULL, StorageError, UserError

if TYPE_CHECKING:
    from nstbench.sweeps.sweep import Sweep

# Results have folders of their own, and paths are relative to where the command is typed: a change of
# folder would only break them. Of two overrides of a setting, the last holds.
_STAY = "hydra.job.chdir=false"


def with_hydra(
    task: Callable[[DictConfig], object],
    flags: Sequence[str],
    overrides: Sequence[str],
    program: Program = RUN,
    sweep: Sweep | None = None,
) -> None:
    """Compose a configuration and call ``task`` with it, once or for every run of a sweep.

    Args:
        task: Function of the composed configuration. It must not raise: Hydra would print lines of its own.
        flags: Flags of Hydra's, such as ``-m``.
        overrides: Overrides in Hydra's grammar.
        program: Command that was typed.
        sweep: Sweep that follows the runs, where there are several; None: nothing follows them.

    Raises:
        UserError: The configuration cannot be composed, or a sweep's folder cannot be written.
        StorageError: The disk is full.
    """
    with mistakes_explained(overrides, program):
        given = _parse(flags)
        application = Application(program, given, sweep)
        if _runs(given):
            application.start(task, [*overrides, _STAY], _checked(application, overrides))
            return
        if can_build_anything(given, overrides):
            _checked(application, overrides)
        before, sys.argv = sys.argv, [program.command, *flags, *overrides, _STAY]
        try:
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=program.config)(task)()
        finally:
            sys.argv = before


def compose(
    flags: Sequence[str], overrides: Sequence[str], program: Program = RUN
) -> tuple[DictConfig, Loader]:
    """Return the configuration of a command, and the loader that composes the runs of a sweep.

    Args:
        flags: Flags of Hydra's, such as ``-m``.
        overrides: Overrides in Hydra's grammar.
        program: Command that was typed.

    Raises:
        UserError: The configuration cannot be composed.
    """
    with mistakes_explained(overrides, program):
        application = Application(program, _parse(flags))
        return _checked(application, overrides), application.loader


@contextmanager
def mistakes_explained(overrides: Sequence[str], program: Program = RUN) -> Iterator[None]:
    """Raise errors of Hydra's as an error that says what to type instead.

    Args:
        overrides: Overrides in Hydra's grammar.
        program: Command that was typed.

    Raises:
        UserError: The configuration cannot be composed, or a sweep's folder cannot be written.
        StorageError: The disk is full.
    """
    # By default Hydra prints errors itself, without suggestions; with this it raises them.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    except (UserError, StorageError):
        raise
    except OSError as error:
        if isinstance(error, HydraException):
            raise as_user_error(error, overrides, program) from error
        if error.errno in FULL:
            # Raised by Hydra while it writes its own files; the error may name no file.
            typed = [each.partition("=")[2] for each in overrides if each.startswith("output=")]
            raise StorageError(Path(error.filename or (typed or ["outputs"])[-1]), error) from error
        hint = "Give a folder you may write to: output=…"
        reason = f"it cannot be written ({error.strerror})"
        raise UserError("output", error.filename or "", reason, hint) from error
    except Exception as error:  # Hydra raises errors of many classes; the task raises none
        raise as_user_error(error, overrides, program) from error


def _parse(flags: Sequence[str]) -> Namespace:
    register_checked_files()
    given: Namespace = get_args_parser().parse_known_args(list(flags))[0]
    refuse_reruns(given)
    return given


def _runs(given: Namespace) -> bool:
    """Return whether runs are asked for, not a view of the configuration or the help of Hydra."""
    shown = given.cfg or given.info or given.hydra_help or given.help or given.shell_completion
    return not (shown or given.resolve or (given.run and given.multirun))


def _checked(application: Application, overrides: Sequence[str]) -> DictConfig:
    """Return the composed configuration, with the classes that Hydra would build from it checked."""
    composed = application.compose([*overrides, _STAY])
    if can_build_anything(application.given, overrides):
        check_hydra_settings(composed.hydra)
    return composed
