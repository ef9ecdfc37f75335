"""The weight file: what is written is what is used, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from nstbench.encoders.preprocessing import Preprocessing
from nstbench.encoders.procedural.encoder import DEPTHS, ProceduralVGG
from nstbench.encoders.procedural.weights import read_weights, write_weights
from nstbench.errors import NonFiniteObjectiveError, UserError
from nstbench.training.network import TextureNet

WIDTHS = (4, 6, 8, 8, 8)


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return TextureNet(WIDTHS).folded()


@pytest.fixture
def file(tmp_path: Path, tensors: dict[str, Tensor]) -> Path:
    write_weights(tmp_path / "mine.safetensors", tensors, {"made": "by a test"})
    return tmp_path / "mine.safetensors"


def test_a_file_comes_back_as_it_was_but_for_rounding(file: Path, tensors: dict[str, Tensor]) -> None:
    read, sha256 = read_weights(file)
    assert file.with_suffix(".sha256").read_text() == f"{sha256}  mine.safetensors\n"
    assert set(read) == set(tensors)
    for name, t in tensors.items():
        assert read[name].dtype == torch.float32
        assert torch.equal(read[name], t.half().float())
    assert sorted(p.name for p in file.parent.iterdir()) == ["mine.safetensors", "mine.sha256"]


def test_the_same_tensors_make_the_same_bytes(file: Path, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    shuffled = dict(reversed(tensors.items()))
    again = write_weights(tmp_path / "again.safetensors", shuffled, {"made": "by a test"})
    assert again == read_weights(file)[1]
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()
    assert write_weights(tmp_path / "again.safetensors", tensors, {"made": "otherwise"}) != again


@torch.no_grad()
def test_the_encoder_is_the_network_that_was_written(file: Path, tensors: dict[str, Tensor]) -> None:
    encoder = ProceduralVGG(str(file))
    x = torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(1))
    features = encoder(x, list(encoder.layers))
    f = Preprocessing("torch")(x)
    for block, depth in enumerate(DEPTHS, start=1):
        for k in range(1, depth + 1):
            name = f"{block}_{k}"
            weight, bias = (tensors[f"conv{name}.{kind}"].half().float() for kind in ("weight", "bias"))
            f = F.conv2d(f, weight, bias, padding=1)
            torch.testing.assert_close(features[f"conv{name}"], f, atol=1e-4, rtol=1e-4)
            f = f.relu()
            torch.testing.assert_close(features[f"relu{name}"], f, atol=1e-4, rtol=1e-4)
        if block < 5:
            f = F.avg_pool2d(f, 2)
            torch.testing.assert_close(features[f"pool{block}"], f, atol=1e-4, rtol=1e-4)
    assert encoder.weights_sha256 == read_weights(file)[1]
    # Against what was trained, before it was rounded to half precision.
    torch.manual_seed(0)
    exact = TextureNet(WIDTHS).eval()(Preprocessing("torch")(x))[4]
    error = (features["relu5_1"] - exact).abs().max() / exact.abs().max()
    assert 0 < float(error) < 5e-3


def test_the_encoder_offers_what_others_do(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = ProceduralVGG(str(file))
    assert list(encoder.layers)[-1] == "relu5_1"
    assert {"relu1_1", "relu4_2", "relu5_1", "pool4", "conv3_3"} <= set(encoder.layers)
    for layers in encoder.default_layers.values():
        encoder.check(layers)
    assert not any(p.requires_grad for p in encoder.parameters())
    x = torch.rand(1, 3, 32, 32)
    usual = encoder(x, ["pool1"])["pool1"]
    assert not torch.equal(ProceduralVGG(str(file), pooling="max")(x, ["pool1"])["pool1"], usual)
    mirrored = ProceduralVGG(str(file), padding="reflect")(x, ["conv1_1"])["conv1_1"]
    assert not torch.equal(mirrored, encoder(x, ["conv1_1"])["conv1_1"])
    monkeypatch.setenv("HOME", str(file.parent))
    assert ProceduralVGG(f"~/{file.name}").weights_sha256 == encoder.weights_sha256


def flip_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)


def edit_a_tensor(file: Path) -> None:
    tensors = load_file(file)
    tensors["conv1_1.bias"] += 1
    save_file(tensors, file)


def no_tensors(file: Path) -> None:
    """A file that agrees with its checksum and is none of ours all the same."""
    import hashlib

    file.write_bytes(b"not tensors at all")
    file.with_suffix(".sha256").write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  x\n")


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (flip_a_byte, "it is damaged or was edited"),
        (edit_a_tensor, "it is damaged or was edited"),
        (lambda f: f.write_bytes(f.read_bytes()[:-10]), "it is damaged or was edited"),
        (lambda f: f.write_bytes(b""), "it is damaged or was edited"),
        (lambda f: f.with_suffix(".sha256").unlink(), "there is no mine.sha256 beside it"),
        (lambda f: f.with_suffix(".sha256").write_text(""), "it cannot be read"),
        (lambda f: f.with_suffix(".sha256").write_bytes(b"\xff\xfe"), "it cannot be read"),
        (lambda f: f.unlink(), "there is no such file"),
        (no_tensors, "it holds no tensors"),
    ],
    ids=["byte", "tensor", "cut", "empty", "no sum", "empty sum", "no text", "missing", "no tensors"],
)
def test_a_file_that_is_not_what_was_written_is_refused(
    file: Path, harm: Callable[[Path], object], reason: str
) -> None:
    harm(file)
    with pytest.raises(UserError) as caught:
        ProceduralVGG(str(file))
    assert caught.value.setting == "encoder.weights"
    assert caught.value.value == str(file)
    assert reason in caught.value.reason
    assert "nstbench train" in caught.value.hint
    assert "\n" not in str(caught.value)


def test_what_half_precision_cannot_hold_is_not_written(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    for value in (float("nan"), 1e6):
        tensors["conv3_2.bias"][1] = value
        with pytest.raises(NonFiniteObjectiveError, match=r"conv3_2\.bias"):
            write_weights(tmp_path / "bad.safetensors", tensors, {})
    assert [*tmp_path.iterdir()] == []
