"""The Laplacian loss: the edges of the content picture, on the pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from nstbench.losses.base import Loss
from nstbench.losses.functional.maps import at_least_float32


class Laplacian(Loss):
    """Squared distance of Laplacians of average-pooled pictures: ``Σ_p w_p · mean (Δ_p(x) - Δ_p(c))²``.

    ``Δ_p`` pools p×p pixels, convolves each channel with ``[0 -1 0; -1 4 -1; 0 -1 0]`` (no
    padding) and sums the channels: one map ``(H/p - 2, W/p - 2)``. The sum makes it a measure of
    lightness: opposite edges of two colours cancel.

    Li, Xu, Nie & Chua (2017), "Laplacian-Steered Neural Style Transfer", add it to content and style
    ("Lapstyle"). The paper sums over positions; the authors' code takes the mean on pixels in
    [0, 255] with weight 100 at p=4, and in one of its experiments, 100 at p=4 and 1600 at p=16,
    beside neural-style's content 5 or 20 and style 100.

    With a guide ``(1 or B, 1, H, W)``, pooled in the same way, positions count by their weight.

    Args:
        pools: Sides p of the pooled squares, in pixels.
        pool_weights: Weights w_p, one for each pool.
        range: Largest value of a pixel in the published unit: 255 for the authors' weights, 1 for ours.

    Raises:
        ValueError: If the numbers of pools and weights differ, a picture has fewer than 3 squares a
            side, or the canvas has another size than the picture.
    """

    stackable = True

    def __init__(
        self, pools: Sequence[int] = (4,), pool_weights: Sequence[float] = (1.0,), range: float = 1.0
    ) -> None:
        super().__init__()
        if len(pools) != len(pool_weights) or not pools or min(pools) < 1:
            raise ValueError(f"one weight for each pool is needed: {list(pools)}, {list(pool_weights)}")
        self.pools, self.pool_weights, self.range = list(pools), list(pool_weights), range

    def target(self, features: Tensor, guide: Tensor | None = None) -> list[Tensor]:
        """Return the Laplacian of the picture ``(B, 3, H, W)`` for each pool."""
        return [self._laplacian(features, p) for p in self.pools]

    def forward(self, features: Tensor, target: Sequence[Tensor], guide: Tensor | None = None) -> Tensor:
        """Return the squared distance per canvas, ``(B,)``."""
        canvas = [self._laplacian(features, p) for p in self.pools]
        self._check_sizes(canvas, target)
        return self._mean([x - c for x, c in zip(canvas, target, strict=True)], guide)

    def unit(self, target: Sequence[Tensor]) -> Tensor:
        """Return the value of a canvas without edges."""
        return self._mean(target, None)

    def _laplacian(self, picture: Tensor, pool: int) -> Tensor:
        if min(picture.shape[2:]) < 3 * pool:
            size = f"{picture.shape[3]}x{picture.shape[2]}"
            raise ValueError(
                f"a Laplacian of {pool}x{pool} squares needs three of them on each side, not {size}"
            )
        # The channels are summed first: the filter is linear, and then runs once.
        x = functional.avg_pool2d(self.range * at_least_float32(picture).sum(1, keepdim=True), pool)
        return 4 * x[..., 1:-1, 1:-1] - (
            x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]
        )

    def _check_sizes(self, canvas: Sequence[Tensor], target: Sequence[Tensor]) -> None:
        sizes, expected = ([tuple(t.shape[2:]) for t in maps] for maps in (canvas, target))
        if sizes != expected:
            raise ValueError(f"content needs one size: Laplacians of the canvas {sizes}, target {expected}")

    def _mean(self, maps: Sequence[Tensor], guide: Tensor | None) -> Tensor:
        total = torch.zeros((), device=maps[0].device)
        for x, pool, weight in zip(maps, self.pools, self.pool_weights, strict=True):
            if guide is None:
                value = x.square().mean((1, 2, 3))
            else:
                g = functional.avg_pool2d(at_least_float32(guide), pool)[..., 1:-1, 1:-1]
                tiny = torch.finfo(g.dtype).tiny  # a region without positions here counts 0
                value = (g * x.square()).sum((1, 2, 3)) / g.sum((1, 2, 3)).clamp_min(tiny)
            total = total + weight * value
        return total
