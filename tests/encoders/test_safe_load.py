"""Files of torch's: what is read, and what is refused before it takes memory."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from nstbench.encoders.safe_load import TensorFileError, load_tensors


def saved(value: object, *, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def load(content: bytes, folder: Path, max_bytes: int = 10**8) -> Any:
    file = folder / "file.pth"
    file.write_bytes(content)
    return load_tensors(file, max_bytes=max_bytes)


@pytest.mark.parametrize("legacy", [False, True])
def test_what_state_dicts_and_checkpoints_hold_comes_back_as_torch_reads_it(
    legacy: bool, tmp_path: Path
) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    adam = torch.optim.Adam(network.parameters())
    network(torch.randn(2, 3, 8, 8)).sum().backward()
    adam.step()
    shared = torch.randn(4, 5)
    value = {
        "state_dict": network.state_dict(),
        "optimizer": adam.state_dict(),
        "parameter": torch.nn.Parameter(torch.randn(2)),
        "views": [shared, shared.T, shared[1:, ::2], torch.zeros(0)],
        "kinds": [torch.zeros(3, dtype=d) for d in (torch.bfloat16, torch.bool, torch.complex64, torch.int8)],
        "plain": [1, -1, 2**70, 2.5, True, None, "ä", b"bytes", (1, 2, 3, 4), {1, 2}],
        "torch": [torch.Size([1, 2]), torch.float32, torch.device("cpu")],
        "ordered": OrderedDict(a=1),
        "random_state": torch.get_rng_state(),
    }
    found = load(saved(value, legacy=legacy), tmp_path)
    expected = torch.load(io.BytesIO(saved(value, legacy=legacy)), weights_only=True)
    assert repr(found) == repr(expected)
    assert found["plain"] == value["plain"]
    assert found["torch"] == value["torch"]


def reduced(name: bytes, number: int) -> bytes:
    return b"\x80\x02c" + name + b"\nJ" + struct.pack("<i", number) + b"\x85R."


def storage_of(elements: int) -> bytes:
    """Return a pickle of a tensor with a storage of that many elements."""
    count = struct.pack("<i", elements)
    storage = (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ" + count
    )
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"tQK\x00K\x01\x85K\x01\x85\x89}tR."


def legacy(obj: bytes) -> bytes:
    head = [pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return b"".join(head) + obj + pickle.dumps(["0"], 2)


def archive(data: bytes, *, size: int = 0, names: tuple[str, ...] = ("x/data.pkl",)) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as z:
        for name in names:
            z.writestr(name, data)
        z.writestr("x/version", "3\n")
        with z.open("x/data/0", "w", force_zip64=True) as record:
            for _ in range(size // 10**6):
                record.write(bytes(10**6))
    return file.getvalue()


BOMBS = {
    "a tensor of 6 GB": (reduced(b"torch\nTensor", 1_500_000_000), "Python objects"),
    "the same in an archive": (archive(reduced(b"torch\nTensor", 1_500_000_000)), "Python objects"),
    "a float tensor": (reduced(b"torch\nFloatTensor", 1_500_000_000), "Python objects"),
    "a bytearray of 2 GB": (reduced(b"builtins\nbytearray", 2_000_000_000), "Python objects"),
    "a string of 4 GB": (b"\x80\x02X\xff\xff\xff\xff.", "damaged"),
    "a storage of 6 GB": (legacy(storage_of(1_500_000_000)), "damaged"),
    "a storage larger than its record": (archive(storage_of(1_500_000_000), size=10**6), "damaged"),
    "zeros that unpack to 100 MB": (
        archive(storage_of(250_000), size=100 * 10**6),
        "unpacks from .* to 100 MB",
    ),
    "one value expanded to 4 GB": (saved({"a": torch.zeros(1).expand(10**9)}), "take 4,000 MB"),
    "a list that 20,000 calls copy": (
        b"\x80\x02((" + b"K\x01" * 20000 + b"tq\x00ctorch\nSize\nq\x01" + b"h\x01h\x00\x85R" * 20000 + b"t.",
        "copies its contents many times",
    ),
    "300,000 sets": (b"\x80\x02(" + b"\x8f" * 300_000 + b"t.", "more than 300,000 objects"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_small_files_that_take_much_memory_are_refused_unread(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, reason = BOMBS[name]
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch was asked to load it"))
    with pytest.raises(TensorFileError, match=reason) as caught:
        load(content, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_bomb_is_refused_within_the_memory_of_its_own_size(tmp_path: Path) -> None:
    content, _ = BOMBS["zeros that unpack to 100 MB"]
    (tmp_path / "zip.pth").write_bytes(content)
    (tmp_path / "tensor.pth").write_bytes(BOMBS["a storage of 6 GB"][0])
    (tmp_path / "string.pth").write_bytes(BOMBS["a string of 4 GB"][0])
    program = f"""
import resource, torch
from pathlib import Path
from nstbench.encoders.safe_load import TensorFileError, load_tensors
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
for file in sorted(Path({str(tmp_path)!r}).glob("*.pth")):
    try:
        load_tensors(file, max_bytes=10**8)
    except TensorFileError:
        print("refused")
print(peak() - before)
"""
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    *refused, grown = out.split()
    assert refused == ["refused"] * 3
    assert int(grown) < 50  # MB


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_two_readers_may_understand_differently_are_refused(tmp_path: Path) -> None:
    data = b"\x80\x02}."
    assert load(archive(data), tmp_path) == {}
    for content in (
        archive(data, names=("x/data.pkl", "x/data.pkl")),
        archive(data, names=("x/data.pkl", "x/DATA.pkl")),
        archive(data, names=("x/data.pkl", "x/other.txt")).replace(b"x/other.txt", b"x/other\0txt"),
    ):
        with pytest.raises(TensorFileError, match="damaged"):
            load(content, tmp_path)


def test_the_limit_is_the_callers(tmp_path: Path) -> None:
    content = saved({"a": torch.zeros(1000)})
    assert load(content, tmp_path, max_bytes=4000)["a"].shape == (1000,)
    with pytest.raises(TensorFileError, match=r"its tensors take 4\.0 kB"):
        load(content, tmp_path, max_bytes=3999)


def message_of(content: bytes, folder: Path) -> str:
    try:
        load(content, folder)
    except TensorFileError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_files_end_in_one_message(legacy: bool, tmp_path: Path) -> None:
    content = saved({"a": torch.zeros(3, 4), "b": [torch.ones(2), "text", 3]}, legacy=legacy)
    numbers = random.Random(0)
    messages = []
    for _ in range(300):
        damaged = bytearray(content)
        if numbers.random() < 0.3:
            del damaged[numbers.randrange(len(damaged)) :]
        else:
            for _ in range(numbers.randint(1, 4)):
                damaged[numbers.randrange(len(damaged))] = numbers.randrange(256)
        messages.append(message_of(bytes(damaged), tmp_path))
    assert not any("\n" in message for message in messages)
    assert sum(bool(message) for message in messages) > 100


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, reason in {
        tmp_path / "pipe": "a FIFO",
        tmp_path: "a folder",
        tmp_path / "none": "No such file",
        tmp_path / ("x" * 5000): "too long",
        Path("a\0b"): "null byte",
    }.items():
        with pytest.raises(TensorFileError, match=reason):
            load_tensors(path, max_bytes=1)
