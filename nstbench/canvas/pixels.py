"""The canvas whose parameters are its pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nstbench.canvas.base import Canvas


class Pixels(Canvas):
    """The canvas whose parameters are the pixels, as in Gatys et al. (2016).

    Args:
        range: of the parameters that stand for black to white. Published code optimises values up to
            255, in which a step of one length is a 255th of what it is here, and a gradient likewise:
            learning rates, and the first steps of L-BFGS, are in these units.

    Raises:
        ValueError: if ``range`` is not positive.
    """

    def __init__(self, range: float = 1.0) -> None:
        super().__init__()
        if range <= 0:
            raise ValueError(f"from black to white is a positive distance, not {range}")
        self.range = range
        self.pixels = nn.Parameter(torch.empty(0))

    def forward(self) -> Tensor:
        """Return the pixels."""
        return self.pixels if self.range == 1 else self.pixels / self.range

    def paint(self, pictures: Tensor) -> None:
        """Make a copy of ``pictures`` the parameters, in contiguous float32 (or float64)."""
        copy = pictures.detach().clone(memory_format=torch.contiguous_format)
        self.pixels = nn.Parameter(copy if self.range == 1 else copy * self.range)
