"""How far the picture's colours are from the style picture's."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from nstbench.metrics.base import Metric, Subject, styles_of


class ColourDistance(Metric):
    """Mean over L*, a*, b* of the Wasserstein-1 distance between the channels' distributions.

    In CIELAB units (D65): a difference of about 1 is visible side by side. Positions do not
    matter, so the pictures may differ in size. Several style pictures count by their blend weights.
    """

    higher_is_better: ClassVar[bool] = False
    compares_with: ClassVar[Literal["content", "style", "nothing"]] = "style"

    def __call__(self, subject: Subject) -> float:
        """Return the distance."""
        from scipy.stats import wasserstein_distance  # slow to import, needed only at the end of a run

        styles = [_lab(style) for style in styles_of(subject)]
        values = np.concatenate(styles)
        weights = np.concatenate(
            [np.full(len(s), w / len(s)) for s, w in zip(styles, subject.blend, strict=True)]
        )
        picture = _lab(subject.picture)
        channels = range(3)
        return float(
            np.mean([wasserstein_distance(picture[:, c], values[:, c], v_weights=weights) for c in channels])
        )


def _lab(picture: Tensor) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the pixels ``(H·W, 3)`` of a picture ``(1, 3, H, W)`` in CIELAB."""
    from skimage.color import rgb2lab

    return np.asarray(rgb2lab(picture[0].double().permute(1, 2, 0).numpy())).reshape(-1, 3)
