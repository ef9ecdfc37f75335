"""The encoders' weights: which files exist, where they come from, and where they are on this machine.

Two conversions of one network are two entries unless their bytes are equal: the effect of a published loss
weight depends on the file and on how pictures are prepared for it.
This module does not import torch until weights are read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from nstbench.downloads.fetch import fetch
from nstbench.downloads.folders import cache_folder, own_folder
from nstbench.downloads.verification import describe_head, hash_file, recorded_hash, verify
from nstbench.encoders.pickle_check import DAMAGED, TensorFileError
from nstbench.encoders.safe_load import load_tensors, open_regular, too_large
from nstbench.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

Preprocessing = Literal["torch", "caffe255", "caffe256", "rgb255_meanonly"]


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
        preprocessing: Preparation of pictures in [0, 1]: `torch` is RGB with mean and deviation,
            `caffe255` is BGR x 255 less the mean, `caffe256` the same x 256, `rgb255_meanonly` is RGB x 255
            less the mean.
        architecture: Name of the network in torchvision.
        licence: Licence, as far as it is known.
        note: Differences from what users may expect.
    """

    name: str
    file: str
    urls: tuple[str, ...]
    sha256: str
    bytes: int | None
    preprocessing: Preprocessing
    architecture: str
    licence: str
    note: str = ""

    # The protocol of files that `nstbench.downloads` handles: `verification.RegisteredFile`.
    variable: ClassVar[str] = "NSTBENCH_WEIGHTS"
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

    def manual_steps(self, folder: Path) -> str:
        """Return what to do if no mirror works, as the continuation of "Get"."""
        return f"the file by hand and put it in {folder}, or name a mirror of your own with `--url URL`."

    def own_file_hint(self, source: Path) -> str:
        """Return how to use a file that differs from the registry's."""
        return f"To use a file of your own, type its path: encoder.weights={source}."


_TORCHVISION = "BSD-3-Clause (torchvision); trained on ImageNet"
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
        note=note,
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
        name="vgg19-caffe",
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
        note="pystiche's conversion of the Caffe model; keys as in torchvision.",
    ),
    Weights(
        name="vgg16-caffe",
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
        note="pystiche's conversion of the Caffe model; keys as in torchvision.",
    ),
    Weights(
        name="vgg19-caffe-jcjohnson",
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
        note=(
            "What neural-style-pt loads, with pictures x 256 (caffe256). The classifier's keys are shifted "
            "by one against torchvision's; the convolutions' are the same."
        ),
    ),
    Weights(
        name="vgg16-caffe-jcjohnson",
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
        note="As vgg19-caffe-jcjohnson.",
    ),
    Weights(
        name="vgg19-gatys",
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
        note=(
            "Gatys' own PyTorch file: convolutions only, keys conv1_1.weight …, not normalised. Its first "
            "address is dead (leongatys/PytorchNeuralStyleTransfer#15, #17) and the second is a reader's "
            "copy; no hash was published, so the hash of the first copy found is pinned."
        ),
    ),
)

REGISTRY: dict[str, Weights] = {weights.name: weights for weights in _ENTRIES}


def entry(name: str, *, setting: str = "weights") -> Weights:
    """Return the registry's entry of that name, or raise a UserError with the nearest names."""
    if name not in REGISTRY:
        hint = did_you_mean(name, REGISTRY, what="weights")
        raise UserError(setting, name, "there are no weights of that name", hint)
    return REGISTRY[name]


def weights_folder() -> Path:
    """Return nstbench's folder of weights: `$NSTBENCH_WEIGHTS`, or nstbench/weights in the user's cache."""
    return own_folder(Weights.variable, "weights")


def copies(weights: Weights) -> list[Path]:
    """Return the paths of a file on this machine, unverified: nstbench's folder first, then torch's cache."""
    return [path for folder in (weights_folder(), _hub()) if (path := folder / weights.file).is_file()]


def find(
    name: str | Weights, path: str | Path | None = None, *, setting: str = "encoder.weights"
) -> Path | None:
    """Return the path of the weights, unverified: `path`, nstbench's folder, torch hub's cache; else None.

    Raises:
        UserError: If `path` is given and is no file, or `name` is needed and unknown.
    """
    if path is None:
        weights = entry(name, setting=setting) if isinstance(name, str) else name
        return next(iter(copies(weights)), None)
    return own_file(path, "there is no such file", f"Names work too: {', '.join(REGISTRY)}.", setting=setting)


def own_file(path: str | Path, missing: str, hint: str, *, setting: str = "encoder.weights") -> Path:
    """Return the path of a user's own file of weights.

    Args:
        path: As typed.
        missing: Reason to give where there is no such file.
        hint: What to type instead.
        setting: Setting to name in messages.

    Raises:
        UserError: If there is no such file, or it is a folder, a pipe or a device.
    """
    own = Path(os.path.expanduser(path))
    try:
        mode = own.stat().st_mode
    except (OSError, ValueError) as error:  # also names that are too long, or hold a NUL
        raise UserError(setting, str(path), missing, hint) from error
    if stat.S_ISDIR(mode):
        raise UserError(setting, str(path), "this is a folder", "Give the file of weights itself.")
    if not stat.S_ISREG(mode):
        reason = "this is a pipe or a device, not a file of weights"
        raise UserError(setting, str(path), reason, "Give the path of a file.")
    return own


