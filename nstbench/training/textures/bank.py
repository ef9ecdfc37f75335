"""The bank of textures for training: a file that is rendered once and read many times."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

import numpy as np
from numpy.lib.format import open_memmap

from nstbench.runtime.files import storage
from nstbench.training.schema import BankSettings
from nstbench.training.textures import texture
from nstbench.training.textures.fields import Array

_GENERATOR = 1  # version, to be increased when the same numbers give other pictures


def identity(settings: BankSettings) -> str:
    """Return a name for the pictures of these settings."""
    text = f"{_GENERATOR} {settings.programs} {settings.pictures} {settings.size} {settings.seed}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def bank_bytes(settings: BankSettings) -> int:
    """Return the size of the pictures in bytes."""
    return settings.programs * settings.pictures * settings.size**2 * 3


def _render(path: str, settings: BankSettings, number: int) -> None:
    """Draw all pictures of one program and write them to the file."""
    bank = open_memmap(path, mode="r+")
    program = texture(number)
    for k in range(settings.pictures):
        bank[number, k] = program.picture((settings.seed, number, k), settings.size)


def _start_worker() -> None:
    """Ignore Ctrl-C, which the parent handles, and exit when the parent exits or is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def exit_with_parent() -> None:
        parent.join()
        os._exit(1)

    Thread(target=exit_with_parent, daemon=True).start()


def render(settings: BankSettings, folder: Path, workers: int) -> Generator[int, None, None]:
    """Draw a bank unless its file exists, and yield the number of programs done.

    The file is complete or absent: it is drawn under another name and moved into place. If two
    processes need the same bank, one draws it and the other waits.

    Args:
        settings: Settings of the bank.
        folder: Folder of the file.
        workers: Number of processes that draw.

    Raises:
        StorageError: If it does not fit on the disk.
    """
    path = bank_file(settings, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _exclusive_lock(folder / f".{path.stem}.lock") as locked:
        if path.exists():
            yield settings.programs
            return
        for abandoned in folder.glob(f"{path.stem}.*.part") if locked else ():
            abandoned.unlink()  # gigabytes, left by a killed process
        drawing = path.with_suffix(f".{os.getpid()}.part")
        shape = (settings.programs, settings.pictures, settings.size, settings.size, 3)
        try:
            with storage(folder):
                open_memmap(drawing, mode="w+", dtype=np.uint8, shape=shape).flush()
                _reserve(drawing)
            yield from _drawn(drawing, settings, workers)
            with storage(folder):
                drawing.replace(path)
        finally:
            with suppress(OSError):
                drawing.unlink(missing_ok=True)


def _reserve(path: Path) -> None:
    """Allocate the disk space of a sparse file: writing to its map on a full disk kills the process."""
    if not hasattr(os, "posix_fallocate"):
        return
    file = os.open(path, os.O_RDWR)
    try:
        os.posix_fallocate(file, 0, os.fstat(file).st_size)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # not supported by this file system
            raise
    finally:
        os.close(file)


def _drawn(path: Path, settings: BankSettings, workers: int) -> Iterator[int]:
    """Draw all programs in worker processes and yield the number done."""
    # Spawned, not forked: a process that has used torch's threads cannot be forked safely.
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker) as pool:
        ahead = min(4 * workers, settings.programs)  # a pool with many queued jobs is slow to stop
        jobs: deque[Future[None]] = deque()
        try:
            for n in range(settings.programs + ahead):
                if n < settings.programs:
                    jobs.append(pool.submit(_render, str(path), settings, n))
                if n >= ahead:
                    jobs.popleft().result()
                    yield n - ahead + 1
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _exclusive_lock(lock: Path) -> Iterator[bool]:
    """Wait for the lock; yield whether it is held: some systems do not support locks."""
    with lock.open("w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
            locked = True
        except (ImportError, OSError):
            locked = False
        yield locked


def bank_file(settings: BankSettings, folder: Path) -> Path:
    """Return the path of the bank of these settings."""
    return folder / f"textures-{identity(settings)}.npy"


def open_bank(settings: BankSettings, folder: Path) -> Array:
    """Return the pictures ``(programs, pictures, size, size, 3)``, uint8, mapped from the file."""
    bank: Array = np.load(bank_file(settings, folder), mmap_mode="r")
    return bank
