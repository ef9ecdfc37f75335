"""Sweeps on a real Slurm (`.ci/slurm` starts one); and what is said where there is none."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from conftest import with_tiny
from misbehaviour import misbehaving
from test_surviving import BADLY, WELL, how, pictures, records, start, sweep, wait_until

from nstbench.cli import main
from nstbench.errors import UserError
from nstbench.sweeps.launchers.slurm import Settings, checked, on_slurm
from nstbench.sweeps.launchers.slurm_folders import Folder, clear_away, others_at_work
from nstbench.sweeps.launchers.slurm_states import GONE, End, Watch

_GIVEN = {
    "timeout_min": 60,
    "max_num_timeout": 3,
    "signal_delay_s": 120,
    "cpus_per_task": 1,
    "array_parallelism": 256,
    "submitit_folder": "logs",
}


@cache  # sinfo waits 9 s for a Slurm that is installed and does not run
def why_no_slurm() -> str:
    """Return why jobs cannot be tried here; "" if they can."""
    for program in ("sbatch", "scontrol", "sinfo"):
        if shutil.which(program) is None:
            return f"there is no {program}: .ci/slurm installs a Slurm"
    nodes = subprocess.run(["sinfo", "-hNo", "%T"], capture_output=True, text=True, timeout=30).stdout.split()
    if not {"idle", "mixed", "allocated", "completing"} & set(nodes):
        return f"Slurm has no node that works, but {nodes or 'none at all'}: .ci/slurm starts one"
    try:
        checked(_GIVEN)
    except UserError as error:
        return str(error)
    return ""


@pytest.fixture
def slurm(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Return settings for small jobs on the Slurm of this machine; leave none in its queue."""
    if reason := why_no_slurm():
        pytest.skip(reason)
    name = f"nstbench-test-{os.getpid()}"
    yield [
        *("hydra/launcher=slurm", "hydra.launcher.timeout_min=5", "hydra.launcher.mem_gb=1"),
        f"hydra.launcher.additional_parameters={{job_name: {name}}}",
    ]
    subprocess.run(["scancel", "--signal=KILL", f"--name={name}"], check=True)
    subprocess.run(["scancel", f"--name={name}"], check=True)


def inputs(pair: dict[str, str], study: str) -> list[str]:
    return [f"content={pair['photo']}", f"style={pair['painting']}", "output=out", f"study={study}"]


def array(study: Path) -> str:
    """Return the number of the study's latest job."""
    (*_, last) = sorted(int(f.name.split("_")[0]) for f in study.glob(".sweep/.submitit/*/*_submission.sh"))
    return str(last)


def printed_by(study: Path, element: int) -> Path:
    """Return the file of what a job of the study's latest array printed."""
    (found,) = study.glob(f".sweep/.submitit/*/{array(study)}_{element}_0_log.out")
    return found


def rows(study: Path, which: str = "*") -> int:
    return sum(len(file.read_bytes().splitlines()) - 1 for file in study.glob(f"{which}/curves.csv"))


def test_a_cancelled_run_is_completed_by_the_same_command(
    tmp_path: Path, pair: dict[str, str], slurm: list[str]
) -> None:
    arguments = [
        *misbehaving(tmp_path / "own"),
        *inputs(pair, "cancelled"),
        *("loss.regularizer.misbehave.how=well,raise,abort", "steps=2500"),
        *("record.checkpoint_every=100000", "record.curves_every=1", *slurm),
    ]
    study = tmp_path / "out" / "cancelled"
    process = start(*arguments)
    wait_until(rows(study) > 30 or process.poll() is not None for _ in iter(int, 1))
    subprocess.run(["scancel", f"{array(study)}_0"], check=True)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 1, printed
    summary = printed.partition("3 runs:")[2]
    assert summary.startswith(" 0 completed, 3 failed"), printed
    for name, reason in (
        ("well", "it was cancelled; the same command continues it"),
        ("raise", "RuntimeError: the loss is out of order"),
        ("abort", "it was killed by SIGABRT"),
    ):
        assert re.search(rf"\.how={name} .*{reason}", summary), printed
    assert "sacct" not in printed
    assert str(printed_by(study, 0)) in summary
    by_how = {how(record): record for record in records(study).values()}
    assert {name: r.state for name, r in by_how.items()} == {
        "well": "running",
        "raise": "failed",
        "abort": "failed",
    }
    folder = study / by_how["well"].run_id
    assert (folder / "checkpoint.ckpt").is_file()  # though none was due: it stopped where it can continue
    begun = (folder / "curves.csv").read_bytes().splitlines()

    printed = sweep(*arguments, status=1)
    assert "3 runs: 1 completed, 2 failed" in printed
    curves = (folder / "curves.csv").read_bytes().splitlines()
    assert len(curves) == 1 + 2501
    assert curves[: len(begun)] == begun
    assert not [*study.glob(".sweep/.submitit/*/*.pkl")]


