"""The Markov random field loss of Li & Wand: distances of patches from their most similar style patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nstbench.losses.base import Loss
from nstbench.losses.functional.maps import at_least_float32, per_canvas
from nstbench.losses.functional.patches import Patches, joined, nearest, patches_of

Normalization = Literal["mean", "paper", "authors"]
Overlap = Literal["sum", "average"]


@dataclass(frozen=True)
class StylePatches:
    """The style's patches.

    Attributes:
        patches: Patches of all style pictures and their copies.
        entries: Sum of a_p over all patches and their positions, for a canvas of the (first) picture's size.
    """

    patches: Patches
    entries: float


class MRF(Loss):
    """Squared distance of patches from their nearest style patches: ``factor · Σ_i ‖Ψ_i - Ψ_NN(i)‖²``.

    Ψ_i are the k×k patches of a feature map of C channels and ``NN(i) = argmax_j cos(Ψ_i, Ψ_j)`` over
    the style's; NN is found again at every evaluation and counts as constant in the gradient. Li & Wand
    (CVPR 2016, eq. 2 and 3) is ``paper``. Other code's values, in its unit E:

    =============  =======  =================  =====================================================
    normalization  overlap  value              source
    =============  =======  =================  =====================================================
    paper          sum      E = Σ_i ‖…‖²       Li & Wand 2016
    authors        average  ½ Σ_p mean_i ‖…‖²  the gradient of their code, which has no value; weight
                                               1e-4. pystiche_papers: this gradient, with the value E/2
    mean           sum      E / (P·C·k²)       pystiche: the mean over P patches and their entries
    =============  =======  =================  =====================================================

    A vector of the map lies in up to k² patches. With ``overlap=sum`` its gradient is the sum over them,
    smaller at the border, where there are fewer. With ``average`` the gradient at a position is divided
    by the number of patches that cover it: ``2 (F_p - mean of the matched vectors)``. Both are the
    gradient of the value ``Σ_p a_p Σ_{i covers p} ‖F_p - T_ip‖²``, where T_ip is the vector of style patch
    NN(i) at position p, and a_p is 1, or 1 / the number of patches over p. ``mean`` divides it by C times
    the sum of a_p over patches and their positions: a mean over all vectors compared, at any canvas size.

    Args:
        patch: Side k of the patches, in positions of the layer.
        style_stride: Stride between the style's patches; the last row and column of patches are always
            included.
        canvas_stride: Stride between the canvas's patches, likewise.
        rotations: Number of turned copies of the style to either side.
        rotation_step: Degrees between turns.
        scales: Number of larger copies of the style, and of smaller ones.
        scale_step: Factor between sizes.
        normalization: One of the names above.
        overlap: One of the names above.
    """

    def __init__(
        self,
        patch: int = 3,
        style_stride: int = 1,
        canvas_stride: int = 1,
        rotations: int = 0,
        rotation_step: float = 7.5,
        scales: int = 0,
        scale_step: float = 1.05,
        normalization: Normalization = "mean",
        overlap: Overlap = "sum",
    ) -> None:
        super().__init__()
        if min(patch, style_stride, canvas_stride) < 1 or min(rotations, scales) < 0 or scale_step <= 0:
            raise ValueError(
                "patch and strides must be at least 1, rotations and scales at least 0, scale_step above 0"
            )
        self.patch = self.smallest_map = patch
        self.style_stride = style_stride
        self.canvas_stride = canvas_stride
        self.angles = [i * rotation_step for i in _by_distance(rotations)]
        self.factors = [scale_step**i for i in _by_distance(scales)]
        self.normalization = normalization
        self.overlap = overlap

    def copies(self, picture: Tensor) -> list[Tensor]:
        """Return the picture, then its turned and resized copies: (2·rotations+1)(2·scales+1) in all."""
        return [turned(picture, angle, factor) for angle in self.angles for factor in self.factors]

    def target(self, features: Tensor, guide: Tensor | None = None) -> StylePatches:
        """Return the feature vectors, and where patches begin.

        Raises:
            ValueError: If the map is smaller than a patch, or the guide's region holds none.
        """
        grid = patches_of(features[:1, :1], self.patch, self.canvas_stride, guide)
        entries = float(self._coverage(grid)[1].sum())
        return StylePatches(patches_of(features, self.patch, self.style_stride, guide), entries)

    def join(self, targets: Sequence[StylePatches]) -> StylePatches:
        """Return the union of the copies' patches."""
        return StylePatches(joined([t.patches for t in targets]), targets[0].entries)

    def blend(self, targets: Sequence[StylePatches], weights: Sequence[float]) -> StylePatches:
        """Return the union of the pictures' patches: a patch of the canvas may match any picture.

        Raises:
            ValueError: If the weights differ: the search for the nearest patch has no weights.
        """
        self.check_blend(weights)
        return self.join(targets)

    def check_blend(self, weights: Sequence[float]) -> None:
        """Raise ValueError if the weights differ."""
        if max(weights) - min(weights) > 1e-6:
            raise ValueError("patches of several style pictures are united: their weights must be equal")

    def forward(self, features: Tensor, target: StylePatches, guide: Tensor | None = None) -> Tensor:
        """Return the distance per canvas, ``(B,)``.

        Raises:
            ValueError: If the map is smaller than a patch, or the guide's region holds none.
        """
        F = at_least_float32(features)
        patches = patches_of(F.detach(), self.patch, self.canvas_stride, guide)
        found = nearest(patches, target.patches)
        _, weight = self._coverage(patches)
        matched, errors = self._mean_matches(patches, target.patches, found)
        # Σ_i |F - T_i|² is n|F - mean T|² and a remainder that does not depend on F: the gradient needs
        # only the mean of the matched vectors. The value is `errors`, which is more exact.
        surrogate = per_canvas(weight * (F.flatten(2) - matched) ** 2)
        value = surrogate + (errors - surrogate.detach())
        return self._factor(float(weight.sum()), F.shape[1]) * value

    def unit(self, target: StylePatches) -> Tensor:
        """Return the mean distance of a canvas of zeros, of the style's size, from all the style's patches.

        A patch of zeros has no nearest patch: its cosine with every patch is 0.
        """
        C = target.patches.vectors.shape[2]
        square = target.patches.squared_norms().mean(1) / self.patch**2
        return self._factor(target.entries, C) * target.entries * square

    def _coverage(self, patches: Patches) -> tuple[Tensor, Tensor]:
        """Return the number of patches over each position of a map, n_p, and its weight a_p·n_p."""
        covered = torch.cat([patches.entry(y, x) for y, x in patches.offsets])
        count = torch.bincount(covered, minlength=patches.vectors.shape[1]).to(patches.vectors)
        return count, count if self.overlap == "sum" else count.clamp(max=1)

    @torch.no_grad()
    def _mean_matches(self, canvas: Patches, style: Patches, found: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean matched vector at each position, ``(B, C, n)``, and Σ a_p |F_p - T_ip|²."""
        count, weight = self._coverage(canvas)
        count = count.clamp(min=1)
        total = torch.zeros_like(canvas.vectors)
        errors = canvas.vectors.new_zeros(len(total))
        for i in range(len(total)):
            vectors = style.of_canvas(i).vectors[0]
            for y, x in canvas.offsets:
                here, there = canvas.entry(y, x), style.entry(y, x)[found[i]]
                matched = vectors[there]
                errors[i] += ((canvas.vectors[i, here] - matched) ** 2).sum(1) @ (weight / count)[here]
                total[i].index_add_(0, here, matched)
        return (total / count[:, None]).transpose(1, 2), errors

    def _factor(self, entries: float, channels: int) -> float:
        """Return the constant before Σ a_p |F_p - T_ip|²."""
        return {"mean": 1 / (entries * channels), "paper": 1.0, "authors": 0.5}[self.normalization]


def _by_distance(n: int) -> list[int]:
    """Return 0, 1, -1, 2, -2, … n, -n."""
    return [0, *(sign * i for i in range(1, n + 1) for sign in (1, -1))]


def turned(picture: Tensor, degrees: float, factor: float) -> Tensor:
    """Return a picture ``(B, 3, H, W)`` turned and resized, cropped to a rectangle without empty corners.

    The rectangle is the largest upright one within the turned picture: black corners would be patches
    to match. Pixels are interpolated linearly.
    """
    if degrees == 0 and factor == 1:
        return picture
    H, W = picture.shape[2:]
    angle = math.radians(degrees)
    height, width = _largest_upright(H - 1, W - 1, angle)  # distances between the outermost pixels
    rows, columns = (math.floor(side * factor + 1e-6) + 1 for side in (height, width))
    y = (torch.arange(rows).to(picture) - (rows - 1) / 2)[:, None] / factor
    x = (torch.arange(columns).to(picture) - (columns - 1) / 2) / factor
    cos, sin = math.cos(angle), math.sin(angle)
    # From here on in grid_sample's units of half a picture.
    across = (cos * x + sin * y) / max((W - 1) / 2, 0.5)
    down = (cos * y - sin * x) / max((H - 1) / 2, 0.5)
    where = torch.stack([across, down], dim=-1).expand(len(picture), -1, -1, -1)
    return torch.nn.functional.grid_sample(picture, where, padding_mode="border", align_corners=True)


def _largest_upright(height: float, width: float, angle: float) -> tuple[float, float]:
    """Return height and width of the largest upright rectangle in a rectangle turned by ``angle``."""
    sin, cos = abs(math.sin(angle)), abs(math.cos(angle))
    long, short = max(height, width), min(height, width)
    if short <= 2 * sin * cos * long or abs(sin - cos) < 1e-9:  # two corners touch the long sides
        one, other = short / 2 / sin, short / 2 / cos
        return (other, one) if width >= height else (one, other)
    double = cos**2 - sin**2
    return (height * cos - width * sin) / double, (width * cos - height * sin) / double
