"""Disks that run full, of bytes or of files, and folders that vanish, while a command writes."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

from benchmarks.robustness.commands import run_command
from benchmarks.robustness.damage import new_folder
from benchmarks.robustness.moments import Action, act_at, choose_moment, fill_disk, remove_folder
from benchmarks.robustness.studies import (
    Fault,
    Setup,
    Setups,
    Undisturbed,
    faults_of_outcome,
    faults_of_results,
)
from benchmarks.robustness.tally import Tally

_CLONE_NEWNS = 0x00020000
_ROOM = 64 * 2**20  # bytes: more than any of these runs takes
_VARIANTS: tuple[tuple[str, ...], ...] = (
    (),
    ("record.snapshot_every=1",),
    ("logger=tensorboard", "record.diagnostics_every=1"),
    ("logger=csv", "metrics=fast"),
)
_SETUPS = [Setup(launcher, stages, "adam") for launcher in ("single", "basic", "pool") for stages in (1, 2)]


def run_disks(tally: Tally, count: int, seed: int, folder: Path) -> None:
    """Run on file systems of their own that fail at random moments, then with room again."""
    new_folder(folder)
    reason = _cannot_mount(folder)
    if reason:
        print(f"disks: SKIPPED, nothing was tried: {reason}", flush=True)
        return
    setups = Setups(folder / "undisturbed")
    setup_list = [*_SETUPS, Setup("batched", 1, "adam")]
    for number in range(count):
        rng = Random(f"{seed}/disks/{number}")
        setup = replace(setup_list[number % len(setup_list)], extra=rng.choice(_VARIANTS))
        reference = setups.of(setup)
        trial = new_folder(folder / "trial")
        disk = trial / "disk"
        disk.mkdir()
        name, options, action = _choose(disk, rng)
        moment = choose_moment(reference.moments, rng) if action else None
        with _mounted(disk, options):
            prepare = act_at(disk / "out", moment, action) if moment and action else None
            faults, failed = _fail_and_repeat(reference, trial, disk, prepare)
        tally.counts["failed for want of room"] += failed
        if "removed" in name:  # a run of a batch whose folder is gone begins anew, alone
            faults = [fault for fault in faults if fault.kind != "company"]
        tally.add(f"{setup}; {name}{f' before {moment}' if moment else ''}", faults)


def _choose(disk: Path, rng: Random) -> tuple[str, str, Action | None]:
    """Return what happens, in words, how to mount the disk, and what does it; None: its size."""
    means = rng.choice(("small", "small", "filled", "filled", "filled", "vanished", "files"))
    if means == "small":
        size = int(2 ** rng.uniform(12, 20))
        return f"a disk of {size // 1024} KiB", f"size={size}", None
    if means == "filled":
        left = rng.choice((0, 0, 4096, 16384))
        return f"filled up to {left} bytes", f"size={_ROOM}", fill_disk(disk / "ballast", left)
    if means == "vanished":
        return "the run's folder removed", f"size={_ROOM}", remove_folder(disk / "out")
    files = rng.randint(2, 30)
    return f"a disk for {files} files", f"size={_ROOM},nr_inodes={files}", None


def _fail_and_repeat(
    reference: Undisturbed, trial: Path, disk: Path, prepare: Callable[[], None] | None
) -> tuple[list[Fault], bool]:
    """Run, make room, and run again; return the faults, and whether the first attempt failed."""
    output = disk / "out"
    arguments = reference.setup.arguments(output, reference.pictures)
    outcome = run_command(arguments, trial, prepare=prepare)
    faults = faults_of_outcome(outcome, (0, 1, 2), "without room")
    failed = outcome.status != 0
    if failed and not faults and str(disk) not in outcome.output:
        faults.append(Fault("folder not named", outcome.last_line[:200]))
    _mount("-o", f"remount,size={_ROOM},nr_inodes=0", str(disk))
    (disk / "ballast").unlink(missing_ok=True)
    again = run_command([*arguments, "retry_failed=true"], trial)
    faults += faults_of_outcome(again, what="with room again")
    return [*faults, *faults_of_results(reference, output)], failed


def _cannot_mount(folder: Path) -> str:
    """Return why no file system can be mounted; "": one can. Mounts are then this process's own."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "only root may mount a file system"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        return f"mounts cannot be kept to this process ({os.strerror(ctypes.get_errno())})"
    try:
        _mount("--make-rprivate", "/")
        with _mounted(folder, "size=1m"):
            pass
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no file system can be mounted ({error})"
    return ""


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount an empty file system."""
    _mount("-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)
