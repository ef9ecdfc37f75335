"""A search: Optuna proposes the runs of a sweep, based on the results of earlier ones.

The proposals depend only on the sampler's seed and the runs' results. So the same command continues a
search that was killed: it proposes the same runs, and finished ones are not run again. This wraps
hydra-optuna-sweeper, and adds runs that fail, directions that follow from the criteria, and several
proposals of one run.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from nstbench.config.criterion import check_searched, criteria_of
from nstbench.config.files import groups
from nstbench.errors import UserError, did_you_mean
from nstbench.sweeps.criterion import check_criteria_values, higher_is_better
from nstbench.tracking.record import RunRecord

_PLUGIN = "hydra_plugins.hydra_optuna_sweeper"
_SAMPLERS = {
    "tpe": "TPESampler",
    "random": "RandomSampler",
    "nsgaii": "NSGAIISampler",
    "cmaes": "CmaEsSampler",
}
_HOW = "Such as interval(0.1, 30), in logarithmic steps tag(log, interval(0.1, 30)), range(1, 5), or a,b,c."
Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Settings:
    """Settings of ``hydra/sweeper=optuna``: see ``conf/hydra/sweeper/optuna.yaml``."""

    n_trials: Annotated[int, Field(ge=1)]
    n_jobs: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    direction: Direction | list[Direction] | None


class Search:
    """The sweeper of one command.

    Args:
        given: Settings of ``hydra.sweeper``.
        config: Composed configuration, without the swept settings.

    Raises:
        UserError: A setting cannot be used, or Optuna is not installed.
    """

    def __init__(self, given: Mapping[str, Any], config: DictConfig) -> None:
        given = {k: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for k, v in given.items()}
        self.settings = _check_settings({k: v for k, v in given.items() if k not in ("sampler", "params")})
        self.criterion = criteria_of(config.criterion)
        self.directions = directions(self.settings.direction, self.criterion, config)
        self.params: Mapping[str, Any] = given["params"] or {}
        self.sampler = given["sampler"]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Prepare Optuna and the launcher.

        Raises:
            UserError: Optuna is not installed, or does not accept a setting.
        """
        impl = _import_plugin()
        self.sweeper = impl(
            sampler=self._make_sampler(),
            direction=OmegaConf.create(self.directions),
            storage=None,  # Optuna 2 cannot use today's SQLAlchemy, and the records hold all results
            study_name=None,
            n_trials=self.settings.n_trials,
            n_jobs=self.settings.n_jobs,
            max_failure_rate=1.0,  # failed runs are reported when they fail, and at the end
            search_space=None,
            custom_search_space=None,
            params=OmegaConf.create(dict(self.params)),
        )
        self.sweeper.setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.trials = _Trials(self.sweeper.launcher, self.criterion)
        self.sweeper.launcher = self.trials

    def sweep(self, arguments: list[str]) -> None:
        """Propose and launch runs.

        Raises:
            UserError: No setting is varied, a setting cannot be varied, or the runs have no value of a
                criterion.
        """
        searched = searched_settings(arguments, self.params)
        if not searched:
            reason = "no setting has several values to choose from"
            hint = "Give one: 'weights.style=tag(log, interval(1, 100))' or loss/style=gram,mrf."
            raise UserError("hydra/sweeper", "optuna", reason, hint)
        check_space(arguments, self.params)
        check_searched(self.criterion, searched)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # warnings about future versions of Optuna
                self.sweeper.sweep(arguments)
        except ValueError as error:
            if not self.trials.launched:
                raise UserError("hydra/sweeper", "optuna", _message_of(error), _HOW) from error
            if self.trials.has_values:
                raise
            # The plugin asks for the best run, and all have failed, which is reported at the end.

    def _make_sampler(self) -> Any:
        import optuna

        optuna.logging.set_verbosity(logging.WARNING)
        # The plugin would log failed runs, which the sweep's view prints.
        logging.getLogger(_PLUGIN).setLevel(logging.CRITICAL)
        if not isinstance(self.sampler, str):
            return self.sampler  # Hydra built it
        if self.sampler not in _SAMPLERS:
            hint = did_you_mean(self.sampler, _SAMPLERS, what="samplers")
            raise UserError("hydra.sweeper.sampler", self.sampler, "there is no such sampler", hint)
        if self.sampler == "cmaes" and len(self.directions) > 1:
            reason = "it takes one criterion"
            raise UserError("hydra.sweeper.sampler", self.sampler, reason, "Type hydra.sweeper.sampler=tpe.")
        settings: dict[str, Any] = {"seed": self.settings.seed}
        if self.sampler == "tpe":  # makes the proposals of a batch differ
            settings["constant_liar"] = self.settings.n_jobs > 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return getattr(optuna.samplers, _SAMPLERS[self.sampler])(**settings)


