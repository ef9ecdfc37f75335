"""The canvas: the picture being optimised."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nstbench.pictures.resize import resize


class Canvas(nn.Module):
    """A parametrisation of pictures: its parameters are all that a run optimises.

    A subclass defines how parameters become a picture (`forward`) and how a picture becomes
    parameters (`paint`). Canvases hold a batch; each picture of it is a run of its own.

    Attributes:
        bounds: Least and largest value that the optimiser may give a parameter; None: any.
    """

    bounds: tuple[float, float] | None = None

    def forward(self) -> Tensor:
        """Return the pictures ``(B, 3, H, W)``, sRGB; values may leave [0, 1] while optimising."""
        raise NotImplementedError

    def paint(self, pictures: Tensor) -> None:
        """Replace the parameters by those of ``pictures`` ``(B, 3, H, W)``."""
        raise NotImplementedError

    @torch.no_grad()
    def finished(self) -> Tensor:
        """Return the pictures clamped to [0, 1].

        A copy is clamped, not the parameters: changing them between steps would make L-BFGS's
        estimate of the curvature wrong. (An L-BFGS that is told of `bounds` takes them into account.)
        """
        pictures: Tensor = self()
        return pictures.clamp(0, 1)

    @torch.no_grad()
    def confine(self) -> None:
        """Move the parameters within `bounds`, after a step of an optimiser that does not know of them."""
        if self.bounds is not None:
            for parameter in self.parameters():
                parameter.clamp_(*self.bounds)

    @torch.no_grad()
    def resized(self, shape: tuple[int, int]) -> Tensor:
        """Return the finished pictures at another size, to start the next stage with."""
        return resize(self.finished(), shape)
