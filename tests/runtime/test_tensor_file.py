"""Files of tensors: what is written is read, and whatever happens to a file is noticed."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nstbench.runtime.files import write_atomically
from nstbench.runtime.tensor_file import DamagedFileError, digest, read_tensors, read_values, write_tensors

TREE: dict[str, Any] = {
    "canvas": {"pixels": torch.linspace(0, 1, 60).reshape(1, 3, 4, 5)},
    "optimizer": {0: {"step": torch.tensor(3.0), "pairs": [torch.arange(4), None], "betas": (0.9, 0.999)}},
    "bf16": torch.ones(3, dtype=torch.bfloat16),
    "flags": torch.tensor([True, False]),
    "empty": torch.zeros(0, 2),
    "name": "café",
    "infinite": float("inf"),
}


def write(path: Path, tree: dict[Any, Any]) -> None:
    write_atomically(path, lambda file: write_tensors(file, tree))


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.builds(
        lambda n, t: torch.arange(n).to(t), st.integers(0, 5), st.sampled_from([torch.float64, torch.int8])
    )
)
keys = st.text() | st.integers()
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(tree=st.dictionaries(keys, trees, max_size=4))
def test_what_is_written_is_read(tree: dict[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("tree") / "file"
    write(path, tree)
    assert same(read_tensors(path), tree)


def test_rows_of_a_batch_are_written_alone(tmp_path: Path) -> None:
    batch = torch.rand(1000, 3)
    write(tmp_path / "file", {"row": batch[7:8].T})
    assert (tmp_path / "file").stat().st_size < 1000
    assert torch.equal(read_tensors(tmp_path / "file")["row"], batch[7:8].T)


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, TREE)
    whole, rng = path.read_bytes(), random.Random(0)
    # All of the header, where a flip may turn one sound number into another, and some of the tensors.
    for place in [*range(len(whole) - 320), *rng.sample(range(len(whole)), 60)]:
        broken = bytearray(whole)
        broken[place] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        with pytest.raises(DamagedFileError):
            read_tensors(path)


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 100, -300, -1])
def test_a_file_that_was_cut_is_noticed(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "file"
    write(path, TREE)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DamagedFileError):
        read_tensors(path)


def test_more_bytes_than_there_should_be_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, TREE)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DamagedFileError, match="does not match its hash"):
        read_tensors(path)


def test_files_of_other_formats_are_refused_and_no_code_is_run(tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / "file"
    torch.save({"canvas": Malicious()}, path)
    with pytest.raises(DamagedFileError):
        read_tensors(path)
    assert not (tmp_path / "ran").exists()
    deep = b'{"__metadata__":' * 100_000
    path.write_bytes(len(deep).to_bytes(8, "little") + deep)
    with pytest.raises(DamagedFileError):
        read_tensors(path)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("pipe", "folder", "link"):
        with pytest.raises(DamagedFileError, match=r"this is a (FIFO|folder|link)"):
            read_tensors(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "nothing")


def test_values_are_read_without_the_tensors(tmp_path: Path) -> None:
    write(tmp_path / "file", {"step": 3, "canvas": torch.ones(2)})
    assert read_values(tmp_path / "file") == {"step": 3, "canvas": None}


def test_what_cannot_be_written_leaves_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, {"step": 1})
    for odd in ({"step": object()}, {"step": {1.5: 2}}, {"step": torch.ones(1, dtype=torch.complex64)}):
        with pytest.raises(TypeError, match=r"written|keys"):
            write(path, odd)
    assert read_tensors(path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_digest_tells_bits_and_shapes_apart() -> None:
    one = torch.tensor([[0.0, 1.0]])
    assert digest([one]) == digest([one.clone()])
    assert len({digest([t]) for t in (one, -one, one.T, one + 1e-7)}) == 4
