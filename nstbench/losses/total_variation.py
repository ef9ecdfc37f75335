"""Total variation of the canvas: the smoothness regulariser, in its published variants."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from nstbench.losses.base import Loss
from nstbench.losses.functional.maps import at_least_float32
from nstbench.losses.functional.total_variation import total_variation


class TotalVariation(Loss):
    """Total variation of the canvas.

    Its target serves as the unit only: the variation of the content picture (or else the style picture)
    is 1 in ``weights.unit=unit``.

    ``factor · TV(range·x)``, TV as in `functional.total_variation`. Published variants, each an
    option of ``loss/regularizer``:

    - ``tv``: mean of dx² + dy² per value, range 1: ours, comparable between sizes;
    - ``tv_mahendran``: Σ (dx²+dy²)^(β/2), β = 2 (Mahendran & Vedaldi 2015);
    - ``tv_squared``: ½Σ(dx²+dy²) on [0, 255], whose gradient CNNMRF and neural-style (Lua) use, weight 1e-3;
    - ``tv_l1``: Σ|dx| + Σ|dy| on [0, 255], of neural-style-pt;
    - ``tv_pystiche``: mean of dx²+dy² over the positions that have both neighbours.

    Args:
        exponent: Exponent of the differences; see `functional.total_variation`.
        isotropic: Whether to take both differences of a position together.
        reduction: ``sum`` over values, or their ``mean`` (per pixel and channel).
        factor: Constant of the formula.
        range: Largest value of a pixel: 1 for pictures in [0, 1], 255 for the published constants.
    """

    stackable = True

    def __init__(
        self,
        exponent: float = 2.0,
        isotropic: bool = False,
        reduction: Literal["sum", "mean"] = "mean",
        factor: float = 1.0,
        range: float = 1.0,
    ) -> None:
        super().__init__()
        if exponent < 1:
            raise ValueError(
                f"exponent must be at least 1, not {exponent}: below 1 the gradient is infinite in flat areas"
            )
        self.exponent, self.isotropic, self.reduction = exponent, isotropic, reduction
        self.factor, self.range = factor, range

    def target(self, features: Tensor, guide: Tensor | None = None) -> Tensor:
        """Return the variation of a picture ``(B, 3, H, W)``, ``(B,)``."""
        return self.forward(features, None, guide)

    def forward(self, features: Tensor, target: Tensor | None, guide: Tensor | None = None) -> Tensor:
        """Return the variation per canvas, ``(B,)``, of pictures ``(B, 3, H, W)``."""
        if guide is not None:
            raise ValueError("total variation is a property of the whole canvas: it takes no guide")
        pictures = at_least_float32(features) * self.range
        value = total_variation(pictures, exponent=self.exponent, isotropic=self.isotropic)
        if self.reduction == "mean":
            _, C, H, W = pictures.shape
            value = value / (C * (H - 1) * (W - 1) if self.isotropic else C * H * W)
        return self.factor * value

    def unit(self, target: Tensor | None) -> Tensor:
        """Return the target; 1 without one."""
        return super().unit(target) if target is None else target
