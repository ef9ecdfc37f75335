"""Distance of the picture's Gram matrices from the style picture's, under an unoptimised encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor

from nstbench.encoders.base import Encoder
from nstbench.losses.functional.gram import gram_matrix
from nstbench.losses.functional.maps import weighted_mean
from nstbench.metrics.base import Metric, Subject, styles_of
from nstbench.metrics.judging import JudgingEncoder


class GramDistance(Metric):
    """Mean over layers of ``Σ(G - A)² / ΣA²``, under an encoder of the metric's own.

    0 is the value of the style's own Gram matrices, 1 that of features that are 0.

    Args:
        encoder: Node like the group ``encoder``; its weights must differ from the optimised encoder's.
        layers: Names of layers, or ``default``: the encoder's choice for style.
    """

    higher_is_better: ClassVar[bool] = False
    compares_with: ClassVar[Literal["content", "style", "nothing"]] = "style"

    def __init__(
        self, encoder: Mapping[str, Any], layers: Sequence[str] | Literal["default"] = "default"
    ) -> None:
        self.judging = JudgingEncoder(encoder)
        self.layers = layers
        self.judging.check(layers, "metrics.gram_distance.layers")

    def __call__(self, subject: Subject) -> float:
        """Return the distance."""
        pictures = [subject.picture, *styles_of(subject)]
        layers = self.judging.layers_for("style", self.layers)
        encoder = self.judging.encoder_for(pictures, subject.optimized, layers)
        return gram_distance(encoder, *pictures, blend=subject.blend, layers=layers)


def gram_distance(
    encoder: Encoder, picture: Tensor, *styles: Tensor, blend: Sequence[float], layers: Sequence[str]
) -> float:
    """Return the mean over layers of ``Σ(G - A)² / ΣA²``, A the mean of the styles' matrices by blend."""
    features, *of_styles = [encoder(each, layers) for each in (picture, *styles)]
    distances = []
    for layer in layers:
        G = gram_matrix(features[layer])
        A = weighted_mean([gram_matrix(of_style[layer]) for of_style in of_styles], blend)
        distances.append(float(((G - A) ** 2).sum() / (A**2).sum()))
    return sum(distances) / len(distances)
