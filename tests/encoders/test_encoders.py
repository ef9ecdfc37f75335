"""The Encoder contract, for every encoder that runs here."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import random_features
from torch import Tensor, nn

from nstbench.encoders.base import Encoder
from nstbench.encoders.efficientnet import EfficientNetLite0, Network
from nstbench.encoders.normalization import activation_scale
from nstbench.encoders.preprocessing import PRESETS, Preprocessing
from nstbench.encoders.random import RandomVGG
from nstbench.encoders.registry import REGISTRY
from nstbench.encoders.small import AlexNet, SqueezeNet
from nstbench.encoders.torchvision_model import TorchvisionModel
from nstbench.encoders.vgg import CONVOLUTIONS, VGG, vgg_layers
from nstbench.errors import UserError


def pictures(size: int = 64, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def save_torchvision(name: str, folder: Path, seed: int = 0) -> Path:
    """Save the feature part of a torchvision network with random weights, as its file would hold it."""
    path = folder / f"{name}.pth"
    torch.save(random_features(name, seed), path)
    return path


def make_random(_: Path) -> Encoder:
    return RandomVGG(width=0.125)


def make_vgg(folder: Path) -> Encoder:
    return VGG("vgg11", str(save_torchvision("vgg11", folder)))


def make_alexnet(folder: Path) -> Encoder:
    return AlexNet(str(save_torchvision("alexnet", folder)))


def make_squeezenet(folder: Path) -> Encoder:
    return SqueezeNet(str(save_torchvision("squeezenet1_1", folder)))


def make_resnet(_: Path) -> Encoder:
    return TorchvisionModel("resnet18", "none")


def make_efficientnet(folder: Path) -> Encoder:
    path = folder / "efficientnet.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(Network("constant").state_dict(), path)
    return EfficientNetLite0(str(path))


MAKERS = [make_random, make_vgg, make_alexnet, make_squeezenet, make_resnet, make_efficientnet]
each_encoder = pytest.mark.parametrize("make", MAKERS, ids=lambda m: m.__name__.removeprefix("make_"))
Make = Callable[[Path], Encoder]


@each_encoder
def test_every_layer_has_the_geometry_it_claims(make: Make, tmp_path: Path) -> None:
    encoder = make(tmp_path)
    for layer, f in encoder(pictures(224, 1), list(encoder.layers)).items():
        info = encoder.layers[layer]
        assert f.shape[1] == info.channels, layer
        # Windows round down at the border: the stride is right to within one position.
        assert abs(f.shape[-1] - 224 / info.stride) <= 2, layer


@each_encoder
def test_weights_take_no_gradient_and_pictures_do(make: Make, tmp_path: Path) -> None:
    encoder = make(tmp_path)
    x = pictures().requires_grad_()
    features = encoder(x, encoder.default_layers["style"])
    sum(f.square().sum() for f in features.values()).backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in encoder.parameters())
    assert not encoder.train().training


@each_encoder
def test_nothing_deeper_than_the_deepest_layer_is_computed(make: Make, tmp_path: Path) -> None:
    encoder = make(tmp_path)
    ran: list[str] = []
    leaves = [(n, m) for n, m in encoder.named_modules() if isinstance(m, nn.Conv2d)]
    for name, module in leaves:
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    shallow = list(encoder.layers)[3]
    encoder(pictures(), [shallow])
    some = len(ran)
    ran.clear()
    encoder(pictures(), list(encoder.layers))
    assert 0 < some < len(ran)
    if not isinstance(encoder, TorchvisionModel | EfficientNetLite0):
        names = list(encoder.layers)
        deepest = max(names.index(n.removeprefix("chain.").split(".")[0]) for n in ran[:some])
        assert deepest <= names.index(shallow)


@each_encoder
def test_captured_maps_are_never_overwritten(make: Make, tmp_path: Path) -> None:
    encoder = make(tmp_path)
    layers = list(encoder.layers)
    together = encoder(pictures(), layers)
    for layer in layers:
        alone = encoder(pictures(), [layer])[layer]
        torch.testing.assert_close(together[layer], alone, rtol=1e-5, atol=1e-6, msg=layer)


@each_encoder
def test_pictures_of_a_batch_are_encoded_each_on_its_own(make: Make, tmp_path: Path) -> None:
    encoder = make(tmp_path)
    layers = encoder.default_layers["style"]
    together = encoder(pictures(batch=3), layers)
    alone = encoder(pictures(batch=3)[1:2], layers)
    for layer in layers:
        torch.testing.assert_close(together[layer][1:2], alone[layer], rtol=1e-4, atol=1e-5)


@each_encoder
def test_default_layers_exist_and_run_shallow_to_deep(make: Make, tmp_path: Path) -> None:
    encoder = make(tmp_path)
    order = list(encoder.layers)
    places = [order.index(layer) for layer in encoder.default_layers["style"]]
    assert places == sorted(places)
    assert len(places) >= 4
    assert encoder.default_layers["content"][0] in order


@each_encoder
def test_normalized_activations_have_mean_one(make: Make, tmp_path: Path) -> None:
    encoder = make(tmp_path)
    encoder.normalize_activations(pictures(), prior=0)
    layer = encoder.default_layers["style"][1]
    means = encoder(pictures(), [layer])[layer].relu().mean(dim=(0, 2, 3))
    fires = means > 0
    assert fires.float().mean() > 0.5
    torch.testing.assert_close(means[fires], torch.ones(int(fires.sum())), rtol=1e-4, atol=1e-5)


def test_scaling_the_maps_is_gatys_rescaling_of_the_weights(tmp_path: Path) -> None:
    """Rescale the filters of a VGG one by one, as the paper says, and compare every feature map."""
    encoder = make_vgg(tmp_path)
    x = pictures()
    plain = encoder(x, list(encoder.layers))
    rescaled = make_vgg(tmp_path)
    previous: Tensor | None = None
    for name, module in rescaled.chain.items():
        if isinstance(module, nn.Conv2d):
            mean = plain[name.replace("conv", "relu")].mean(dim=(0, 2, 3))
            scale = torch.where(mean > 0, 1 / mean.clamp_min(1e-12), torch.ones_like(mean))
            module.weight.mul_(scale.view(-1, 1, 1, 1))
            module.bias.mul_(scale)
            if previous is not None:
                module.weight.div_(previous.view(1, -1, 1, 1))
            previous = scale
    encoder.normalize_activations(x, prior=0)
    theirs, ours = rescaled(x, list(encoder.layers)), encoder(x, list(encoder.layers))
    for layer in encoder.layers:
        torch.testing.assert_close(ours[layer], theirs[layer], rtol=1e-3, atol=1e-3, msg=layer)


def test_activations_are_normalized_as_trained_whatever_the_pooling(tmp_path: Path) -> None:
    """The paper normalises the published network and replaces its pooling afterwards."""
    path = str(save_torchvision("vgg11", tmp_path))
    trained, average = VGG("vgg11", path), VGG("vgg11", path, pooling="average")
    means = trained(pictures(), ["relu4_1"])["relu4_1"].mean(dim=(0, 2, 3))
    expected = average(pictures(), ["relu4_1"])["relu4_1"] * activation_scale(means, 2).view(-1, 1, 1)
    average.normalize_activations(pictures())
    assert isinstance(average.chain["pool1"], nn.AvgPool2d)
    torch.testing.assert_close(average(pictures(), ["relu4_1"])["relu4_1"], expected)


def test_a_channel_that_hardly_fires_in_calibration_does_not_hold_the_gram_matrix(tmp_path: Path) -> None:
    """It fires in one position of one calibration picture, and all over the style picture."""
    encoder = make_vgg(tmp_path)
    calibration, style = pictures(), pictures(batch=1) * 0.5
    relu = encoder(calibration, ["relu1_1"])["relu1_1"]
    rare = int(relu.mean(dim=(0, 2, 3)).argmax())
    conv = encoder.chain["conv1_1"]
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    # Shifted far down, it fires in one place of the calibration pictures; then up again for the style.
    shift = float(relu[:, rare].max()) * 0.999
    with torch.no_grad():
        conv.bias[rare] -= shift
    encoder.normalize_activations(calibration)
    counts = encoder.channel_counts["relu1_1"]
    assert counts.rare >= 1
    with torch.no_grad():
        conv.bias[rare] += shift
    f = encoder(style, ["relu1_1"])["relu1_1"][0].flatten(1)
    of_channel = (f @ f.T).square().sum(1)
    assert float(of_channel[rare] / of_channel.sum()) < 0.5


def test_receptive_fields_of_vgg19_are_those_in_the_literature() -> None:
    encoder = RandomVGG("vgg19", width=1 / 64, normalize=False)
    fields = {
        n: encoder.layers[n].receptive_field for n in ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    }
    assert fields == {"relu1_1": 3, "relu2_1": 10, "relu3_1": 24, "relu4_1": 68, "relu5_1": 156}


@pytest.mark.parametrize("layer", ["relu1_2", "relu2_1", "pool2"])
def test_a_position_sees_its_receptive_field_and_no_more(layer: str) -> None:
    encoder = RandomVGG("vgg16", width=1 / 8).double()
    x = torch.rand(
        1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    ).requires_grad_()
    f = encoder(x, [layer])[layer]
    middle = f.shape[-1] // 2
    f[..., middle, middle].sum().backward()
    assert x.grad is not None
    rows = x.grad[0].abs().sum(dim=(0, 2)).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 == encoder.layers[layer].receptive_field


def test_resnets_geometry_follows_its_graph() -> None:
    layers = make_resnet(Path()).layers
    assert layers["relu"].receptive_field == 7
    assert layers["maxpool"].receptive_field == 11
    assert (layers["layer1.0.relu"].stride, layers["layer4.1.relu_1"].stride) == (4, 32)
    assert layers["layer1.0.relu_1"].receptive_field == 27


@pytest.mark.parametrize(
    "model",
    [
        "alexnet",
        "convnext_tiny",
        "densenet121",
        "efficientnet_b0",
        "mobilenet_v3_small",
        "shufflenet_v2_x0_5",
    ],
)
def test_any_family_of_torchvision_has_layers_worth_using(model: str) -> None:
    encoder = TorchvisionModel(model, "none")
    style = encoder.default_layers["style"]
    assert len(style) >= 3
    assert not any(layer.startswith(("avgpool", "classifier", "features.avgpool")) for layer in style)
    smallest = encoder.smallest_picture(style)
    maps = encoder(pictures(max(smallest, 96), 1), style)
    for layer, f in maps.items():
        info = encoder.layers[layer]
        assert f.shape[1] == info.channels
        assert info.stride >= 1
        # A window per stride at least: what is traced as one block counts with all it holds.
        assert info.receptive_field is None or info.receptive_field >= max(3, info.stride)
    assert all(f.numel() for f in encoder(pictures(smallest, 1), style).values())


def test_models_that_take_one_size_only_are_refused() -> None:
    with pytest.raises(UserError, match=r"encoder\.model=vit_b_16.*any size"):
        TorchvisionModel("vit_b_16", "none")
    with pytest.raises(UserError, match="padding other than none"):
        TorchvisionModel("resnet18", "none", padding="none")


def test_torchvision_keys_layer_names_and_indices_all_load(tmp_path: Path) -> None:
    state = torch.load(save_torchvision("vgg11", tmp_path))
    convolutions = [k.removesuffix(".weight") for k in state if k.endswith("weight")]
    names = [n for n in vgg_layers("vgg11") if n.startswith("conv")]
    by_name, by_index = tmp_path / "names.pth", tmp_path / "indices.pth"
    torch.save(
        {
            f"{n}.{k}": state[f"{c}.{k}"]
            for n, c in zip(names, convolutions, strict=True)
            for k in ("weight", "bias")
        },
        by_name,
    )
    torch.save({k.removeprefix("features."): v for k, v in state.items()}, by_index)
    expected = VGG("vgg11", str(tmp_path / "vgg11.pth"))(pictures(), ["relu4_2"])["relu4_2"]
    for file in (by_name, by_index):
        torch.testing.assert_close(VGG("vgg11", str(file))(pictures(), ["relu4_2"])["relu4_2"], expected)


def test_vgg_computes_what_torchvision_computes(tmp_path: Path) -> None:
    from torchvision import models

    weights = save_torchvision("vgg11", tmp_path)
    encoder, network = VGG("vgg11", str(weights)), models.vgg11(weights=None).eval()
    missing = network.load_state_dict(torch.load(weights), strict=False).missing_keys
    assert not [key for key in missing if key.startswith("features")]
    x = pictures()
    normalized = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    torch.testing.assert_close(
        encoder(x, ["pool5"])["pool5"], network.features(normalized), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("wrong", ["vgg13", "alexnet"])
def test_weights_of_another_network_are_refused(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"encoder\.weights=.*convolutions|shape"):
        VGG("vgg11", str(save_torchvision(wrong, tmp_path)))
    with pytest.raises(UserError, match="not this network's"):
        AlexNet(str(save_torchvision("vgg11", tmp_path)))


def test_weights_that_are_nowhere_are_asked_for_in_one_message() -> None:
    with pytest.raises(UserError, match=r"vgg19.*encoder=procedural"):
        VGG("vgg19", "vgg19")
    with pytest.raises(UserError, match="neither a registered name nor a file"):
        VGG("vgg19", "mine.pth")


def test_an_unknown_layer_or_model_brings_suggestions() -> None:
    with pytest.raises(UserError, match=r"relu4_9.*Did you mean relu4_"):
        make_random(Path())(pictures(), ["relu4_9"])
    with pytest.raises(UserError, match=r"Did you mean resnet18"):
        TorchvisionModel("resnet_18", "none")


def test_average_pooling_and_padding_are_what_they_say() -> None:
    x = pictures()
    for pooling, pool in (("max", nn.functional.max_pool2d), ("average", nn.functional.avg_pool2d)):
        encoder = RandomVGG(width=0.125, pooling=pooling)
        features = encoder(x, ["relu1_2", "pool1"])
        torch.testing.assert_close(features["pool1"], pool(features["relu1_2"], 2))
    modes = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}
    for padding, mode in modes.items():
        encoder = RandomVGG(width=0.125, padding=padding, normalize=False)
        conv = encoder.chain["conv1_1"]
        padded = nn.functional.pad(encoder.preprocessing(x), (1, 1, 1, 1), mode=mode)
        torch.testing.assert_close(
            encoder(x, ["conv1_1"])["conv1_1"], nn.functional.conv2d(padded, conv.weight, conv.bias)
        )
    valid = RandomVGG(width=0.125, padding="none", normalize=False)
    assert valid(x, ["conv1_2"])["conv1_2"].shape[-1] == 60


def test_random_channels_have_one_scale_and_a_seed_means_one_network() -> None:
    from nstbench.encoders.calibration import calibration_photographs

    encoder = RandomVGG(width=0.125)
    f = encoder(calibration_photographs(96), ["conv3_1"])["conv3_1"]
    spread = f.std(dim=(0, 2, 3))
    torch.testing.assert_close(spread, torch.ones_like(spread), rtol=1e-3, atol=1e-3)
    assert RandomVGG(width=0.125).weights_sha256 == encoder.weights_sha256
    assert RandomVGG(width=0.125, seed=1).weights_sha256 != encoder.weights_sha256


@pytest.mark.parametrize("name", PRESETS)
def test_preprocessing_puts_the_mean_colour_at_zero(name: str) -> None:
    preset = PRESETS[name]
    mean = torch.tensor(preset.mean) / preset.scale
    colour = (mean.flip(0) if preset.bgr else mean).view(1, 3, 1, 1)
    out = Preprocessing(name)(colour)
    torch.testing.assert_close(out, torch.zeros(1, 3, 1, 1), rtol=0, atol=1e-4)
    red = Preprocessing(name)(colour + torch.tensor([0.1, 0, 0]).view(1, 3, 1, 1))[0, :, 0, 0]
    assert red.abs().argmax().item() == (2 if preset.bgr else 0)


def test_every_vgg_has_the_layers_of_its_paper() -> None:
    for shape, counts in CONVOLUTIONS.items():
        layers = list(vgg_layers(shape, width=1 / 64))
        assert sum(n.startswith("conv") for n in layers) == int(shape.removeprefix("vgg")) - 3 == sum(counts)
        assert layers[:3] == ["conv1_1", "relu1_1", "conv1_2" if counts[0] > 1 else "pool1"]
        assert layers[-1] == "pool5"


def test_a_registered_file_by_its_path_has_the_preprocessing_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_torchvision("vgg11", tmp_path)
    assert VGG("vgg11", str(path)).preprocessing.name == "torch"  # of an unknown file
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    known = replace(REGISTRY["vgg16_hed"], sha256=sha256)
    monkeypatch.setitem(REGISTRY, "vgg16_hed", known)
    assert VGG("vgg11", str(path)).preprocessing.name == "hed255"
    assert VGG("vgg11", str(path), preprocessing="torch").preprocessing.name == "torch"


def test_a_file_that_is_too_large_is_refused_before_it_is_hashed(tmp_path: Path) -> None:
    path = tmp_path / "large.pth"
    with path.open("wb") as file:
        file.truncate(2**36)  # of which nothing is on the disk
    began = time.monotonic()
    with pytest.raises(UserError, match=r"large\.pth"):
        VGG("vgg11", str(path))
    assert time.monotonic() - began < 10