@pytest.mark.slow
def test_runs_that_raise_crash_hoard_and_hang_fail_alone(
    tmp_path: Path, pair: dict[str, str], slurm: list[str]
) -> None:
    values = ",".join([*BADLY, *WELL])
    printed = sweep(
        *misbehaving(tmp_path / "own"),
        *inputs(pair, "bad"),
        *(f"loss.regularizer.misbehave.how={values}", "steps=20", *slurm),
        *("hydra.launcher.timeout_min=1", "hydra.launcher.max_num_timeout=0"),
        status=1,
    )
    by_how = {how(record): record for record in records(tmp_path / "out" / "bad").values()}
    assert {name for name, record in by_how.items() if record.state == "completed"} == set(WELL)
    assert "12 runs: 8 completed, 4 failed" in printed
    for name, reason in (
        ("raise", "RuntimeError: the loss is out of order"),
        ("abort", "it was killed by SIGABRT"),
        ("memory", "it used more memory than mem_gb=1"),
        ("hang", "it ran out of time (timeout_min=1, max_num_timeout=0)"),
    ):
        assert f"misbehave.how={name}: {reason}" in printed
    hung = printed_by(tmp_path / "out" / "bad", BADLY.index("hang"))
    assert "misbehaviour.py" in hung.read_text()  # where it hangs
    # What another try may end otherwise stays open; what crashed does not.
    assert {name: by_how[name].state for name in BADLY} == {
        "raise": "failed",
        "abort": "failed",
        "memory": "failed",
        "hang": "running",
    }


@pytest.mark.slow
def test_a_requeued_run_ends_with_the_same_bytes(
    tmp_path: Path, pair: dict[str, str], slurm: list[str]
) -> None:
    arguments = [
        *("canvas.start=noise", "seed=0,1", "steps=2500", "record.checkpoint_every=100000"),
        *("record.curves_every=1", "metrics=fast"),
    ]
    sweep(*inputs(pair, "whole"), *arguments)
    study = tmp_path / "out" / "requeued"
    process = start(*inputs(pair, "requeued"), *arguments, *slurm)
    wait_until(rows(study, "*-s1-*") > 30 or process.poll() is not None for _ in iter(int, 1))
    # As Slurm does when the time is nearly over: to wait for that takes minutes.
    subprocess.run(["scancel", "--signal=USR2", f"{array(study)}_1"], check=True)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    log = printed_by(study, 1).read_text()
    assert log.count("Requeued job") == 1
    assert pictures(study) == pictures(tmp_path / "out" / "whole")
    assert {rows(study, name) for name in pictures(study)} == {2501}


@pytest.mark.slow
def test_a_run_past_all_its_attempts_is_out_of_time(
    tmp_path: Path, pair: dict[str, str], slurm: list[str]
) -> None:
    arguments = [*misbehaving(tmp_path / "own"), *inputs(pair, "late"), "steps=200", *slurm]
    arguments += ["loss.regularizer.misbehave.how=hang,well", "record.checkpoint_every=5"]
    arguments += ["record.curves_every=1", "hydra.launcher.timeout_min=1", "hydra.launcher.max_num_timeout=1"]
    study = tmp_path / "out" / "late"
    printed = sweep(*arguments, status=1)
    assert "2 runs: 1 completed, 1 failed" in printed
    assert "how=hang: it ran out of time (timeout_min=1, max_num_timeout=1)" in printed
    log = printed_by(study, 0).read_text()
    assert log.count("Starting with JobEnvironment") / log.count("Loading pickle") == 1
    assert log.count("Loading pickle") == 2  # attempts
    # Each hung at its twelfth evaluation, so the second went on from where the first had left a checkpoint.
    (late,) = (r for r in records(study).values() if how(r) == "hang")
    assert rows(study, late.run_id) > 12


