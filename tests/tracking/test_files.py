"""Files are written whole or not at all, and what the disk reports becomes one line."""

from __future__ import annotations

import errno
import os
import pickle
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
import torch
from small_disk import small_disk

from nstbench.errors import StorageError
from nstbench.runtime import files
from nstbench.runtime.files import append_text, make_folder, read_regular, write_atomically, write_text
from nstbench.tracking.files import append_row, drop_rows

CHOICES = ("the disk is full", "a file would exceed")


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_a_full_disk_leaves_the_old_file_and_no_part_though_torch_hides_it(tmp_path: Path) -> None:
    """Also with a library that answers an error of the stream with one of its own."""

    def hidden(file: IO[bytes]) -> None:
        try:
            torch.save(torch.rand(200_000), file)
        finally:
            raise RuntimeError("unexpected pos 64 vs 0")

    with small_disk(tmp_path / "disk") as disk:
        path = disk.folder / "checkpoint.ckpt"
        write_text(path, "the one before")
        disk.leave(100_000, largest=100_000)
        for write in (lambda file: torch.save(torch.rand(200_000), file), hidden):
            with pytest.raises(StorageError) as error:
                write_atomically(path, write)
            assert str(error.value).startswith(f"{disk.folder}: ")
            assert error.value.reason.startswith(CHOICES)
        assert path.read_text() == "the one before"
        assert names(disk.folder) == {"checkpoint.ckpt"}
        disk.enlarge()
        picture = torch.rand(200_000)
        write_atomically(path, lambda file: torch.save(picture, file))
        assert torch.equal(torch.load(path, weights_only=True), picture)


@pytest.mark.parametrize("raised", [ValueError("no picture"), KeyboardInterrupt()])
def test_what_the_writer_raises_is_raised_and_leaves_no_part(tmp_path: Path, raised: BaseException) -> None:
    def write(file: IO[bytes]) -> None:
        file.write(b"half")
        raise raised

    write_text(tmp_path / "a", "old")
    with pytest.raises(type(raised)):
        write_atomically(tmp_path / "a", write)
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == {"a"}


def test_a_disk_that_reports_only_when_it_is_asked_to_finish_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As file systems with delayed allocation and network file systems do."""

    def full(file: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError, match="the disk quota is used up"):
        write_text(tmp_path / "run.json", "{}")
    assert names(tmp_path) == set()


def test_a_name_as_long_as_a_file_system_allows_can_be_written(tmp_path: Path) -> None:
    write_text(tmp_path / ("é" * 127), "x")
    assert names(tmp_path) == {"é" * 127}


def test_no_half_row_is_left_on_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    row = {"evaluation": 0, "loss": "0.123456789"}
    append_row(path, row)
    before = path.read_bytes()
    with no_file_beyond(len(before) + 5), pytest.raises(StorageError, match=f"^{tmp_path}: "):
        append_text(path, "1,0.987654321\n")  # of which five bytes can be written
    assert path.read_bytes() == before


def test_a_table_whose_first_row_had_no_room_has_a_header_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    with no_file_beyond(5), pytest.raises(StorageError):
        append_row(path, {"evaluation": 0, "loss": 1})
    append_row(path, {"evaluation": 0, "loss": 1})
    assert path.read_text() == "evaluation,loss\n0,1\n"


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        (b"evaluation,loss\n0,1\n10,2\n20,3\n", b"evaluation,loss\n0,1\n10,2\n"),
        (b"evaluation,loss\n0,1\n10,2\n15,", b"evaluation,loss\n0,1\n10,2\n"),
        (b'evaluation,loss\n0,1\n"x,2\n\xff\xfe,\n10,2,7\n10,2\n\n', b"evaluation,loss\n0,1\n10,2\n"),
        (b"evaluation,loss\n30,1\n", None),
        (b"evaluation,lo", None),
        (b"", None),
    ],
)
def test_rows_of_a_later_step_and_damaged_ones_are_dropped(
    tmp_path: Path, left: bytes, kept: bytes | None
) -> None:
    path = tmp_path / "curves.csv"
    path.write_bytes(left)
    drop_rows(path, 20)
    assert (path.read_bytes() if path.exists() else None) == kept


def test_a_pipe_in_the_place_of_a_file_does_not_hang(tmp_path: Path) -> None:
    pipe = tmp_path / "curves.csv"
    os.mkfifo(pipe)
    for use in (lambda: append_text(pipe, "x"), lambda: drop_rows(pipe, 1)):
        with pytest.raises(StorageError, match=r"curves\.csv cannot be written \(.*not a regular file\)"):
            use()
    with pytest.raises(OSError, match="not a regular file"):
        read_regular(pipe)
    write_text(pipe, "x")  # replaced: nothing is written to the pipe
    assert pipe.read_text() == "x"


def test_nothing_is_appended_to_what_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "commands.txt").symlink_to(tmp_path / "mine.txt")
    with pytest.raises(StorageError, match=r"commands\.txt cannot be written \(it is a link\)"):
        append_text(tmp_path / "commands.txt", "nstbench run")
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "canvas.png" / "x").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"canvas\.png is a folder, and a file is to be written there"):
        write_text(tmp_path / "canvas.png", "x")
    write_text(tmp_path / "snapshots", "x")
    with pytest.raises(StorageError, match="a file is in the place of a folder"):
        make_folder(tmp_path / "snapshots")
    with pytest.raises(StorageError, match=f"^{tmp_path}/gone: the folder was removed or moved"):
        write_text(tmp_path / "gone" / "run.json", "x")
    assert names(tmp_path) == {"canvas.png", "snapshots"}


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EIO", "ENOENT", "ELOOP"])
def test_the_message_is_one_line_that_says_what_to_do_and_travels(number: str) -> None:
    code = getattr(errno, number)
    error = StorageError(Path("outputs/first/x"), OSError(code, os.strerror(code)), Path("run.json"))
    text = str(pickle.loads(pickle.dumps(error)))
    assert text == str(error)
    assert text.startswith("outputs/first/x: ")
    assert "then type the same command: it continues where it stopped" in text
    assert "\n" not in text
    assert error.errno == code