def locate(
    name: str | Weights,
    *,
    path: str | Path | None = None,
    download: bool = False,
    setting: str = "encoder.weights",
) -> Path:
    """Return the path of a file of weights, verified.

    A file that is found must have the registry's hash, unless `path` names the user's own file.

    Args:
        name: Name in the registry, or an entry that is not in it.
        path: User's own file, which is used first.
        download: Whether to fetch the file into nstbench's folder if it is not found.
        setting: Setting to name in messages.

    Raises:
        UserError: If the name is unknown, `path` is missing, the hash is wrong, the file is not found, or
            the download failed.
    """
    found = find(name, path, setting=setting)
    if found and path is not None:
        return found
    weights = entry(name, setting=setting) if isinstance(name, str) else name
    folder = weights_folder()
    if found:
        again = f"Delete it, and get it again: {_how_to_get(weights, folder)}"
        verify(weights, found, folder, setting=setting, hint=again)
        return found
    if download:
        return fetch(weights, folder, setting=setting)
    raise UserError(
        setting,
        weights.name,
        f"its file {weights.file} is not on this machine",
        f"To get it, {_how_to_get(weights, folder)} `encoder=procedural` needs none of these.",
    )


def _how_to_get(weights: Weights, folder: Path) -> str:
    if weights.name not in REGISTRY:
        return f"download {weights.urls[0]} and put it in {folder}, or type `encoder.download=true`."
    size = f" ({weights.bytes / 1e6:.0f} MB)" if weights.bytes else ""
    return (
        f"type `nstbench weights fetch {weights.name}`{size} on a machine with a network; or get the file "
        f"yourself and put it in {folder}, or type `nstbench weights add {weights.name} FILE`."
    )


def file_sha256(path: str | Path) -> str:
    """Return the sha256 of a file in hex, without reading it if `locate` has just verified it."""
    path = Path(path)
    ours = path.parent in (weights_folder(), _hub())
    return (recorded_hash(path, weights_folder()) if ours else "") or hash_file(path)


LARGEST_NETWORK = 150_000_000
"""Upper bound of the parameters of the registry's networks: a VGG-19 with its classifier has fewer."""


def load_state_dict(
    path: str | Path, *, setting: str = "encoder.weights", parameters: int = LARGEST_NETWORK
) -> dict[str, Tensor]:
    """Read named tensors from a torch file (.pth, .pt) or a safetensors file, onto the CPU.

    No code in the file is run, and reading takes no more memory than a file for such a network needs; see
    `nstbench.encoders.safe_load`. A dictionary under the key "state_dict" is unwrapped, and entries that
    are not tensors (an epoch, settings) are left out.

    Args:
        path: Path of the file.
        setting: Setting to name in messages.
        parameters: Number of parameters of the whole network that the file is for.

    Raises:
        UserError: If there is no such file, it is damaged, it is not a file of weights, it holds Python
            objects or no tensors, or it is larger than any file for such a network.
    """
    path = Path(path)
    # Float64, and as much again for what is saved beside the weights, such as an optimiser's moments.
    max_bytes = 16 * parameters + 2**26
    try:
        with open_regular(path) as file:
            head = file.read(512)
        if what := describe_head(head):
            raise TensorFileError(f"this is {what}, not a file of weights")
        if path.suffix == ".safetensors":
            content = _read_safetensors(path, max_bytes)
        else:
            content = load_tensors(path, max_bytes=max_bytes)
    except TensorFileError as error:
        raise UserError(setting, path, error.reason, error.hint) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]

    import torch

    named = content.items() if isinstance(content, dict) else ()
    tensors = {key: value for key, value in named if isinstance(key, str) and isinstance(value, torch.Tensor)}
    if not tensors:
        hint = "Save the network's state_dict(), not something else."
        raise UserError(setting, path, "the file holds no named tensors", hint)
    return tensors


def check_finite(tensors: Mapping[str, Tensor], file: str, *, setting: str = "encoder.weights") -> None:
    """Raise UserError for the first tensor that holds NaN or an infinite value.

    Such a network makes every objective NaN, which could be mistaken for the effect of too long a step.
    """
    import torch

    for name, tensor in tensors.items():
        wrong = tensor.numel() - int(torch.isfinite(tensor).sum())
        if wrong:
            reason = f"{wrong:,} of the {tensor.numel():,} values of its tensor {name} are NaN or infinite"
            raise UserError(setting, file, reason, "Get the file once more, or give another.")


def _read_safetensors(path: Path, max_bytes: int) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if (size := path.stat().st_size) > max_bytes:
        raise too_large(f"it holds {size:,} bytes", max_bytes)
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError) as error:
        raise TensorFileError(f"{DAMAGED} ({error})") from error


def _hub() -> Path:
    torch_home = os.environ.get("TORCH_HOME")
    return (Path(torch_home).expanduser() if torch_home else cache_folder() / "torch") / "hub" / "checkpoints"