@pytest.mark.slow
def test_ctrl_c_cancels_the_jobs_where_they_can_continue(
    tmp_path: Path, pair: dict[str, str], slurm: list[str]
) -> None:
    study = tmp_path / "out" / "stopped"
    process = start(
        *(*inputs(pair, "stopped"), "canvas.start=noise", "seed=range(4)", "steps=200000"),
        *("record.checkpoint_every=100000", "record.curves_every=1", *slurm),
    )
    wait_until(rows(study) > 30 or process.poll() is not None for _ in iter(int, 1))
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert "Traceback" not in printed
    assert "4 runs: 0 completed, 4 not finished, 0 failed" in printed
    left = subprocess.run(["squeue", "-h", "-j", array(study)], capture_output=True, text=True).stdout
    assert not left
    begun = records(study)
    assert begun
    assert {record.state for record in begun.values()} == {"running"}
    assert [*study.glob("*/checkpoint.ckpt")]
    assert not [*study.glob(".sweep/.submitit/*/*.pkl")]


def test_what_sbatch_does_not_take_is_told(tmp_path: Path, pair: dict[str, str], slurm: list[str]) -> None:
    process = start(
        *inputs(pair, "refused"), "seed=0,1", *slurm, "hydra.launcher.partition=no-such-partition"
    )
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 2, printed
    assert printed.count("no-such-partition") == 1  # not sbatch's own words as well
    assert "sbatch does not accept the jobs: invalid partition specified: no-such-partition" in printed
    assert "Traceback" not in printed
    assert not [*(tmp_path / "out" / "refused" / ".sweep" / ".submitit").iterdir()]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that puts programs of Slurm's in the way that say what they are told to."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def install(program: str, printed: str = "", error: str = "", status: int = 0) -> None:
        (folder / f"{program}.said").write_text(printed)
        script = f'#!/bin/sh\ncat "{folder}/{program}.said"\necho "{error}" >&2\nexit {status}\n'
        (folder / program).write_text(script)
        (folder / program).chmod(0o755)

    return install


def test_slurm_is_asked_how_jobs_ended(fake: Callable[..., None]) -> None:
    fake("sacct", error="Slurm accounting storage is disabled", status=1)
    fake(
        "scontrol",
        "JobId=20 ArrayJobId=16 ArrayTaskId=3-5,8%2 JobName=x JobState=PENDING Reason=None ExitCode=0:0 \n"
        "JobId=17 ArrayJobId=16 ArrayTaskId=0 JobState=FAILED Reason=NonZeroExitCode ExitCode=134:0 \n"
        "JobId=18 ArrayJobId=16 ArrayTaskId=1 JobState=CANCELLED ExitCode=0:15 \n"
        "JobId=19 ArrayJobId=16 ArrayTaskId=2 JobState=COMPLETING ExitCode=0:0 \n",
    )
    watch = Watch([f"16_{i}" for i in (0, 1, 2, 3, 4, 5, 6, 8)])
    found = watch.ended()
    assert found == {"16_0": End("FAILED", 134, 0), "16_1": End("CANCELLED", 0, 15)}
    assert found["16_0"].killed_by == "SIGABRT"
    assert End("FAILED", 3).killed_by == ""
    # Of an element that is cancelled before it starts Slurm keeps nothing; one look may have missed it.
    assert watch.ended()["16_6"] == End(GONE)
    fake("sacct", "16_6|CANCELLED by 0|0:0\n16_[3-5,8]|PENDING|0:0\n")
    assert watch.ended()["16_6"] == End("CANCELLED")


