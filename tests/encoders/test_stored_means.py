"""Means over the calibration pictures are kept on disk, and are those that would be computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nstbench.encoders import build, stored_means
from nstbench.encoders.base import Encoder
from nstbench.encoders.random import RandomVGG

NODE = {
    "_target_": "nstbench.encoders.random.RandomVGG",
    "shape": "vgg11",
    "width": 0.0625,
    "seed": 3,
    "normalize_activations": True,
}
Build = Callable[..., Encoder]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NSTBENCH_CALIBRATION", str(tmp_path / "calibration"))
    return tmp_path / "calibration"


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list of sizes in which the pictures were asked for; they are noise."""
    asked: list[int] = []

    def paint(size: int) -> Tensor:
        asked.append(size)
        return torch.rand(12, 3, size, size, generator=torch.Generator().manual_seed(1))

    monkeypatch.setattr(stored_means, "calibration_pictures", paint)
    return asked


@pytest.fixture
def new_process(folder: Path) -> Build:
    def make(**changed: Any) -> Encoder:
        build._build.cache_clear()
        return build.build_encoder(NODE | changed)

    return make


def maps(encoder: Encoder) -> list[Tensor]:
    x = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    return list(encoder(x, ["relu1_1", "conv4_2", "pool3"]).values())


def test_the_next_process_paints_nothing_and_has_the_same_bits(
    new_process: Build, painted: list[int], folder: Path
) -> None:
    first = new_process()
    plain = RandomVGG(shape="vgg11", width=0.0625, seed=3)
    plain.normalize_activations(stored_means.calibration_pictures(224))
    painted.clear()
    again = new_process()
    assert painted == []
    for one, other, computed in zip(maps(first), maps(again), maps(plain), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, computed)
    assert first.channel_counts == again.channel_counts == plain.channel_counts
    assert [file.suffix for file in folder.iterdir()] == [".means"]


@pytest.mark.parametrize("changed", [{"seed": 4}, {"padding": "zeros"}, {"width": 0.125}])
def test_another_network_has_means_of_its_own(
    new_process: Build, painted: list[int], folder: Path, changed: dict[str, Any]
) -> None:
    new_process()
    new_process(**changed)
    assert painted == [224, 224]
    assert len(list(folder.iterdir())) == 2


def test_changed_code_or_threads_have_too(
    new_process: Build, painted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    new_process()
    monkeypatch.setattr(stored_means, "_source_hash", lambda: "edited")
    new_process()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    new_process()
    assert painted == [224] * 3


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-3], lambda b: b[:-1] + b"?", lambda b: b"", lambda b: b"{}"]
)
def test_a_damaged_file_is_replaced(
    new_process: Build, painted: list[int], folder: Path, damage: Callable[[bytes], bytes]
) -> None:
    first = new_process()
    (file,) = folder.iterdir()
    good = file.read_bytes()
    file.write_bytes(damage(good))
    assert all(map(torch.equal, maps(first), maps(new_process())))
    assert file.read_bytes() == good


def test_a_folder_that_cannot_be_written_only_costs_time(
    new_process: Build, painted: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NSTBENCH_CALIBRATION", str(tmp_path / "file" / "below"))
    new_process()
    new_process()
    assert painted == [224, 224]


def test_an_encoder_of_ones_own_is_computed_each_time(
    folder: Path, painted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = RandomVGG(shape="vgg11", width=0.0625)
    monkeypatch.setattr(RandomVGG, "__module__", "mine")
    stored_means.calibration_means(encoder, {})
    assert not folder.exists()
