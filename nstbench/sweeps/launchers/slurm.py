"""Runs of a sweep as jobs of a Slurm cluster: an array is submitted, and the end of each job reported."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from nstbench.errors import UserError, did_you_mean
from nstbench.sweeps.launchers.slurm_folders import Folder, clear_away, others_at_work
from nstbench.sweeps.launchers.slurm_states import GONE, End, Watch
from nstbench.tracking.ledger import Ledger
from nstbench.tracking.record import mark_failed

if TYPE_CHECKING:
    from submitit import Job

_POLL_SECONDS = (0.5, 10.0)  # between checks of the jobs: at first, and at most
_RESULT_DELAY = 15.0  # seconds until a result is visible in a shared file system
_STOPPING = 90.0  # seconds that cancelled jobs may take to end
_MEMORY = re.compile(r"exceeded (job |step )?memory limit|oom.kill", re.IGNORECASE)
_CONTINUES = "the same command continues it"

_Count = Annotated[int, Field(ge=1)]


@dataclass(config=ConfigDict(extra="forbid"), kw_only=True)
class Settings:
    """Settings of ``hydra/launcher=slurm``: see ``conf/hydra/launcher/slurm.yaml``."""

    timeout_min: _Count
    max_num_timeout: Annotated[int, Field(ge=0)]
    signal_delay_s: _Count
    cpus_per_task: _Count
    array_parallelism: _Count
    submitit_folder: str
    gpus_per_node: Annotated[int, Field(ge=0)] | None = None
    gres: str | None = None
    mem_gb: Annotated[float, Field(gt=0)] | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    additional_parameters: dict[str, Any] | None = None
    setup: list[str] | None = None

    @property
    def warning(self) -> int:
        """Seconds before the end of an attempt at which a run receives the signal to stop.

        Slurm may send it a minute early. submitit takes a signal before 5/6 of the time for a preemption, of
        which it allows any number.
        """
        return min(self.signal_delay_s, self.timeout_min * 10)

    @property
    def grace(self) -> float:
        """Seconds from the signal until a run that has not stopped is ended."""
        return self.warning / 2

    @property
    def out_of_time(self) -> str:
        """Reason that is reported for a run that used all its time."""
        given = f"timeout_min={self.timeout_min}, max_num_timeout={self.max_num_timeout}"
        return f"it ran out of time ({given}); {_CONTINUES}"

    def parameters(self) -> dict[str, Any]:
        """Return the settings under the names of submitit."""
        threads = [f"export {name}={self.cpus_per_task}" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")]
        # Since Slurm 22.05 srun does not inherit it from sbatch.
        cpus = f"export SRUN_CPUS_PER_TASK={self.cpus_per_task}"
        given = {
            "name": "nstbench",
            "timeout_min": self.timeout_min,
            "cpus_per_task": self.cpus_per_task,
            "gpus_per_node": self.gpus_per_node,
            "mem_gb": self.mem_gb,
            "stderr_to_stdout": True,
            "slurm_gres": self.gres,
            "slurm_partition": self.partition,
            "slurm_account": self.account,
            "slurm_qos": self.qos,
            "slurm_constraint": self.constraint,
            "slurm_signal_delay_s": self.warning,
            "slurm_array_parallelism": self.array_parallelism,
            "slurm_setup": [cpus, *threads, *(self.setup or [])],
            "slurm_additional_parameters": self.additional_parameters,
        }
        return {name: value for name, value in given.items() if value is not None}


def checked(given: Mapping[str, Any]) -> Settings:
    """Return the settings of the launcher, where Slurm can be used.

    Raises:
        UserError: A setting cannot be used, or Slurm or the extra is not installed.
    """
    if find_spec("submitit") is None or find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        hint = 'Type pip install "nstbench[slurm]".'
        raise UserError("hydra/launcher", "slurm", "hydra-submitit-launcher is not installed", hint)
    if shutil.which("sbatch") is None:
        hint = "Type the command on a machine that submits the cluster's jobs, or give hydra/launcher=pool."
        raise UserError("hydra/launcher", "slurm", "there is no sbatch on this machine", hint)
    try:
        return TypeAdapter(Settings).validate_python(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        if name not in given or name not in Settings.__annotations__:
            hint = did_you_mean(name, Settings.__annotations__, what="settings")
        else:
            hint = "conf/hydra/launcher/slurm.yaml has an example."
        reason = re.sub(r"^Input should be", "it must be", first["msg"])
        raise UserError(f"hydra.launcher.{name}", given.get(name), reason, hint) from error


def on_slurm(
    work: Callable[..., Any], jobs: Sequence[tuple[list[str], int, Any]], settings: Settings
) -> list[Any]:
    """Call ``work`` for jobs ``(overrides, number, …)`` on the cluster, and return its results.

    Returns:
        A value for each job; NaN for those that were lost, which are recorded in the sweep's ledger.

    Raises:
        UserError: Slurm did not accept the jobs.
        KeyboardInterrupt: The user asked to stop, and the jobs are cancelled.
    """
    root = Path(settings.submitit_folder).expanduser().absolute()
    runs = [overrides for overrides, *_ in jobs]
    _wait_for_others(root, runs)
    folder = Folder.new(root, runs, jobs[0][1])
    clear_away(root, now=lambda: folder.path.stat().st_mtime)
    submitted = _submit(work, jobs, settings, folder)
    watch = Watch([job.job_id for job in submitted])
    where = submitted[0].paths.stdout.parent
    print(f"Slurm job {watch.array}: {len(jobs)} runs; their output is in {where}", file=sys.stderr)
    waiting = dict(enumerate(submitted))
    values: list[Any] = [math.nan] * len(jobs)
    pause, most = _POLL_SECONDS
    try:
        while waiting:
            time.sleep(pause)
            pause = min(pause * 1.2, most)
            ended = watch.ended()
            for i, job in list(waiting.items()):
                if job.job_id in ended or job.paths.result_pickle.exists():
                    overrides, number, _ = jobs[i]
                    values[i] = _conclude(job, ended.get(job.job_id), overrides, number, settings)
                    del waiting[i]
    except KeyboardInterrupt:
        print("cancelling the jobs; Ctrl-C again ends this command without waiting for them", file=sys.stderr)
        subprocess.run(["scancel", watch.array], check=False)
        deadline = time.monotonic() + _STOPPING
        while len(watch.ended()) < len(submitted) and time.monotonic() < deadline:
            time.sleep(0.5)  # the jobs write to the ledger until they end
        folder.close()
        raise
    folder.close()
    return values


def _wait_for_others(root: Path, runs: Sequence[list[str]]) -> None:
    """Wait for jobs that already make some of these runs: their command was killed, or runs elsewhere."""
    for jobs in others_at_work(root, runs):
        watch = Watch(jobs)
        those = f"{len(jobs)} of these runs" if len(jobs) < len(runs) else "these runs"
        print(f"Slurm job {watch.array} is at work on {those}: waiting for it first", file=sys.stderr)
        pause, most = _POLL_SECONDS
        try:
            while len(watch.ended()) < len(jobs):
                time.sleep(pause)
                pause = min(pause * 1.2, most)
        except KeyboardInterrupt:
            print(f"Slurm job {watch.array} continues; scancel {watch.array} stops it", file=sys.stderr)
            raise


def _submit(
    work: Callable[..., Any], jobs: Sequence[tuple[list[str], int, Any]], settings: Settings, folder: Folder
) -> list[Job[Any]]:
    import submitit
    from submitit.core import utils

    executor = submitit.AutoExecutor(
        folder=folder.path, cluster="slurm", slurm_max_num_timeout=settings.max_num_timeout
    )
    executor.update_parameters(**settings.parameters())
    try:
        # submitit prints the output of sbatch before it raises it; the sweep's view has its own stream.
        with redirect_stderr(StringIO()) as printed:
            submitted: list[Job[Any]] = executor.map_array(work, *zip(*jobs, strict=True))
    except (utils.FailedJobError, subprocess.CalledProcessError) as error:
        folder.discard()
        match = re.search(r"sbatch: error: (?:Batch job submission failed: )?(.*)", str(error))
        reason = f"sbatch does not accept the jobs: {match[1] if match else error}"
        hint = "`sinfo` lists the partitions and their limits; hydra.launcher.… sets what sbatch is given"
        raise UserError("hydra/launcher", "slurm", reason, hint) from error
    sys.stderr.write(printed.getvalue())
    return submitted


def _conclude(job: Job[Any], end: End | None, overrides: list[str], number: int, settings: Settings) -> Any:
    """Return the result of a job that ended; if it has none, record the reason in the ledger."""
    deadline = time.monotonic() + _RESULT_DELAY
    result = job.paths.result_pickle
    while not result.exists() and end and end.state == "COMPLETED" and time.monotonic() < deadline:
        time.sleep(0.5)
    outcome, returned = _load(result)
    if outcome == "success":
        return returned
    log = job.paths.stdout
    reason, for_good = _reason_of(end, returned, _tail(log), settings)
    ledger = Ledger.here()
    before = ledger.of(number) if ledger else None
    begun = before and before.state == "running" and before.folder
    # The log of a run that crashed has the traceback; `Ledger.lost` finds it.
    where = str(log) if log.is_file() and not (begun and for_good) else ""
    if ledger:
        ledger.lost(number, overrides, reason, where)
    if begun and for_good:
        mark_failed(Path(begun), reason)
    return math.nan


def _load(result: Path) -> tuple[str, Any]:
    """Return the outcome of a job by submitit, and its value or traceback; ("", None) if there is none."""
    from submitit.core.utils import pickle_load

    if not result.exists():
        return "", None
    try:
        outcome, returned = pickle_load(result)
    except Exception as error:  # a pickle may raise anything
        return "error", f"its result cannot be read ({type(error).__name__}: {error})"
    return outcome, returned


def _reason_of(end: End | None, traceback: str | None, log: str, settings: Settings) -> tuple[str, bool]:
    """Return why a job has no result, and whether another attempt would end in the same way."""
    if traceback:  # from code around the run; the run itself does not raise
        return traceback.strip().splitlines()[-1], False
    assert end is not None
    if end.state == "TIMEOUT" or end.state == "DEADLINE":
        return settings.out_of_time, False
    if end.state == "CANCELLED" or (end.state == GONE and not log):
        return f"it was cancelled; {_CONTINUES}", False
    if end.state == "OUT_OF_MEMORY" or (end.state == "FAILED" and _MEMORY.search(log)):
        limit = f"mem_gb={settings.mem_gb:g}" if settings.mem_gb else "Slurm gives where mem_gb is null"
        return f"it used more memory than {limit}", True
    if end.state in {"NODE_FAIL", "BOOT_FAIL"}:
        return f"its node failed; {_CONTINUES}", False
    if end.state == "PREEMPTED":
        return f"it was preempted; {_CONTINUES}", False
    if end.state == GONE:
        return f"it ended, and Slurm no longer has its state; {_CONTINUES}", False
    if end.killed_by:
        return f"it was killed by {end.killed_by}", True
    return f"its process ended with status {end.status}", False


def _tail(log: Path) -> str:
    try:
        return log.read_text(encoding="utf-8", errors="replace")[-20_000:]
    except OSError:
        return ""
