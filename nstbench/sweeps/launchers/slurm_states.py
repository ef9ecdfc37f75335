"""The states of Slurm's jobs. Slurm's accounting database, which few small clusters have, is not needed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# In all other states the job has ended.
_ALIVE = {
    *("CONFIGURING", "COMPLETING", "PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESIZING"),
    *("RUNNING", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "SUSPENDED"),
}
GONE = "GONE"
"""State of a job that Slurm does not know any more: cancelled before it started, or ended long ago."""


@dataclass(frozen=True)
class End:
    """The final state of a job.

    Attributes:
        state: State by Slurm's name, or `GONE`.
        status: Exit status.
        signal: Number of the signal that killed the job; 0: none.
    """

    state: str
    status: int = 0
    signal: int = 0

    @property
    def killed_by(self) -> str:
        """The name of the signal that killed it; "" if none did."""
        # The shell that waits for srun, which waits for the run, reports a signal as 128 plus its number.
        number = self.signal or (self.status - 128 if self.status > 128 else 0)
        try:
            return signal.Signals(number).name
        except ValueError:
            return ""


class Watch:
    """The states of the jobs of an array, or of a single job.

    Args:
        ids: Names of the jobs as in submitit: ``12_0``, ``12_1``, …; or ``12``.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = list(ids)
        self.array = ids[0].partition("_")[0]
        self._missed: dict[str, int] = {}

    def ended(self) -> dict[str, End]:
        """Return the ended jobs with their states; {} while Slurm does not answer."""
        asked = _call("scontrol", "--oneliner", "show", "job", self.array)
        if asked.returncode and "Invalid job id" not in asked.stderr:
            return {}
        known = dict(_parse(asked.stdout))
        for each in self.ids:
            # Twice: an element of an array may be missing while it moves from the queue to a node.
            self._missed[each] = 0 if each in known else self._missed.get(each, 0) + 1
        forgotten = [each for each in self.ids if self._missed[each] > 1]
        if forgotten:
            database = _from_database(self.array)
            known |= {each: database.get(each, End(GONE)) for each in forgotten}
        return {each: known[each] for each in self.ids if each in known and known[each].state not in _ALIVE}


def in_queue() -> list[tuple[str, str]] | None:
    """Return number and script of this user's waiting and running jobs; None if Slurm does not answer.

    An array has one number, and may be listed several times.
    """
    asked = _call("squeue", "--noheader", f"--user={os.getuid()}", "--format=%F|%o")
    if asked.returncode:
        return None
    parts = (line.strip().partition("|") for line in asked.stdout.splitlines())
    return [(array, script) for array, _, script in parts if script]


def _parse(lines: str) -> Iterator[tuple[str, End]]:
    """Yield the jobs of ``scontrol``'s output: a line for each, but one for all waiting jobs of an array."""
    for line in lines.splitlines():
        fields = dict(re.findall(r"(\w+)=(\S*)", line))
        if "JobState" not in fields:
            continue
        array, elements = fields.get("ArrayJobId"), fields.get("ArrayTaskId")
        end = _parse_end(fields["JobState"], fields.get("ExitCode", ""))
        if array is None or elements is None:
            yield fields["JobId"], end
            continue
        for part in elements.partition("%")[0].split(","):
            first, _, last = part.partition("-")
            for element in range(int(first), int(last or first) + 1):
                yield f"{array}_{element}", end


def _from_database(array: str) -> dict[str, End]:
    """Return the jobs that Slurm's accounting database has, if there is one."""
    fields = "--format=JobID,State,ExitCode"
    asked = _call("sacct", "--allocations", "--noheader", "--parsable2", fields, f"--jobs={array}")
    rows = [line.split("|") for line in asked.stdout.splitlines()]
    return {row[0]: _parse_end(row[1].split()[0], row[2]) for row in rows if len(row) == 3 and row[1]}


def _parse_end(state: str, exit_code: str) -> End:
    status, _, number = exit_code.partition(":")
    return End(state, int(status or 0), int(number or 0))


def _call(*command: str) -> subprocess.CompletedProcess[str]:
    # Without the variable Slurm cuts the numbers of an array's elements short.
    environment = {**os.environ, "SLURM_BITSTR_LEN": "0"}
    try:
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))
