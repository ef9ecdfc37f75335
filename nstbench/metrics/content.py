"""Distance of the picture's feature maps from the content picture's, under an unoptimised encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor

from nstbench.encoders.base import Encoder
from nstbench.metrics.base import Metric, Subject, content_of
from nstbench.metrics.judging import JudgingEncoder


class ContentDistance(Metric):
    """Mean over layers of ``‖F - P‖² / ‖P‖²``, under an encoder of the metric's own.

    F are the feature maps of the picture, P those of the content picture, position by position. 0 is the
    value of the content picture itself, 1 that of features that are 0. It is the content loss of Gatys et al.
    (2016, Eq. 1), divided by what it is for features that are 0; unlike LPIPS, no weights of channels were
    fitted to what people see.

    Args:
        encoder: Node like the group ``encoder``; its weights must differ from the optimised encoder's.
        layers: Names of layers, or ``default``: the encoder's choice for content.
    """

    higher_is_better: ClassVar[bool] = False
    compares_with: ClassVar[Literal["content", "style", "nothing"]] = "content"

    def __init__(
        self, encoder: Mapping[str, Any], layers: Sequence[str] | Literal["default"] = "default"
    ) -> None:
        self.judging = JudgingEncoder(encoder)
        self.layers = layers
        self.judging.check(layers, "metrics.content_distance.layers")

    def __call__(self, subject: Subject) -> float:
        """Return the distance."""
        content = content_of(subject)
        layers = self.judging.layers_for("content", self.layers)
        encoder = self.judging.encoder_for([subject.picture, content], subject.optimized, layers)
        return content_distance(encoder, subject.picture, content, layers)


def content_distance(encoder: Encoder, picture: Tensor, content: Tensor, layers: Sequence[str]) -> float:
    """Return the mean over layers of ``‖F - P‖² / ‖P‖²``, of a picture and a content picture of one shape."""
    F, P = encoder(picture, layers), encoder(content, layers)
    distances = [float(((F[layer] - P[layer]) ** 2).sum() / (P[layer] ** 2).sum()) for layer in layers]
    return sum(distances) / len(distances)
