"""LPIPS against the lpips package's own, with the same trunk; and what is said when there is none."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lpips
import pytest
import torch
import torchvision
from torch import Tensor

from nstbench.config.schema import Config
from nstbench.encoders.base import Encoder
from nstbench.encoders.registry import REGISTRY
from nstbench.metrics.base import Subject, Unavailable
from nstbench.metrics.evaluate import _metric, judge
from nstbench.metrics.perceptual import LPIPS, SMALLEST, TRUNKS, Net
from nstbench.runs.run import run

Compose = Callable[..., Config]
MODELS = {
    "alex": torchvision.models.alexnet,
    "vgg": torchvision.models.vgg16,
    "squeeze": torchvision.models.squeezenet1_1,
}
OTHER = cast(Encoder, SimpleNamespace(weights_sha256="the encoder of the run"))


@pytest.fixture(autouse=True)
def _nothing_loaded() -> None:
    """A process keeps the networks it has loaded; no test may meet another one's."""
    _metric.cache_clear()


def picture(height: int, width: int, seed: int) -> Tensor:
    return torch.randint(0, 256, (1, 3, height, width), generator=torch.Generator().manual_seed(seed)) / 255


def subject(height: int, width: int, seed: int = 0) -> Subject:
    return Subject(picture(height, width, seed), picture(height, width, seed + 1), [], [], OTHER)


@pytest.fixture(scope="session")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Net], Path]:
    """Return a function to a file of a trunk with random convolutions, named as torchvision's."""
    folder = tmp_path_factory.mktemp("trunks")

    def make(net: Net) -> Path:
        file = folder / REGISTRY[TRUNKS[net]].file
        if not file.exists():
            with torch.device("meta"):
                shapes = MODELS[net]().state_dict()
            generator = torch.Generator().manual_seed(0)
            state = {}
            for key, like in shapes.items():
                if key.startswith("features") and key.endswith("weight"):
                    deviation = (2 / like[0].numel()) ** 0.5
                    state[key] = torch.randn(like.shape, generator=generator) * deviation
                else:  # one number, repeated: the classifier's hundreds of megabytes matter to nobody
                    state[key] = torch.full((1,), 0.1).expand(like.shape)
            torch.save(state, file)
        return file

    return make


