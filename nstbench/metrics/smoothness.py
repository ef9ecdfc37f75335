"""Total variation of the picture."""

from __future__ import annotations

from typing import ClassVar, Literal

from nstbench.losses.functional.total_variation import total_variation
from nstbench.metrics.base import Metric, Subject


class TotalVariationPerPixel(Metric):
    """Anisotropic total variation per pixel and channel: mean of |dx| + |dy|, values in [0, 1].

    Low is smooth. Paintings have some variation; noise, the usual artefact of pixel optimisation, has more.
    """

    higher_is_better: ClassVar[bool] = False
    compares_with: ClassVar[Literal["content", "style", "nothing"]] = "nothing"

    def __call__(self, subject: Subject) -> float:
        """Return the mean."""
        value = total_variation(subject.picture, exponent=1.0, isotropic=False)
        return float(value) / subject.picture[0].numel()
