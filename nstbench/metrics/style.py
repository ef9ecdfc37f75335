"""How far the picture's Gram matrices are from the style picture's, to eyes that no run optimised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from nstbench.encoders.build import build_encoder
from nstbench.errors import UserError
from nstbench.losses.base import weighted_mean
from nstbench.losses.functional import gram_matrix
from nstbench.metrics.base import Metric, Subject, Unavailable, styles_of


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
        self.missing = ""
        try:
            self.encoder = build_encoder(encoder).cpu()
        except UserError as error:  # weights that are not here: no mistake, but no metric either
            self.missing = str(error)
            return
        self.layers = list(self.encoder.default_layers["style"] if layers == "default" else layers)
        self.encoder.check(self.layers, "metrics.gram_distance.layers")

    def __call__(self, subject: Subject) -> float:
        """Return the distance."""
        if self.missing:
            raise Unavailable(self.missing)
        if self.encoder.weights_sha256 == subject.optimized.weights_sha256:
            raise Unavailable("the judging encoder is the one that was optimised: choose another one")
        smallest = self.encoder.smallest_picture(self.layers)
        if min(min(p.shape[-2:]) for p in [subject.picture, *styles_of(subject)]) < smallest:
            raise Unavailable(f"a picture is smaller than the {smallest} pixels the judging encoder needs")
        # A run that optimises this very encoder, in the same sweep, may have moved it to its device.
        encoder = self.encoder.cpu()
        of_picture = encoder(subject.picture, self.layers)
        of_styles = [encoder(style, self.layers) for style in styles_of(subject)]
        distances = []
        for layer in self.layers:
            G = gram_matrix(of_picture[layer])
            A = weighted_mean([gram_matrix(features[layer]) for features in of_styles], subject.blend)
            distances.append(float(((G - A) ** 2).sum() / (A**2).sum()))
        return sum(distances) / len(distances)
