"""One run of a sweep: opened, optimised stage by stage, and reported to the sweep's ledger."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from nstbench.config.validation import validate
from nstbench.errors import StorageError, UserError
from nstbench.runtime.interruption import stop_requested
from nstbench.sweeps.criterion import values_of
from nstbench.tracking.ledger import Entry, Ledger, State
from nstbench.tracking.lock import BusyError

if TYPE_CHECKING:  # these load torch
    from nstbench.runs.run import Result, Run
    from nstbench.runs.targets import EncodedPictures

Criteria = float | tuple[float, ...]
"""Value or values of the criterion; NaN if there is none."""
NameSetting = Callable[[UserError, DictConfig, Sequence[str]], UserError]
"""Function from an error, and the configuration and overrides of a run, to one that names what is typed."""


class SweepJob:
    """A run of a sweep, as a `nstbench.runs.batch.Job`.

    Args:
        composed: Composed configuration, without Hydra's settings.
        hydra: Configuration with the node ``hydra``, to which ``${hydra:…}`` refers.
        ledger: Ledger of the sweep.
        name_setting: Function that names the setting of an error as it is typed.

    Attributes:
        value: Value or values of the criterion; NaN until the run is completed.
    """

    def __init__(
        self, composed: DictConfig, hydra: DictConfig, ledger: Ledger, name_setting: NameSetting
    ) -> None:
        self.composed, self.hydra = composed, hydra
        self.ledger, self.name_setting = ledger, name_setting
        overrides: list[str] = OmegaConf.to_container(hydra.hydra.overrides.task)  # type: ignore[assignment]
        self.entry = Entry(hydra.hydra.job.num, overrides, "running")
        self.value: Criteria = math.nan
        self._run: Run | None = None

    @property
    def run(self) -> Run:
        """Run, once it is open."""
        assert self._run is not None
        return self._run

    def begin(self, encoded: EncodedPictures | None = None) -> bool:
        """Open the run and begin its first stage; return whether there is one.

        Raises:
            KeyboardInterrupt: The user has asked to stop.
        """
        if stop_requested():
            raise KeyboardInterrupt
        HydraConfig.instance().set_config(self.hydra)  # the values of ${hydra:…}
        self.ledger.note(self.entry)
        begun = False
        with self._errors_recorded():
            self._open()
            if self.run.is_finished:
                self._complete(self.run.add_missing_metrics())
            else:
                self.run.begin_stage(encoded)
                begun = True
        return begun

    def go_on(self, encoded: EncodedPictures | None = None) -> bool:
        """End the stage that was optimised, and begin the next; return whether there is one."""
        begun = False
        with self._errors_recorded():
            self.run.end_stage()
            if self.run.stages_left:
                self.run.begin_stage(encoded)
                begun = True
            else:
                self._complete(self.run.finish())
        return begun

    def close(self) -> None:
        """Close the run, if it is open, so that it can be continued."""
        if self._run is not None:
            self._run.close(KeyboardInterrupt())

    def _open(self) -> None:
        config = validate(self.composed)
        # torch and Lightning take seconds to load: each is imported only after the checks before it.
        from nstbench.runs.preparation import prepare

        prepared = prepare(config)
        from nstbench.callbacks.sweep_progress import Reporting
        from nstbench.cost.memory import check_memory
        from nstbench.runs.run import Run

        config.record.progress = False  # the sweep has a view of its own
        steps = sum(stage.steps for stage in prepared.stages)
        reporting = Reporting(self.ledger, replace(self.entry, steps=steps))

        def begin(folder: Path) -> None:
            check_memory(config, prepared)
            reporting.begin(folder)

        self._run = Run.open(
            config, prepared, self.entry.overrides, [reporting], config.retry_failed, on_begin=begin
        )

    def _complete(self, result: Result) -> None:
        """Report a finished run."""
        self.run.close(None)
        values = values_of(result.record, self.run.config.criterion)
        self.value = values[0] if len(values) == 1 else values
        state: State = "skipped" if result.skipped else "completed"
        folder = str(result.folder)
        self.ledger.note(replace(self.entry, state=state, folder=folder, line=summary_line(result)))

    @contextmanager
    def _errors_recorded(self) -> Iterator[None]:
        """Record an error in the run and in the ledger; the other runs of the sweep continue."""
        try:
            yield
        except BusyError as error:
            self.ledger.note(replace(self.entry, state="busy", folder=str(error.folder)))
        except Exception as error:
            if self._run is not None:
                self._run.close(error)
            self.ledger.note(self._failed(error))

    def _failed(self, error: Exception) -> Entry:
        """Return the entry of a run that failed."""
        from nstbench.runs.recording import FailedBeforeError

        mistake = isinstance(error, UserError)
        noted = self.ledger.of(self.entry.number) or self.entry
        folder = noted.folder
        if isinstance(error, FailedBeforeError):
            folder = str(error.folder)
            text = f"{error.error} (when it last ran; retry_failed=true runs it again)"
        elif isinstance(error, UserError):
            text = str(self.name_setting(error, self.composed, self.entry.overrides))
        elif isinstance(error, StorageError):
            text = str(error)
        else:
            text = f"{type(error).__name__}: {error}"
        log = Path(folder) / "run.log"
        where = str(log) if folder and log.is_file() else ""
        return replace(self.entry, state="failed", error=text, mistake=mistake, folder=folder, log=where)


def copy_without_hydra(composed: DictConfig) -> DictConfig:
    """Return a copy of a composed configuration without Hydra's own settings."""
    copy = deepcopy(composed)
    with read_write(copy), open_dict(copy):
        del copy["hydra"]
    return copy


def summary_line(result: Result) -> str:
    """Return the line that is printed for a finished run of a sweep: its time and its metrics."""
    seconds = result.record.timings.get("optimize_s", 0.0)
    state = "done before" if result.skipped else f"{seconds:.1f} s"
    # Of metrics with several numbers, only the summary is shown.
    shown = {n: v for n, v in result.record.metrics.items() if "/" not in n or n.endswith("/others")}
    return f"{state}  {' '.join(f'{name} {value:.3g}' for name, value in shown.items())}"
