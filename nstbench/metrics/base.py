"""The Metric contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from nstbench.encoders.base import Encoder


@dataclass(frozen=True)
class Subject:
    """A finished picture and what it was made from; all tensors on the CPU, sRGB in [0, 1].

    Attributes:
        picture: ``(1, 3, H, W)``, in 8-bit steps, as it was written.
        content: of the same shape; None in texture synthesis.
        styles: each ``(1, 3, h, w)``, at the size of the last stage.
        blend: weight of each style picture; they sum to 1.
        optimized: the encoder whose features the run optimised.
        formulations: the names of the style terms that the run optimised.
    """

    picture: Tensor
    content: Tensor | None
    styles: Sequence[Tensor]
    blend: Sequence[float]
    optimized: Encoder
    formulations: Sequence[str] = ()


class Unavailable(Exception):  # noqa: N818 - a state of a metric, not an error of the program
    """A metric cannot be computed here; the message says why. Nothing is put in its place."""


class Metric:
    """One number for a finished picture, or several that belong together, by name.

    Attributes:
        higher_is_better: its direction.
        compares_with: what the picture is held against.
    """

    higher_is_better: ClassVar[bool]
    compares_with: ClassVar[Literal["content", "style", "nothing"]]

    def __call__(self, subject: Subject) -> float | Mapping[str, float | Unavailable]:
        """Return the value; of several, those that cannot be computed are the reason why.

        Raises:
            Unavailable: with the reason.
        """
        raise NotImplementedError


def content_of(subject: Subject) -> Tensor:
    """Return the content picture, which the metric needs."""
    if subject.content is None:
        raise Unavailable("the run has no content picture")
    return subject.content


def styles_of(subject: Subject) -> Sequence[Tensor]:
    """Return the style pictures, which the metric needs."""
    if not subject.styles:
        raise Unavailable("the run has no style picture")
    return subject.styles