def official(net: Net, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The package's own model, with the trunk loaded as it does by itself."""
    checkpoints = tmp_path / "hub_of_torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / file.name).symlink_to(file)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub_of_torch"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = lpips.LPIPS(net=net, pretrained=True, verbose=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return model


@pytest.mark.parametrize("net", ["alex", "squeeze", "vgg"])
def test_it_is_the_packages_own_value_down_to_the_smallest_picture(
    net: Net, trunk: Callable[[Net], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reference = official(net, trunk(net), monkeypatch, tmp_path)
    ours = LPIPS(net, weights=str(trunk(net)))
    least = SMALLEST[net]
    for case in (subject(64, 96), subject(70, 53, 5), subject(least, least, 7)):
        with torch.no_grad():
            wanted = float(reference(case.picture, case.content, normalize=True))
        assert ours(case) == wanted
        assert wanted > 0.01
    # One pixel less, and the network has no position left: it is the true minimum.
    too_small = subject(64, least - 1)
    with pytest.raises(RuntimeError, match=r"[Oo]utput size"):
        reference(too_small.picture, too_small.content, normalize=True)
    with pytest.raises(Unavailable, match=f"the {least} pixels"):
        ours(too_small)


def test_the_convolutions_alone_suffice_under_either_of_their_names(
    trunk: Callable[[Net], Path], tmp_path: Path
) -> None:
    wanted = LPIPS("squeeze", weights=str(trunk("squeeze")))(subject(40, 40))
    state = torch.load(trunk("squeeze"), weights_only=True)
    features = {k: v for k, v in state.items() if k.startswith("features.")}
    torch.save(features, tmp_path / "features.pth")
    torch.save({k.removeprefix("features."): v for k, v in features.items()}, tmp_path / "bare.pth")
    for name in ("features.pth", "bare.pth"):
        assert LPIPS("squeeze", weights=str(tmp_path / name))(subject(40, 40)) == wanted


def test_a_picture_is_at_no_distance_from_itself_and_further_the_more_it_is_disturbed(
    trunk: Callable[[Net], Path],
) -> None:
    metric, content = LPIPS("alex", weights=str(trunk("alex"))), picture(64, 64, 0)
    away = [(content + by * (picture(64, 64, 1) - 0.5)).clamp(0, 1) for by in (0, 0.1, 0.3, 0.6)]
    distances = [metric(Subject(p, content, [], [], OTHER)) for p in away]
    assert distances[0] == 0
    assert distances == sorted(distances)


def test_loading_is_silent_and_draws_no_random_numbers_of_the_runs(
    trunk: Callable[[Net], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LPIPS("squeeze", weights=str(trunk("squeeze")))(subject(40, 40))
    assert torch.equal(torch.rand(3), wanted)
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def registered(
    trunk: Callable[[Net], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[Net], Path]:
    """Return a function that puts a trunk into nstbench's folder, as if it were the registered file."""

    def put(net: Net) -> Path:
        weights, file = REGISTRY[TRUNKS[net]], trunk(net)
        (tmp_path / "weights").mkdir(exist_ok=True)
        there = tmp_path / "weights" / weights.file
        there.write_bytes(file.read_bytes())
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        monkeypatch.setitem(REGISTRY, weights.name, replace(weights, sha256=sha256))
        return there

    return put


NODES: dict[str, dict[str, Any]] = {
    f"lpips_{net}": {"_target_": "nstbench.metrics.perceptual.LPIPS", "net": net} for net in TRUNKS
}


def test_a_registered_trunk_is_found_and_the_others_say_how_to_get_theirs(
    registered: Callable[[Net], Path], trunk: Callable[[Net], Path]
) -> None:
    registered("squeeze")
    judgement = judge(NODES, subject(48, 48))
    wanted = LPIPS("squeeze", weights=str(trunk("squeeze")))(subject(48, 48))
    assert judgement.values == {"lpips_squeeze": wanted}
    assert judgement.unavailable == {
        "lpips_alex": "its trunk's weights are not on this machine: nstbench weights fetch alexnet",
        "lpips_vgg": "its trunk's weights are not on this machine: nstbench weights fetch vgg16",
    }


def test_a_registered_file_with_another_hash_is_not_used(registered: Callable[[Net], Path]) -> None:
    file = registered("squeeze")
    state = torch.load(file, weights_only=True)
    state["features.0.bias"] = state["features.0.bias"] + 1
    torch.save(state, file)  # a good file, but not the one that was published
    with pytest.raises(
        Unavailable, match=r"metrics\.lpips_squeeze\.weights=squeezenet.*its sha256 is .*fetch"
    ):
        LPIPS("squeeze")(subject(40, 40))


@pytest.mark.parametrize("kind", ["cut short", "a web page", "another network", "another shape", "missing"])
def test_a_file_that_is_no_trunk_makes_it_unavailable(
    kind: str, trunk: Callable[[Net], Path], tmp_path: Path
) -> None:
    good, file = trunk("squeeze"), tmp_path / "trunk.pth"
    if kind == "cut short":
        file.write_bytes(good.read_bytes()[:100_000])
    elif kind == "a web page":
        file.write_text("<!doctype html><title>404</title>")
    elif kind == "another network":
        file.write_bytes(trunk("alex").read_bytes())
    elif kind == "another shape":
        state = torch.load(good, weights_only=True)
        torch.save({k: v[:1] for k, v in state.items()}, file)
    reasons = {
        "cut short": "damaged",
        "a web page": "this is a web page",
        "another network": r"not a file of this trunk: it lacks features\.3\.squeeze\.weight",
        "another shape": "not a file of this trunk: its tensors differ in shape",
        "missing": "there is no such file",
    }
    with pytest.raises(Unavailable, match=reasons[kind]):
        LPIPS("squeeze", weights=str(file))(subject(40, 40))
    node = {"lpips_squeeze": {**NODES["lpips_squeeze"], "weights": str(file)}}
    judgement = judge(node, subject(40, 40))
    assert judgement.values == {}
    assert "lpips_squeeze" in judgement.unavailable


def test_texture_synthesis_has_nothing_to_compare_with() -> None:
    with pytest.raises(Unavailable, match="no content picture"):
        LPIPS("alex")(Subject(picture(40, 40, 0), None, [], [], OTHER))


def test_a_run_without_weights_is_completed_and_gets_its_lpips_when_they_are_there(
    compose_config: Compose, registered: Callable[[Net], Path]
) -> None:
    first = run(compose_config("metrics=all"))
    assert first.record.state == "completed"
    assert first.record.unavailable_metrics["lpips_squeeze"].endswith("nstbench weights fetch squeezenet")
    assert not [name for name in first.record.metrics if name.startswith("lpips")]
    registered("squeeze")
    again = run(compose_config("metrics=all"))
    assert again.skipped
    assert again.record.metrics["lpips_squeeze"] > 0
    assert "lpips_squeeze" not in again.record.unavailable_metrics
