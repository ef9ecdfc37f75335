"""Composing a configuration with Hydra, and saying in one line why that did not work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig

from nstbench.cli.composition.errors import as_user_error
from nstbench.cli.composition.program import RUN, Program
from nstbench.cli.hydra_settings import check_hydra_settings
from nstbench.config.files import conf_dir
from nstbench.config.yaml_files import register_checked_files
from nstbench.errors import FULL, StorageError, UserError


def with_hydra(
    task: Callable[[DictConfig], object],
    flags: Sequence[str],
    overrides: Sequence[str],
    program: Program = RUN,
) -> None:
    """Compose what was typed and call ``task`` with it, once or for every run of a sweep.

    Args:
        task: Must not raise: Hydra would print lines of its own.
        flags: Such as ``-m``.
        overrides: In Hydra's grammar.
        program: The command that they were typed after.

    Raises:
        UserError: The configuration cannot be composed, or a sweep's folder cannot be written.
        StorageError: There is no room left in it.
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