def test_a_slurm_that_does_not_answer_has_lost_no_job(fake: Callable[..., None]) -> None:
    fake("scontrol", error="slurm_load_jobs error: Unable to contact slurm controller", status=1)
    watch = Watch(["16"])
    assert [watch.ended() for _ in range(3)] == [{}, {}, {}]
    fake("scontrol", error="slurm_load_jobs error: Invalid job id specified", status=1)
    fake("sacct", "16|NODE_FAIL|1:0\n")
    assert [watch.ended() for _ in range(2)] == [{}, {"16": End("NODE_FAIL", 1)}]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"timeout_min": "long"}, r"hydra.launcher.timeout_min=long: .*integer"),
        ({"timeout_min": 0}, r"hydra.launcher.timeout_min=0: it must be greater than or equal to 1"),
        ({"mem_gb": -1}, r"hydra.launcher.mem_gb=-1: it must be greater than 0"),
        ({"mem_gd": 4}, r"hydra.launcher.mem_gd=4: .* Did you mean mem_gb"),
    ],
)
def test_settings_are_checked(fake: Callable[..., None], given: dict[str, object], told: str) -> None:
    pytest.importorskip("submitit")
    fake("sbatch")
    with pytest.raises(UserError, match=told):
        checked({**_GIVEN, **given})


def test_runs_are_warned_within_the_time_that_submitit_takes_for_over(fake: Callable[..., None]) -> None:
    pytest.importorskip("submitit")
    fake("sbatch")
    for minutes in (1, 5, 30, 50, 60, 600):
        for delay in (1, 120, 100_000):
            settings = checked({**_GIVEN, "timeout_min": minutes, "signal_delay_s": delay})
            assert 1 <= settings.warning <= delay
            # submitit: before min(4/5, all but ten minutes) of the time it is a preemption, which are free.
            limit = 60 * minutes
            assert limit - settings.warning - 60 >= min(0.8 * limit, limit - 600)
            assert 0 < settings.grace < settings.warning


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("mem_gb=abc", "hydra.launcher.mem_gb=abc: it must be a valid number"),
        ("setup=foo", "hydra.launcher.setup=foo: it must be a valid list"),
        ("timeout_min=null", "hydra.launcher.timeout_min=null: it must be a valid integer"),
    ],
)
def test_a_setting_that_cannot_be_used_is_told_in_one_line(
    fake: Callable[..., None], capfd: pytest.CaptureFixture[str], typed: str, told: str
) -> None:
    pytest.importorskip("submitit")
    fake("sbatch")
    assert main(["run", "-m", *with_tiny("seed=0,1", "hydra/launcher=slurm", f"hydra.launcher.{typed}")]) == 2
    err = capfd.readouterr().err
    assert err.startswith(f"nstbench: {told}")
    assert err.count("\n") == 1


def test_other_jobs_that_do_the_same_runs_are_found(fake: Callable[..., None], tmp_path: Path) -> None:
    fake("squeue")
    folder = Folder.new(tmp_path / "jobs", [["a=1", "b=2"], ["a=2", "b=2"], ["a=3", "b=2"]], 0)
    script = folder.path / ".submission_file_0.sh"
    queued = f"12|{script}\n12|{script}\n13|{tmp_path}/others/x-1-0/script.sh\n14|\n"
    fake("squeue", queued)
    runs = [["b=2", "a=3"], ["a=4", "b=2"], ["a=1", "b=2"]]
    assert others_at_work(tmp_path / "jobs", runs) == [["12_0", "12_2"]]
    assert others_at_work(tmp_path / "jobs", runs[1:2]) == []
    folder.close()
    assert others_at_work(tmp_path / "jobs", runs) == []
    fake("squeue", status=1, error="Unable to contact slurm controller")
    assert others_at_work(tmp_path / "jobs", runs) == []


