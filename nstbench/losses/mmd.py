"""Maximum mean discrepancies between the features of canvas and style, under three kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from nstbench.losses.base import AdditiveLoss, Loss
from nstbench.losses.functional.gram import products
from nstbench.losses.functional.maps import at_least_float32, inside, per_canvas, weighted_mean
from nstbench.losses.functional.moments import channel_means
from nstbench.losses.functional.sums import Sums, count, sums


class LinearMMD(AdditiveLoss[Tensor], Loss):
    """Squared MMD under k(x, y) = xᵀy, the squared distance of means: ``‖μ - μ̂‖² / N``.

    ``MMD² = E k(x, x') + E k(y, y') - 2 E k(x, y)`` over pairs of positions of the canvas's features x and
    the style's y; feature maps ``(B, N, h, w)``. Li, Wang, Liu & Hou, "Demystifying Neural Style
    Transfer" (2017), up to their constant for each kernel.
    """

    stackable = True

    def statistic(self, features: Tensor, guide: Tensor | None = None, centre: Tensor | None = None) -> Sums:
        """Return the sum of every channel, about a centre."""
        return sums(at_least_float32(features), guide, centre, second="none")

    def summary(self, statistic: Sums) -> Tensor:
        """Return the mean of every channel, ``(1 or B, N)``."""
        return statistic.mean

    def compare(self, statistic: Sums, target: Tensor) -> Tensor:
        """Return the discrepancy per canvas, ``(B,)``."""
        return self._distance(statistic.mean, target)

    def unit(self, target: Tensor) -> Tensor:
        """Return the value at F = 0."""
        return self._distance(torch.zeros_like(target), target)

    def blend(self, targets: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """Average the means."""
        return weighted_mean(targets, weights)

    def _distance(self, mean: Tensor, style: Tensor) -> Tensor:
        return per_canvas((mean - style) ** 2) / style.shape[1]


class PolynomialMMD(AdditiveLoss[Tensor], Loss):
    """Squared MMD under k(x, y) = (xᵀy + c·s)²: ``[Σ (G - A)² + 2c·s ‖μ - μ̂‖²] / (4N²)``.

    G and A are the Gram matrices ``FFᵀ/M`` of canvas and style, μ and μ̂ the means: the sum over all pairs
    of positions, computed from sums over positions. s is the style's mean ‖y‖², the trace of A, which
    makes c independent of the scale of the layer and of the encoder. With c = 0, the published setting, it
    is the Gram loss of Gatys et al. (2016), as Li, Wang, Liu & Hou (2017) observe.

    Args:
        c: Weight of the means beside the products, in units of the style's mean ‖y‖²; not negative.
    """

    stackable = True

    def __init__(self, c: float = 1.0) -> None:
        super().__init__()
        if c < 0:
            raise ValueError(f"(xᵀy + c)² is a kernel only for c of 0 or more, not {c}")
        self.c = c

    def statistic(self, features: Tensor, guide: Tensor | None = None, centre: Tensor | None = None) -> Sums:
        """Return the sums of the features and of their products; the centre is not used."""
        F = at_least_float32(features)
        n = count(F, guide)
        return Sums(n, n * channel_means(F, guide), products(F, guide))

    def summary(self, statistic: Sums) -> tuple[Tensor, Tensor]:
        """Return the mean ``(1 or B, N)`` and the Gram matrix ``(1 or B, N, N)``."""
        return statistic.mean, statistic.products

    def compare(self, statistic: Sums, target: tuple[Tensor, Tensor]) -> Tensor:
        """Return the discrepancy per canvas, ``(B,)``."""
        return self._distance(self.summary(statistic), target)

    def unit(self, target: tuple[Tensor, Tensor]) -> Tensor:
        """Return the value at F = 0."""
        return self._distance((torch.zeros_like(target[0]), torch.zeros_like(target[1])), target)

    def blend(
        self, targets: Sequence[tuple[Tensor, Tensor]], weights: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        """Average means and Gram matrices."""
        means, matrices = zip(*targets, strict=True)
        return weighted_mean(means, weights), weighted_mean(matrices, weights)

    def _distance(self, canvas: tuple[Tensor, Tensor], style: tuple[Tensor, Tensor]) -> Tensor:
        (mean, G), (style_mean, A) = canvas, style
        value = per_canvas((G - A) ** 2)
        if self.c:
            s = A.diagonal(dim1=1, dim2=2).sum(dim=1)
            value = value + 2 * self.c * s * per_canvas((mean - style_mean) ** 2)
        return value / (4 * A.shape[1] ** 2)


@dataclass(frozen=True)
class Positions:
    """A style's features at all its positions, and what the kernel computes from them.

    Attributes:
        features: Features of the style, ``(1 or B, N, M)``.
        spread: Mean ‖y - y'‖² over pairs of positions, ``(1 or B, 1, 1)``.
        waves: Cache of the features' `_MeanWaves` for the present draw of frequencies; the key names
            the draw.
    """

    features: Tensor
    spread: Tensor
    waves: dict[tuple[int, int, float], Tensor] = field(default_factory=dict)


class GaussianMMD(Loss):
    """Squared MMD under k(x, y) = exp(-‖x - y‖² / (b D̂)), a distance of whole distributions.

    ``MMD² = mean_ij k(x_i, x_j) + mean_ij k(y_i, y_j) - 2 mean_ij k(x_i, y_j)`` over all pairs, those of
    a position with itself included (the V-statistic: biased, never negative, and zero at the style
    picture), between 0 and 2. D̂ is the style's own mean ‖y - y'‖², which is twice its summed variance,
    at all its positions, so that the kernel does not change during a run.

    There are too many pairs of positions to sum over all. Two estimates, both seeded and both zero at
    the style picture:

    - ``frequencies``: the kernel's Fourier transform is a normal density, so that ``MMD²`` is the mean of
      ``|mean_i exp(i wᵀx_i) - mean_j exp(i wᵀy_j)|²`` over frequencies w drawn from N(0, 2/(b D̂))
      (Rahimi & Recht 2007). Every position has a gradient at every draw.
    - ``positions``: all pairs of a sample of positions. Only the positions of the draw have a gradient.

    Li, Wang, Liu & Hou, "Demystifying Neural Style Transfer" (2017). Their code computes
    1/(b D̂) from canvas and style together at every evaluation, with b = 1, and an estimate from
    random pairs, linear in the number of positions, that changes at every evaluation.

    Args:
        estimate: Estimate of the mean over pairs, ``frequencies`` or ``positions``.
        samples: Number of frequencies, or of positions of each picture (all, where there are no more).
        bandwidth: Width b of the kernel in units of the style's mean squared distance.
        redraw_every: Steps between draws; 0 keeps the first for the whole run.
    """

    def __init__(
        self,
        estimate: Literal["frequencies", "positions"] = "frequencies",
        samples: int = 128,
        bandwidth: float = 4.0,
        redraw_every: int = 25,
    ) -> None:
        super().__init__()
        if samples < 1 or bandwidth <= 0 or redraw_every < 0:
            raise ValueError("samples must be at least 1, bandwidth above 0, redraw_every at least 0")
        self.estimate, self.samples = estimate, samples
        self.bandwidth, self.redraw_every = bandwidth, redraw_every

    def target(self, features: Tensor, guide: Tensor | None = None) -> Positions:
        """Return the features themselves, as new draws need them."""
        return _positions(inside(features, guide))

    def forward(self, features: Tensor, target: Positions, guide: Tensor | None = None) -> Tensor:
        """Return the discrepancy per canvas, ``(B,)``."""
        F = inside(features, guide)
        if self.estimate == "positions":
            return self._discrepancy(self._sample(F), self._sample(target.features), target)
        frequencies = self._frequencies(target).to(F)
        draw = (self.seed, self.samples, self.bandwidth)
        if draw not in target.waves:
            with torch.no_grad():
                style_waves = _MeanWaves.apply(target.features.to(F), frequencies)
            target.waves.clear()
            target.waves[draw] = style_waves
        canvas_waves: Tensor = _MeanWaves.apply(F, frequencies)
        return (canvas_waves - target.waves[draw].to(F)).square().sum(dim=2).mean(dim=1)

    def unit(self, target: Positions) -> Tensor:
        """Return the value at F = 0, on at most 1,024 evenly spaced positions of the style."""
        step = -(-target.features.shape[2] // 1024)
        return self._discrepancy(
            torch.zeros_like(target.features[..., :1]), target.features[..., ::step], target
        )

    def blend(self, targets: Sequence[Positions], weights: Sequence[float]) -> Positions:
        """Concatenate the positions of all pictures, in proportion to the weights."""
        sizes = [t.features.shape[2] for t in targets]
        total = min(m / w for m, w in zip(sizes, weights, strict=True) if w > 0)
        generator = self.generator()
        chosen = []
        for t, m, w in zip(targets, sizes, weights, strict=True):
            order = torch.randperm(m, generator=generator)[: round(w * total)]
            chosen.append(t.features[..., order.to(t.features.device)])
        return _positions(torch.cat(chosen, dim=2))

    def _frequencies(self, style: Positions) -> Tensor:
        """Return frequencies in rows, ``(1 or B, samples, N)``."""
        drawn = torch.randn(self.samples, style.features.shape[1], generator=self.generator())
        return drawn.to(style.spread) * (2 / (self.bandwidth * style.spread)).sqrt()

    def _sample(self, features: Tensor) -> Tensor:
        M = features.shape[2]
        if self.samples >= M:
            return features
        # A new generator for each picture: two of one size are sampled at the same positions.
        order = torch.randperm(M, generator=self.generator())[: self.samples]
        return features[..., order.to(features.device)]

    def _discrepancy(self, x: Tensor, y: Tensor, style: Positions) -> Tensor:
        width = self.bandwidth * style.spread
        return _kernel(x, x, width) + _kernel(y, y, width) - 2 * _kernel(x, y, width)


def _positions(features: Tensor) -> Positions:
    spread = 2 * features.var(dim=2, correction=0).sum(dim=1)
    size = features.square().mean(dim=2).sum(dim=1)
    # Where all positions are equal, the kernel's width is their mean square, or 1 if that is 0.
    spread = torch.where(spread > 1e-6 * size, spread, size)
    return Positions(features, torch.where(spread > 1e-30, spread, 1.0)[:, None, None])


def _kernel(x: Tensor, y: Tensor, width: Tensor) -> Tensor:
    """Return the mean of ``exp(-‖x_i - y_j‖²/width)`` over all pairs of columns, ``(1 or B,)``."""
    centre = y.mean(dim=2, keepdim=True).detach()  # the same distances, with fewer digits lost
    x, y = x - centre, y - centre
    squares = x.square().sum(dim=1)[:, :, None] + y.square().sum(dim=1)[:, None, :]
    # Rounding errors above 0 would be magnified by a narrow width.
    return ((2 * x.transpose(1, 2) @ y - squares).clamp(max=0) / width).exp().mean(dim=(1, 2))


class _MeanWaves(torch.autograd.Function):
    """The means of ``cos wᵀf`` and ``sin wᵀf`` over positions, ``(B, S, 2)``, for S frequencies.

    Waves at all positions would take more memory than the features: they are computed in blocks of
    positions, and again for the gradient.
    """

    block = 8192

    @staticmethod
    def forward(ctx: Any, F: Tensor, frequencies: Tensor) -> Tensor:
        """Return the means, for F ``(B, N, M)`` and frequencies ``(1 or B, S, N)``."""
        ctx.save_for_backward(F, frequencies)
        means = []
        for part in torch.split(F, _MeanWaves.block, dim=2):
            phases = frequencies @ part
            means.append(torch.stack([phases.cos().sum(dim=2), phases.sin().sum(dim=2)], dim=2))
        return torch.stack(means).sum(0) / F.shape[2]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient for F."""
        F, frequencies = ctx.saved_tensors
        of_cos, of_sin = (gradient / F.shape[2])[:, :, None].unbind(dim=3)
        slopes = []
        for part in torch.split(F, _MeanWaves.block, dim=2):
            phases = frequencies @ part
            slopes.append(frequencies.transpose(1, 2) @ (phases.cos() * of_sin - phases.sin() * of_cos))
        return torch.cat(slopes, dim=2), None
