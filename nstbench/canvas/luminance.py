"""A canvas of which only the luminance is optimised."""

from __future__ import annotations

from torch import Tensor

from nstbench.canvas.base import Canvas
from nstbench.pictures.colour_control import luminance


class LuminanceCanvas(Canvas):
    """Luminance of another canvas, in grey, for runs that do not change colours.

    Args:
        canvas: Canvas whose parameters are optimised.
    """

    def __init__(self, canvas: Canvas) -> None:
        super().__init__()
        self.inner = canvas

    def forward(self) -> Tensor:
        """Return the luminance of the inner canvas."""
        return luminance(self.inner())

    def paint(self, pictures: Tensor) -> None:
        """Replace the parameters by those of the luminance of ``pictures``."""
        self.inner.paint(luminance(pictures))
