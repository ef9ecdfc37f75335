"""LPIPS: perceptual distance to the content picture."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from nstbench.encoders.state_dict import check_finite, load_state_dict
from nstbench.encoders.weights import find, locate
from nstbench.errors import UserError
from nstbench.metrics.base import Metric, Subject, Unavailable, content_of

Net = Literal["alex", "vgg", "squeeze"]

# The trunk of each, by its name in the weight registry. The linear heads come with the lpips package.
TRUNKS: dict[Net, str] = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet"}
# Shortest edges, in pixels, that leave a position at every layer compared.
SMALLEST: dict[Net, int] = {"alex": 31, "vgg": 16, "squeeze": 17}


class LPIPS(Metric):
    """Learned perceptual image patch similarity, version 0.1 (Zhang et al. 2018), of the `lpips` package.

    The trunk's ImageNet weights are found as an encoder's are (``nstbench weights list``). Without them
    the metric is unavailable: with random weights it is not LPIPS.

    Args:
        net: Trunk. ``alex`` is the authors' choice for evaluation; ``vgg`` has the features that most
            runs optimise; ``squeeze`` is the smallest file (5 MB).
        weights: Path of the trunk's weights, if they are not in the registry; convolutions suffice, under
            torchvision's keys (``features.0.weight`` or ``0.weight``).
    """

    higher_is_better: ClassVar[bool] = False
    compares_with: ClassVar[Literal["content", "style", "nothing"]] = "content"

    def __init__(self, net: Net = "alex", weights: str | None = None) -> None:
        self.net, self.weights = net, weights
        self._model: nn.Module | None = None

    def __call__(self, subject: Subject) -> float:
        """Return the distance between the picture and the content picture."""
        content = content_of(subject)
        if min(content.shape[-2:]) < SMALLEST[self.net]:
            raise Unavailable(
                f"the picture is smaller than the {SMALLEST[self.net]} pixels that its network needs"
            )
        self._model = self._model or self._load()
        return float(self._model(subject.picture, content, normalize=True))

    def _load(self) -> nn.Module:
        file, state = self._trunk()
        import lpips

        with warnings.catch_warnings():  # the package calls torchvision by a deprecated name
            warnings.simplefilter("ignore", UserWarning)
            with torch.random.fork_rng(devices=[]):
                model = cast(nn.Module, lpips.LPIPS(net=self.net, pnet_rand=True, verbose=False))
        trunk = cast(nn.Module, model.net)
        # The trunk's slices keep torchvision's indices: features.3.weight is slice2.3.weight.
        names = {key: key.split(".", 1)[1] for key in trunk.state_dict()}
        missing = [name for name in names.values() if name not in state]
        if missing:
            raise Unavailable(f"{file} is not a file of this trunk: it lacks features.{missing[0]}")
        try:
            trunk.load_state_dict({key: state[name] for key, name in names.items()})
        except RuntimeError as error:
            raise Unavailable(f"{file} is not a file of this trunk: its tensors differ in shape") from error
        return model.eval().requires_grad_(False)

    def _trunk(self) -> tuple[Path, dict[str, Tensor]]:
        name, setting = TRUNKS[self.net], f"metrics.lpips_{self.net}.weights"
        if self.weights is None and find(name) is None:
            raise Unavailable(f"its trunk's weights are not on this machine: nstbench weights fetch {name}")
        try:
            file = locate(name, path=self.weights, setting=setting)
            state = load_state_dict(file, setting=setting)
            trunk = {key: tensor for key, tensor in state.items() if key.startswith("features.")}
            check_finite(trunk, file.name, setting=setting)
        except UserError as error:
            raise Unavailable(str(error)) from error
        return file, {key.removeprefix("features."): tensor for key, tensor in state.items()}
