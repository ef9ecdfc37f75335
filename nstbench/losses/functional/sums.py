"""Sums over positions: all that an additive loss needs of a feature map, of any size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from nstbench.losses.functional.gram import products
from nstbench.losses.functional.moments import ScatterInDouble, channel_means, in_double, outer


@dataclass(frozen=True)
class Sums:
    """Sums over positions of features less a constant, ``f - c``; those of two parts of a map add up.

    With c near the mean, moments about the mean keep the digits that ``Σffᵀ/M - μμᵀ`` would cancel.

    Attributes:
        count: Number M of positions, or the sum of their weights g, ``(1 or B, 1)``.
        first: ``Σ g(f - c)``, ``(B, N)``; None: not computed.
        second: ``Σ g(f - c)(f - c)ᵀ``, ``(B, N, N)``, or its diagonal, ``(B, N)``; None: not computed.
        centre: Constant c, ``(B, N)``; None: 0.
    """

    count: Tensor
    first: Tensor | None = None
    second: Tensor | None = None
    centre: Tensor | None = None

    @property
    def mean(self) -> Tensor:
        """The mean of the features, ``(B, N)``."""
        assert self.first is not None
        offset = self.first / self.count
        return offset if self.centre is None else self.centre + offset

    @property
    def products(self) -> Tensor:
        """The mean of ``(f - c)(f - c)ᵀ``, ``(B, N, N)``: without a centre, the Gram matrix."""
        assert self.second is not None
        return self.second / self.count[..., None]

    @property
    def covariance(self) -> Tensor:
        """The covariance of the features, ``(B, N, N)``; divided by M."""
        assert self.first is not None
        return self.products - outer(self.first / self.count)

    @property
    def variance(self) -> Tensor:
        """The variance of every channel, ``(B, N)``, from a diagonal; divided by M."""
        assert self.first is not None
        assert self.second is not None
        return (self.second / self.count - (self.first / self.count) ** 2).clamp(min=0)

    def about(self, centre: Tensor | None) -> Sums:
        """Return the sums of the same features less another constant."""
        if centre is self.centre:
            return self
        assert self.first is not None
        d = (0 if self.centre is None else self.centre) - (0 if centre is None else centre)
        assert isinstance(d, Tensor)
        first, second = self.first + self.count * d, self.second
        if second is not None and second.ndim == 2:
            second = second + 2 * d * self.first + self.count * d**2
        elif second is not None:
            cross = d[:, :, None] * self.first[:, None, :]
            second = second + cross + cross.transpose(1, 2) + self.count[..., None] * outer(d)
        return Sums(self.count, first, second, centre)

    def about_mean(self) -> Sums:
        """Return the sums of the features less their mean; without a centre, these sums."""
        return self if self.centre is None else self.about(self.mean)

    def __add__(self, other: Sums) -> Sums:
        """Return the sums over the positions of both."""
        other = other.about(self.centre)
        first, second = self.first, self.second
        return replace(
            self,
            count=self.count + other.count,
            first=None if first is None or other.first is None else first + other.first,
            second=None if second is None or other.second is None else second + other.second,
        )

    @property
    def sums(self) -> list[Tensor]:
        """``first`` and ``second``, unless they are None."""
        return [s for s in (self.first, self.second) if s is not None]

    def requiring_grad(self) -> Sums:
        """Return the same as leaves of a new graph."""
        first, second = (
            None if s is None else s.detach().requires_grad_() for s in (self.first, self.second)
        )
        return Sums(self.count, first, second, self.centre)

    def double(self) -> Sums:
        """Return the same in float64, in which blocks are added up."""
        parts = (self.first, self.second, self.centre)
        return Sums(in_double(self.count), *(None if s is None else in_double(s) for s in parts))


def sums(
    features: Tensor,
    guide: Tensor | None = None,
    centre: Tensor | None = None,
    second: Literal["products", "products in double", "squares", "none"] = "products",
) -> Sums:
    """Return the sums over a feature map ``(B, N, h, w)``, less ``centre`` or else its own mean.

    Args:
        features: Feature map, at least float32.
        guide: Weights of the positions, ``(1 or B, 1, h, w)``.
        centre: Constant c, ``(B, N)``.
        second: Kind of the sums of second order.

    Raises:
        ValueError: If the guide is 0 everywhere.
    """
    mean = channel_means(features, guide)
    if centre is None:
        centre = mean.detach()
    n = count(features, guide)
    x = features - centre[..., None, None]
    second_sums = None
    if second == "products":
        second_sums = products(x, guide)
    elif second == "products in double":
        weighted = x if guide is None else x * guide.sqrt()
        second_sums = ScatterInDouble.apply(weighted.flatten(2))
    elif second == "squares":
        weighted = x if guide is None else x * guide
        second_sums = torch.einsum("bnm,bnm->bn", weighted.flatten(2), x.flatten(2))
    # Σ(f - c) without another sum; where c is the mean it is 0, but its gradient is not.
    return Sums(n, n * (mean - centre), second_sums, centre)


def count(features: Tensor, guide: Tensor | None = None) -> Tensor:
    """Return the number of positions of a feature map, or the sum of their weights, ``(1 or B, 1)``."""
    if guide is None:
        return features.new_full((1, 1), features.shape[2] * features.shape[3])
    return guide.flatten(1).sum(dim=1, keepdim=True).to(features)
