"""Files of weights that cannot be used: too large, not finite, or no regular files."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torchvision import models

from nstbench.config.files import conf_dir
from nstbench.config.instantiate import build
from nstbench.encoders.state_dict import load_state_dict
from nstbench.errors import UserError


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_file_larger_than_its_network_needs_is_refused_unread(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"w.{suffix}"
    large = {"a": torch.zeros(20_000_000)}  # 80 MB; 67 MB and 16 bytes a parameter are allowed
    if suffix == "pth":
        torch.save(large, path)
    else:
        save_file(large, path)
    assert load_state_dict(path, parameters=2_000_000)["a"].numel() == 20_000_000
    with pytest.raises(UserError, match="more than the 67 MB that such a file needs"):
        load_state_dict(path, parameters=1000)


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 2) + b"{}" * 5,
        *(
            struct.pack("<Q", len(text)) + text + bytes(16)
            for text in (
                b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,16]}}',
                b'{"a":{"dtype":"F32","shape":[1500000000],"data_offsets":[0,6000000000]}}',
                b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":' + b"[" * 5000,
            )
        ),
    ],
)
def test_absurd_headers_of_safetensors_are_one_line(header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(header)
    with pytest.raises(UserError, match="damaged") as caught:
        load_state_dict(path)
    assert "\n" not in str(caught.value)


def built(option: str, weights: object) -> None:
    """Build an encoder of conf/encoder with a file of weights."""
    node = OmegaConf.to_container(OmegaConf.load(conf_dir() / "encoder" / f"{option}.yaml"))
    assert isinstance(node, dict)
    del node["normalize_activations"]
    build({**node, "weights": str(weights)})


OWN_WEIGHTS = ["vgg11", "alexnet", "squeezenet", "torchvision", "procedural"]


@pytest.mark.parametrize("option", OWN_WEIGHTS)
def test_a_path_that_is_no_regular_file_is_one_line(option: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for given, reason in {
        "x" * 5000: r"no such file|neither a registered name nor a file",
        "a\0b": r"no such file|neither a registered name nor a file",
        "~nobody2/w.pth": r"no such file|neither a registered name nor a file",
        str(tmp_path): "this is a folder",
        str(tmp_path / "pipe"): "this is a pipe or a device",
    }.items():
        with pytest.raises(UserError, match=reason) as caught:
            built(option, given)
        assert caught.value.setting == "encoder.weights"
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("option", "name"), [("vgg11", "conv2_1.weight"), ("squeezenet", "3.squeeze.weight")]
)
def test_weights_that_are_not_finite_are_refused_with_their_name(
    option: str, name: str, value: float, tmp_path: Path
) -> None:
    network = models.squeezenet1_1 if option == "squeezenet" else models.vgg11
    with torch.device("meta"):
        shapes = network(weights=None).features.state_dict()
    state = {f"features.{key}": torch.zeros(tensor.shape) for key, tensor in shapes.items()}
    file = tmp_path / "mine.pth"
    torch.save(state, file)
    built(option, file)
    state["features.3.weight" if option == "vgg11" else "features.3.squeeze.weight"].view(-1)[7] = value
    torch.save(state, file)
    reason = (
        rf"^encoder\.weights=mine\.pth: 1 of the [\d,]+ values of its tensor {re.escape(name)} are NaN or inf"
    )
    with pytest.raises(UserError, match=reason):
        built(option, file)
