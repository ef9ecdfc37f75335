"""How far the picture's Gram matrices are from the style picture's, to eyes that no run optimised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from nstbench.losses.functional.gram import gram_matrix
from nstbench.losses.functional.maps import weighted_mean
from nstbench.metrics.base import Metric, Subject, styles_of
from nstbench.metrics.judging import JudgingEncoder


class GramDistance(Metric):
    """Mean over layers of ``Σ(G - A)² / ΣA²``, under an encoder of the metric's own.

    0 is the style's own statistics, 1 those of a picture without features.

    Args:
        encoder: a node like the group ``encoder``; it must not be the one that was optimised.
        layers: ``default`` or names.
    """

    higher_is_better: ClassVar[bool] = False
    compares_with: ClassVar[Literal["content", "style", "nothing"]] = "style"

    def __init__(
        self, encoder: Mapping[str, Any], layers: Sequence[str] | Literal["default"] = "default"
    ) -> None:
        self.judge = JudgingEncoder(encoder)
        self.layers = layers
        if layers != "default" and self.judge.encoder is not None:
            self.judge.encoder.check(layers, "metrics.gram_distance.layers")

    def __call__(self, subject: Subject) -> float:
        """Return the distance."""
        layers = list(self.layers)
        if self.layers == "default":
            eyes = self.judge.encoder
            layers = [] if eyes is None else list(eyes.default_layers["style"])
        encoder = self.judge.of(subject, layers)
        of_picture = encoder(subject.picture, layers)
        of_styles = [encoder(style, layers) for style in styles_of(subject)]
        distances = []
        for layer in layers:
            G = gram_matrix(of_picture[layer])
            A = weighted_mean([gram_matrix(features[layer]) for features in of_styles], subject.blend)
            distances.append(float(((G - A) ** 2).sum() / (A**2).sum()))
        return sum(distances) / len(distances)
