"""A canvas of which the luminance alone is optimised."""

from __future__ import annotations

from torch import Tensor

from nstbench.canvas.base import Canvas
from nstbench.pictures.colour_control import luminance


class LuminanceOf(Canvas):
    """Another canvas's luminance, in grey: for runs that leave the colours alone."""

    def __init__(self, canvas: Canvas) -> None:
        super().__init__()
        self.inner = canvas

    def forward(self) -> Tensor:
        """Return the luminance of the canvas inside."""
        return luminance(self.inner())

    def paint(self, pictures: Tensor) -> None:
        """Make the luminance of ``pictures`` the parameters."""
        self.inner.paint(luminance(pictures))
