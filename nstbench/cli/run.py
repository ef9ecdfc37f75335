"""``nstbench run``: compose a configuration with Hydra, check it, and run it, or a sweep of them."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from nstbench.cli.composition import as_user_error
from nstbench.cli.overrides import overrides_from
from nstbench.config_files import conf_dir
from nstbench.errors import UserError

_LEDGER = "NSTBENCH_SWEEP_LEDGER"

# What stopped a single run. Raised through Hydra, it would come with lines of Hydra's own.
_failure: list[Exception] = []


@dataclass(frozen=True)
class Outcome:
    """How one run of a sweep ended.

    Attributes:
        overrides: what set it apart.
        state: ``completed``, ``skipped`` or ``failed``.
        folder: of the run; "" if it has none.
        error: of a failed run.
        mistake: whether the failure was a setting that cannot be used.
    """

    overrides: list[str]
    state: str
    folder: str = ""
    error: str = ""
    mistake: bool = False


def main(arguments: Sequence[str]) -> int:
    """Run what was typed after ``nstbench run``; see `nstbench.cli.main` for the exit status."""
    if {"--help", "-h"} & set(arguments):
        from nstbench.cli.help import print_help

        print_help()
        return 0
    # Hydra prints errors its own way, without suggestions, unless it is told to raise them.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    from nstbench.validation import register_resolvers

    register_resolvers()
    typed, before = ["nstbench run", *overrides_from(arguments)], sys.argv
    with tempfile.TemporaryDirectory() as ledger:
        os.environ[_LEDGER] = ledger
        sys.argv = typed
        try:
            _failure.clear()
            _hydra_main()
        except (HydraException, OmegaConfBaseException) as error:
            raise as_user_error(error) from error
        except OSError as error:
            raise UserError("output", error.filename, f"it cannot be written ({error.strerror})") from error
        finally:
            sys.argv = before
            del os.environ[_LEDGER]
        outcomes = [Outcome(**json.loads(f.read_text())) for f in sorted(Path(ledger).glob("*.json"))]
    if _failure:
        raise _failure[0]
    if {"-m", "--multirun"} & set(arguments):
        from nstbench.cli.show import show_sweep

        show_sweep(outcomes)
    return int(any(o.state == "failed" for o in outcomes))


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
def _hydra_main(composed: DictConfig) -> float | None:
    """Run one composed configuration; in a sweep a failure is noted and the next run goes on."""
    in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    overrides = list(HydraConfig.get().overrides.task)
    try:
        return _run(composed, overrides, in_sweep)
    except Exception as error:
        if not in_sweep:
            _failure.append(error)
            return None
        mistake = isinstance(error, UserError)
        text = str(error) if mistake else f"{type(error).__name__}: {error}"
        _note(Outcome(overrides, "failed", error=text, mistake=mistake))
        print(f"failed: {' '.join(overrides)}: {text}", file=sys.stderr)
        return float("nan")


def _run(composed: DictConfig, overrides: list[str], in_sweep: bool) -> float | None:
    from nstbench.validation import register_resolvers, validate

    register_resolvers()  # again: in a sweep this may be another process
    config = validate(composed)
    # torch and Lightning take seconds to load: only once the settings are known to be good.
    from nstbench.cli.show import show_result
    from nstbench.run import run

    result = run(config, overrides)
    state = "skipped" if result.skipped else "completed"
    _note(Outcome(overrides, state, folder=str(result.folder)))
    show_result(result, brief=in_sweep)
    return result.record.final_losses.get("loss/total")


def _note(outcome: Outcome) -> None:
    """Leave word of a run for the process that started the sweep, which may be another one."""
    ledger = os.environ.get(_LEDGER)
    if ledger:
        job = HydraConfig.get().job
        number = job.num if "num" in job else 0
        (Path(ledger) / f"{number:06d}.json").write_text(json.dumps(asdict(outcome)))