def test_pickles_are_cleared_away_where_neither_a_command_nor_a_job_is_left(
    fake: Callable[..., None], tmp_path: Path
) -> None:
    here = socket.gethostname()
    names = ["dead", "queued", "alive", "far", "far_and_old"]
    of = dict(
        zip(names, [f"{here}-999999999-0", f"{here}-999999999-7", f"{here}-{os.getpid()}-0"], strict=False)
    )
    of |= {"far": "node7-1-0", "far_and_old": "node7-1-1"}
    for name in names:
        (tmp_path / of[name]).mkdir()
        for file in ("12_0_submitted.pkl", "12_0_result.pkl", "12_0_0_log.out"):
            (tmp_path / of[name] / file).touch()
    os.utime(tmp_path / of["far_and_old"], (0, 0))

    def left() -> set[str]:
        return {name for name in names if [*(tmp_path / of[name]).glob("*.pkl")]}

    fake("squeue", status=1, error="Unable to contact slurm controller")
    clear_away(tmp_path, now=time.time)
    assert left() == set(names)
    fake("squeue", f"12|{tmp_path / of['queued']}/.submission_file_0.sh\n")
    clear_away(tmp_path, now=time.time)
    assert left() == {"queued", "alive", "far"}
    assert len([*tmp_path.glob("*/*.out")]) == len(names)


@pytest.mark.parametrize("lacking", ["sbatch", "submitit"])
def test_without_slurm_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], lacking: str
) -> None:
    if lacking == "sbatch":
        pytest.importorskip("submitit")
        monkeypatch.setenv("PATH", str(tmp_path))
        told = "there is no sbatch on this machine"
    else:
        monkeypatch.setattr("nstbench.sweeps.launchers.slurm.find_spec", lambda name: None)
        told = 'hydra-submitit-launcher is not installed. Type pip install "nstbench[slurm]".'
    assert main(["run", "-m", *with_tiny("seed=0,1", "hydra/launcher=slurm")]) == 2
    err = capfd.readouterr().err
    assert err.startswith(f"nstbench: hydra/launcher=slurm: {told}")
    assert err.count("\n") == 1


def test_the_option_composes_and_can_be_based_upon(tmp_path: Path) -> None:
    from hydra import compose, initialize_config_dir

    from nstbench.config.files import conf_dir

    own = tmp_path / "own" / "hydra" / "launcher" / "cluster.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("defaults: [slurm]\naccount: physics\nsetup: ['module load cuda']\n")
    overrides = ["hydra/launcher=cluster", f"hydra.searchpath=[file://{tmp_path / 'own'}]"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        node = compose("config", overrides=overrides, return_hydra_config=True).hydra.launcher
    assert node["_target_"] == "hydra_plugins.nstbench_launchers.slurm.SlurmLauncher"
    assert node.keys() == {"_target_", *Settings.__annotations__}
    assert (node.account, list(node.setup)) == ("physics", ["module load cuda"])
    assert node.max_num_timeout > 0  # our runs do continue


def test_jobs_of_a_killed_command_are_waited_for_and_not_submitted_again(
    tmp_path: Path, pair: dict[str, str], slurm: list[str]
) -> None:
    arguments = [*inputs(pair, "killed"), "canvas.start=noise", "seed=0,1", "steps=1500"]
    arguments += ["record.curves_every=1", "hydra.launcher.array_parallelism=1", *slurm]
    study = tmp_path / "out" / "killed"
    process = start(*arguments)
    wait_until(rows(study) > 30 or process.poll() is not None for _ in iter(int, 1))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    first = array(study)
    printed = sweep(*arguments)
    assert f"Slurm job {first} is at work on these runs: waiting for it first" in printed
    assert "2 runs: 0 completed, 2 done before, 0 failed" in printed
    assert {rows(study, name) for name in pictures(study)} == {1501}
    assert not [*study.glob(".sweep/.submitit/*/*.pkl")]
    assert not [*study.glob(".sweep/.submitit/*/*.json")]
    assert "waiting" not in sweep(*arguments)


def test_what_sbatch_says_is_printed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("submitit")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in (
        ("srun", "exit 0"),
        ("squeue", "exit 0"),
        ("sbatch", "echo sbatch: error: no such queue >&2; exit 1"),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    settings = checked(_GIVEN | {"submitit_folder": str(tmp_path / "jobs")})
    with pytest.raises(UserError, match="sbatch does not accept the jobs: no such queue"):
        on_slurm(print, [(["seed=1"], 0, None), (["seed=2"], 1, None)], settings)
    assert "no such queue" not in capsys.readouterr().err
