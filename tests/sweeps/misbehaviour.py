"""A loss that goes wrong in the middle of a run, in the way it is told; for tests of sweeps.

``misbehaving(folder)`` writes a configuration folder with it, to be given with ``--config-dir``.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
from torch import Tensor

from nstbench.encoders.base import Encoder
from nstbench.encoders.random import RandomVGG
from nstbench.losses.base import Loss
from nstbench.losses.functional.maps import per_canvas

_AT = 12  # the evaluation at which it happens: between two checkpoints of a tiny run

YAML = """\
# goes wrong in the middle of a run
misbehave:
  _target_: misbehaviour.Misbehave
  how: well
"""


class Misbehave(Loss):
    """Distance from grey; ``how``: raise, abort, memory, hang, or anything else for no harm."""

    def __init__(self, how: str = "well") -> None:
        super().__init__()
        self.how, self.calls = how, 0

    def target(self, features: Tensor, guide: Tensor | None = None) -> Tensor:
        return torch.ones(len(features))

    def forward(self, features: Tensor, target: Tensor | None, guide: Tensor | None = None) -> Tensor:
        self.calls += 1
        if self.calls == _AT:
            if self.how == "raise":
                raise RuntimeError("the loss is out of order")
            if self.how == "abort":
                os.abort()
            if self.how == "memory":
                hoard = [torch.ones(2**24) for _ in range(60)]  # 4 GB
                time.sleep(5 * len(hoard))
            if self.how == "hang":
                time.sleep(600)
        return per_canvas((features - 0.5) ** 2)

    def unit(self, target: Tensor | None) -> Tensor:
        return torch.ones(1) if target is None else target


def misbehaving(folder: Path) -> list[str]:
    """Write the loss's option into ``folder`` and return the arguments that choose it."""
    file = folder / "loss" / "regularizer" / "misbehave.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(YAML)
    return ["--config-dir", str(folder), "loss/regularizer=misbehave"]


def counted(width: float) -> Encoder:
    """Return a random encoder, and note in the file ``$LOADS`` which process asked for it."""
    with Path(os.environ["LOADS"]).open("a") as file:
        file.write(f"{os.getpid()}\n")
    return RandomVGG(shape="vgg11", width=width)
