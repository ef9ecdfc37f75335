"""The canvas whose parameters are its pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nstbench.canvas.base import Canvas


class Pixels(Canvas):
    """The canvas whose parameters are the pixels, as in Gatys et al. (2016).

    Args:
        range: Value of the parameters for white; black is 0. Published code optimises values up to 255,
            where a step of a given length changes the picture 255 times less than here, and gradients
            are 255 times smaller: learning rates, and the first steps of L-BFGS, are in these units.
        bounded: Whether the optimiser keeps pixels between black and white at every step. Without bounds it
            can leave pixels far outside, which show as black or white blots in the finished picture.

    Raises:
        ValueError: If ``range`` is not positive.
    """

    def __init__(self, range: float = 1.0, bounded: bool = False) -> None:
        super().__init__()
        if range <= 0:
            raise ValueError(f"range must be above 0, not {range}")
        self.range = range
        self.bounds = (0.0, range) if bounded else None
        self.pixels = nn.Parameter(torch.empty(0))

    def forward(self) -> Tensor:
        """Return the pixels."""
        return self.pixels if self.range == 1 else self.pixels / self.range

    def paint(self, pictures: Tensor) -> None:
        """Replace the parameters by a contiguous copy of ``pictures``, in their precision."""
        copy = pictures.detach().clone(memory_format=torch.contiguous_format)
        copy = copy if self.range == 1 else copy * self.range
        self.pixels = nn.Parameter(copy if self.bounds is None else copy.clamp(*self.bounds))
