"""The Loss contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from nstbench.losses.functional.maps import at_least_float32
from nstbench.losses.functional.sums import Sums

Target = Any
"""What a loss keeps of a content or style picture. Each loss chooses the type; usually a tensor."""

Maps = TypeVar("Maps")


class Formulation(nn.Module, Generic[Maps]):
    """What `Loss` (one feature map at a time) and `JointLoss` (several together) have in common.

    A formulation holds settings, never pictures: `target` computes what is kept of a picture's
    feature map, `forward` how far a canvas's feature map is from it. Computation is in float32 (or
    float64) whatever the encoder's precision, and each feature map is normalised by its own number
    of positions, so that the canvas and the pictures may differ in size.

    Attributes:
        target_picture: Picture from which a regulariser computes its target: the content picture (if
            there is none, the style picture), or the style picture.
        stackable: Whether targets of several pictures, each ``(1, …)``, may be concatenated along the first
            dimension to the target of a batch. Not if the loss samples: each canvas has its own draw.
        smallest_map: Least height and width of a feature map, in positions.
        redraw_every: Steps between draws of what is sampled (positions, projections); 0: one draw.
        seed: Seed of the present draw, set by the term before each call. What a loss samples depends on
            it alone, so that the objective does not change between two draws, and a run that
            was interrupted continues with the same samples.
    """

    target_picture: ClassVar[Literal["content", "style"]] = "content"
    stackable: ClassVar[bool] = False
    smallest_map: int = 1
    redraw_every: int = 0
    seed: int = 0

    def views(self, layers: Sequence[str]) -> list[str]:
        """Return the groups of layers that the loss compares: single layers, or several joined by ``+``."""
        raise NotImplementedError

    def copies(self, picture: Tensor) -> Sequence[Tensor]:
        """Return the pictures ``(B, 3, H, W)`` whose targets are joined: the picture, or altered copies too.

        The first is the picture itself. Masks ``(1, 1, H, W)`` are altered in the same way: copies may
        move pixels, not change their values.
        """
        return [picture]

    def target(self, features: Maps, guide: Tensor | None = None) -> Target:
        """Return the target: what is kept of feature maps ``(1 or B, C, h, w)``."""
        raise NotImplementedError

    def join(self, targets: Sequence[Target]) -> Target:
        """Return the target of a picture from those of its `copies`."""
        (only,) = targets
        return only

    def forward(self, features: Maps, target: Target, guide: Tensor | None = None) -> Tensor:
        """Return one value per canvas, ``(B,)``, for feature maps ``(B, C, h, w)``."""
        raise NotImplementedError

    def unit(self, target: Target) -> Tensor:
        """Return one unit of this loss, ``(1 or B,)``, for ``weights.unit=unit``.

        It is the value at a canvas whose features are 0: for a squared error, the target's own mean
        square under the same constants. A loss without a target, or whose value has no scale (a
        cosine distance), has no unit other than its published one, 1.
        """
        return torch.ones(1)

    def blend(self, targets: Sequence[Target], weights: Sequence[float]) -> Target:
        """Return the target for several style pictures together; ``weights`` sum to 1.

        Raises:
            NotImplementedError: If the formulation is not defined for more than one picture.
        """
        raise NotImplementedError(f"{type(self).__name__} is defined for one picture only")

    def check_blend(self, weights: Sequence[float]) -> None:
        """Raise ValueError if several pictures with these weights cannot be blended."""
        if type(self).blend is Formulation.blend:
            raise ValueError(f"{type(self).__name__} is defined for one style picture only")

    def generator(self) -> torch.Generator:
        """Return the random generator of the present draw, in its first state, on the CPU."""
        return torch.Generator().manual_seed(self.seed)


class Loss(Formulation[Tensor]):
    """A formulation that is applied to one feature map at a time."""

    def views(self, layers: Sequence[str]) -> list[str]:
        """Return each layer alone."""
        return list(layers)


class JointLoss(Formulation[Sequence[Tensor]]):
    """A formulation that compares several feature maps together, such as a hypercolumn of all layers."""

    def views(self, layers: Sequence[str]) -> list[str]:
        """Return all layers together."""
        return ["+".join(layers)]


class AdditiveLoss(Formulation[Maps]):
    """A formulation that depends on feature maps only through `Sums` over their positions.

    The sums of a picture too large to encode at once are added up block by block; the gradient of
    `compare` with respect to the sums is all that a block needs of the others
    (`nstbench.blockwise.objective`). A subclass defines `statistic`, `summary` and `compare`.
    """

    def statistic(self, features: Maps, guide: Tensor | None = None, centre: Tensor | None = None) -> Sums:
        """Return the sums over the positions of feature maps ``(B, C, h, w)``.

        Args:
            features: Feature maps of a picture, or of a part of it.
            guide: Guide of the same positions, ``(1 or B, 1, h, w)``.
            centre: Constant to subtract from the features, for losses of moments about the mean; by
                default the features' own mean.
        """
        raise NotImplementedError

    def summary(self, statistic: Sums) -> Target:
        """Return the target of a picture with these sums."""
        raise NotImplementedError

    def compare(self, statistic: Sums, target: Target) -> Tensor:
        """Return the value per canvas, ``(B,)``, of canvases with these sums."""
        raise NotImplementedError

    def target(self, features: Maps, guide: Tensor | None = None) -> Target:
        """Return the `summary` of feature maps ``(1 or B, C, h, w)``."""
        return self.summary(self.statistic(features, guide))

    def forward(self, features: Maps, target: Target, guide: Tensor | None = None) -> Tensor:
        """Return the distance per canvas, ``(B,)``."""
        return self.compare(self.statistic(features, guide), target)


class PositionwiseLoss(Loss):
    """A formulation that compares each position with the same one of the picture, and sums the errors.

    Its value is `factor` times `errors`; the errors of blocks add up to those of the whole canvas.
    A subclass defines both.
    """

    def errors(self, features: Tensor, target: Tensor, guide: Tensor | None = None) -> Tensor:
        """Return the sum of the errors over positions, ``(B,)``."""
        raise NotImplementedError

    def factor(self, channels: int, positions: int) -> float:
        """Return the factor of the errors of a whole map."""
        raise NotImplementedError

    def target(self, features: Tensor, guide: Tensor | None = None) -> Tensor:
        """Return the feature maps themselves."""
        return at_least_float32(features)

    def forward(self, features: Tensor, target: Tensor, guide: Tensor | None = None) -> Tensor:
        """Return the error per canvas, ``(B,)``."""
        if features.shape[1:] != target.shape[1:]:
            raise ValueError(
                f"content needs one size: canvas {tuple(features.shape)}, target {tuple(target.shape)}"
            )
        return self._factor(target) * self.errors(features, target, guide)

    def unit(self, target: Tensor) -> Tensor:
        """Return the value at F = 0."""
        return self._factor(target) * self.errors(torch.zeros_like(target), target)

    def _factor(self, target: Tensor) -> float:
        return self.factor(target.shape[1], target.shape[2] * target.shape[3])


CANVAS = "canvas"
"""The name of the pixels themselves in a list of layers."""