class _Trials:
    """A launcher that runs equal proposals of a batch once, and returns None for failed runs."""

    def __init__(self, launcher: Any, criterion: list[str]) -> None:
        self.launcher, self.criterion = launcher, criterion
        self.launched = self.has_values = False

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Launch a batch of runs."""
        batch = list(dict.fromkeys(tuple(overrides) for overrides in job_overrides))
        self.launched = True
        returned = self.launcher.launch(batch, initial_job_idx=initial_job_idx)
        trials = {overrides: _as_trial(job) for overrides, job in zip(batch, returned, strict=True)}
        if not self.has_values and all(job._return_value is None for job in trials.values()):
            self._check_criteria(range(initial_job_idx, initial_job_idx + len(batch)))
        else:
            self.has_values = True
        return [trials[tuple(overrides)] for overrides in job_overrides]

    def _check_criteria(self, numbers: range) -> None:
        """Raise a UserError if a run succeeded but has no value of a criterion: no other will have one."""
        outcomes = self.launcher.sweep.outcomes
        for entry in (outcomes[n] for n in numbers if n in outcomes):
            record = RunRecord.read(Path(entry.folder)) if entry.folder else None
            if record and entry.state in {"completed", "skipped"}:
                check_criteria_values(record, self.criterion)


def _as_trial(job: JobReturn) -> JobReturn:
    """Return a job with the value None, a failed trial, if a value is NaN, on which the plugin would stop."""
    try:
        value: Any = job.return_value
        values = list(value) if isinstance(value, list | tuple) else [float(value)]
    except Exception:  # the job raised an error, or the launcher lost it
        values = []
    bad = not values or any(v != v for v in values)
    return JobReturn(
        overrides=job.overrides, status=JobStatus.COMPLETED, _return_value=None if bad else value
    )


def _import_plugin() -> Any:
    try:
        from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl
    except ImportError as error:
        hint = 'Install it with pip install "nstbench[search]".'
        raise UserError("hydra/sweeper", "optuna", "hydra-optuna-sweeper is not installed", hint) from error
    return OptunaSweeperImpl


def _check_settings(given: Mapping[str, Any]) -> Settings:
    try:
        return TypeAdapter(Settings).validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        name, reason = str(first["loc"][0]), first["msg"]
        if name not in Settings.__dataclass_fields__:
            hint = did_you_mean(name, [*Settings.__dataclass_fields__, "sampler", "params"], what="settings")
            raise UserError(f"hydra.sweeper.{name}", given[name], "there is no such setting", hint) from error
        hint = "Type minimize or maximize, or a list of them; or null." if name == "direction" else ""
        reason = reason.split(", unable")[0].replace("Input should be", "it must be")
        raise UserError(f"hydra.sweeper.{name}", given[name], reason, hint) from error


def directions(given: Any, names: list[str], config: DictConfig) -> list[str]:
    """Return ``minimize`` or ``maximize`` for each criterion: as given, or the direction of its metric.

    Raises:
        UserError: The number of directions is wrong, or a criterion is not a metric.
    """
    if given is None:
        nodes: Any = OmegaConf.to_container(config.metrics, resolve=True)
        return ["maximize" if higher else "minimize" for higher in higher_is_better(names, nodes)]
    asked: list[str] = [given] if isinstance(given, str) else list(given)
    if len(asked) != len(names):
        reason = f"{len(asked)} for {len(names)} criteria"
        raise UserError("hydra.sweeper.direction", given, reason, "Give one for each, or null.")
    return asked


def searched_settings(arguments: Sequence[str], params: Mapping[str, Any]) -> list[str]:
    """Return the names of the settings that a search varies.

    Args:
        arguments: Overrides, as typed.
        params: Overrides by name, from the configuration; typed ones take precedence.
    """
    return list(_find_searched(arguments, params))


def check_space(arguments: Sequence[str], params: Mapping[str, Any]) -> None:
    """Check that values can be chosen for each setting of a search.

    Args:
        arguments: Overrides, as typed.
        params: Overrides by name, from the configuration; typed ones take precedence.

    Raises:
        UserError: The values of a setting are not a space that Optuna can search.
    """
    from hydra_plugins.hydra_optuna_sweeper._impl import create_optuna_distribution_from_override

    space: Any
    for name, override in _find_searched(arguments, params).items():
        space, typed = override.value(), str(override.input_line).partition("=")[2]
        if isinstance(space, Glob):
            options = space.filter(groups().get(name, []))
            hint = f"List the options: {name}={','.join(options)}" if options else "List the options."
            raise UserError(name, typed, "a search cannot choose from a glob", hint)
        if isinstance(space, IntervalSweep) and not _are_finite(space.start, space.end):
            raise UserError(name, typed, "both ends must be finite numbers", _HOW)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # warnings about future versions of Optuna
                create_optuna_distribution_from_override(override)
        except Exception as error:  # ValueError mostly, but steps of 0 are of other kinds
            raise UserError(name, typed, _message_of(error), _HOW) from error


def _find_searched(arguments: Sequence[str], params: Mapping[str, Any]) -> dict[str, Override]:
    parsed = OverridesParser.create().parse_overrides([*(f"{k}={v}" for k, v in params.items()), *arguments])
    last = {override.get_key_element(): override for override in parsed}
    return {name: override for name, override in last.items() if override.is_sweep_override()}


def _are_finite(*ends: float | None) -> bool:
    return all(end is not None and math.isfinite(end) for end in ends)


def _message_of(error: Exception) -> str:
    """Return the message of Optuna's error as a clause."""
    message = " ".join(str(error).replace("`", "").split()).rstrip(".")
    if not isinstance(error, ValueError) or not message:
        return "Optuna cannot choose from it"
    return message[0].lower() + message[1:]
