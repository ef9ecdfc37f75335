"""Composing a configuration with Hydra, with its errors as a `UserError`."""

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
    """Compose a configuration and call ``task`` with it, once or for every run of a sweep.

    Args:
        task: Function of the composed configuration. It must not raise: Hydra would print lines of its own.
        flags: Flags of Hydra's, such as ``-m``.
        overrides: Overrides in Hydra's grammar.
        program: Command that was typed.

    Raises:
        UserError: The configuration cannot be composed, or a sweep's folder cannot be written.
        StorageError: The disk is full.
    """
    # By default Hydra prints errors itself, without suggestions; with this it raises them.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Paths are relative to the folder where the command is typed: a change of folder (hydra.job.chdir)
    # would break them. Of two overrides of a setting, the last one holds.
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
            # Raised by Hydra while it writes its own files; the error may name no file.
            typed = [each.partition("=")[2] for each in overrides if each.startswith("output=")]
            raise StorageError(Path(error.filename or (typed or ["outputs"])[-1]), error) from error
        hint = "Give a folder you may write to: output=…"
        reason = f"it cannot be written ({error.strerror})"
        raise UserError("output", error.filename or "", reason, hint) from error
    except Exception as error:  # Hydra raises errors of many classes; the task raises none
        raise as_user_error(error, overrides, program) from error
    finally:
        sys.argv = before
