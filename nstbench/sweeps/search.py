"""A search: Optuna proposes the runs of a sweep, after what it learnt from those before.

What is proposed depends on nothing but the sampler's seed and the runs' results. So a search that was
killed goes on with the same command: it proposes the same runs, and those that were finished are not run
again. hydra-optuna-sweeper does the proposing; this makes it take runs that fail, directions that follow
from the criteria, and two proposals of one run.
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
from nstbench.sweeps.criterion import check_told, higher_is_better
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
    """Of ``hydra/sweeper=optuna``: see ``conf/hydra/sweeper/optuna.yaml``."""

    n_trials: Annotated[int, Field(ge=1)]
    n_jobs: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    direction: Direction | list[Direction] | None


class Search:
    """Hydra's sweeper, for one command.

    Args:
        given: the settings of ``hydra.sweeper``.
        config: the composed configuration, swept settings left out.

    Raises:
        UserError: a setting cannot be used, or Optuna is not installed.
    """

    def __init__(self, given: Mapping[str, Any], config: DictConfig) -> None:
        given = {k: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for k, v in given.items()}
        self.settings = _settings({k: v for k, v in given.items() if k not in ("sampler", "params")})
        self.criterion = criteria_of(config.criterion)
        self.directions = directions(self.settings.direction, self.criterion, config)
        self.params: Mapping[str, Any] = given["params"] or {}
        self.sampler = given["sampler"]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Prepare Optuna, and the launcher.

        Raises:
            UserError: Optuna is not installed, or a setting is not one that it takes.
        """
        impl = _impl()
        self.sweeper = impl(
            sampler=self._sampler(),
            direction=OmegaConf.create(self.directions),
            storage=None,  # Optuna 2 cannot use the SQLAlchemy of today, and the records hold all results
            study_name=None,
            n_trials=self.settings.n_trials,
            n_jobs=self.settings.n_jobs,
            max_failure_rate=1.0,  # runs that fail are told of when they do, and at the end
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
            UserError: nothing is searched, a setting cannot be, or the runs do not have what the search is
                to be told.
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
                warnings.simplefilter("ignore")  # of optuna's own future
                self.sweeper.sweep(arguments)
        except ValueError as error:
            if not self.trials.launched:
                raise UserError("hydra/sweeper", "optuna", _clause(error), _HOW) from error
            if self.trials.learnt:
                raise
            # It asks for the best of the runs, and all have failed: that is told of at the end.

    def _sampler(self) -> Any:
        import optuna

        optuna.logging.set_verbosity(logging.WARNING)
        # It would tell of failed runs, which the sweep's view does.
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
        if self.sampler == "tpe":  # keeps the proposals of a batch apart
            settings["constant_liar"] = self.settings.n_jobs > 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return getattr(optuna.samplers, _SAMPLERS[self.sampler])(**settings)


class _Trials:
    """A launcher that runs each of a batch once, and says of failed runs that there is no value."""

    def __init__(self, launcher: Any, criterion: list[str]) -> None:
        self.launcher, self.criterion = launcher, criterion
        self.launched = self.learnt = False

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Launch a batch of runs."""
        batch = list(dict.fromkeys(tuple(overrides) for overrides in job_overrides))
        self.launched = True
        returned = self.launcher.launch(batch, initial_job_idx=initial_job_idx)
        told = {overrides: _told(job) for overrides, job in zip(batch, returned, strict=True)}
        if not self.learnt and all(job._return_value is None for job in told.values()):
            self._ask_why(range(initial_job_idx, initial_job_idx + len(batch)))
        else:
            self.learnt = True
        return [told[tuple(overrides)] for overrides in job_overrides]

    def _ask_why(self, numbers: range) -> None:
        """Stop the search where runs end well but have no value of a criterion: no other will have."""
        outcomes = self.launcher.sweep.outcomes
        for entry in (outcomes[n] for n in numbers if n in outcomes):
            record = RunRecord.read(Path(entry.folder)) if entry.folder else None
            if record and entry.state in {"completed", "skipped"}:
                check_told(record, self.criterion)


def _told(job: JobReturn) -> JobReturn:
    """Return what the plugin takes for a failed trial where a value is NaN, on which it would stop."""
    try:
        value: Any = job.return_value
        values = list(value) if isinstance(value, list | tuple) else [float(value)]
    except Exception:  # what a job raised, or a launcher lost
        values = []
    bad = not values or any(v != v for v in values)
    return JobReturn(
        overrides=job.overrides, status=JobStatus.COMPLETED, _return_value=None if bad else value
    )


def _impl() -> Any:
    try:
        from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl
    except ImportError as error:
        hint = 'Install it with pip install "nstbench[search]".'
        raise UserError("hydra/sweeper", "optuna", "hydra-optuna-sweeper is not installed", hint) from error
    return OptunaSweeperImpl


def _settings(given: Mapping[str, Any]) -> Settings:
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
    """Return ``minimize`` or ``maximize`` for each criterion: what was given, or what its metric says.

    Raises:
        UserError: another number of directions was given, or a criterion is no metric.
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
    """Return the names of the settings that a search is to vary.

    Args:
        arguments: overrides that were typed.
        params: of the configuration; what was typed goes before them.
    """
    return list(_searched(arguments, params))


def check_space(arguments: Sequence[str], params: Mapping[str, Any]) -> None:
    """Check that values can be chosen for each setting of a search.

    Args:
        arguments: as of `searched_settings`.
        params: likewise.

    Raises:
        UserError: Optuna does not take what a setting is to be chosen from.
    """
    from hydra_plugins.hydra_optuna_sweeper._impl import create_optuna_distribution_from_override

    space: Any
    for name, override in _searched(arguments, params).items():
        space, typed = override.value(), str(override.input_line).partition("=")[2]
        if isinstance(space, Glob):
            options = space.filter(groups().get(name, []))
            hint = f"List the options: {name}={','.join(options)}" if options else "List the options."
            raise UserError(name, typed, "a search cannot choose from a glob", hint)
        if isinstance(space, IntervalSweep) and not _finite(space.start, space.end):
            raise UserError(name, typed, "both ends must be finite numbers", _HOW)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of optuna's own future
                create_optuna_distribution_from_override(override)
        except Exception as error:  # ValueError mostly, but steps of 0 are of other kinds
            raise UserError(name, typed, _clause(error), _HOW) from error


def _searched(arguments: Sequence[str], params: Mapping[str, Any]) -> dict[str, Override]:
    parsed = OverridesParser.create().parse_overrides([*(f"{k}={v}" for k, v in params.items()), *arguments])
    last = {override.get_key_element(): override for override in parsed}
    return {name: override for name, override in last.items() if override.is_sweep_override()}


def _finite(*ends: float | None) -> bool:
    return all(end is not None and math.isfinite(end) for end in ends)


def _clause(error: Exception) -> str:
    """Return what Optuna says, as a clause."""
    said = " ".join(str(error).replace("`", "").split()).rstrip(".")
    if not isinstance(error, ValueError) or not said:
        return "Optuna cannot choose from it"
    return said[0].lower() + said[1:]
