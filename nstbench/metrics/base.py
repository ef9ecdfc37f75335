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
        picture: Finished picture as written, ``(1, 3, H, W)``, in 8-bit steps.
        content: Content picture of the same shape; None in texture synthesis.
        styles: Style pictures, each ``(1, 3, h, w)``, at the size of the last stage.
        blend: Weight of each style picture; they sum to 1.
        optimized: Encoder whose features the run optimised.
        formulations: Names of the style terms that the run optimised.
    """

    picture: Tensor
    content: Tensor | None
    styles: Sequence[Tensor]
    blend: Sequence[float]
    optimized: Encoder
    formulations: Sequence[str] = ()


class Unavailable(Exception):  # noqa: N818 - a state of a metric, not an error of the program
    """A metric cannot be computed here; the message says why. No value is substituted."""


class Metric:
    """One number for a finished picture, or several that belong together, by name.

    Attributes:
        higher_is_better: Whether a higher value is better.
        compares_with: What the picture is compared with.
    """

    higher_is_better: ClassVar[bool]
    compares_with: ClassVar[Literal["content", "style", "nothing"]]

    def __call__(self, subject: Subject) -> float | Mapping[str, float | Unavailable]:
        """Return the value, or several by name, with `Unavailable` for those that cannot be computed.

        Raises:
            Unavailable: If no value can be computed; the message is the reason.
        """
        raise NotImplementedError


def content_of(subject: Subject) -> Tensor:
    """Return the content picture, or raise `Unavailable`."""
    if subject.content is None:
        raise Unavailable("the run has no content picture")
    return subject.content


def styles_of(subject: Subject) -> Sequence[Tensor]:
    """Return the style pictures, or raise `Unavailable`."""
    if not subject.styles:
        raise Unavailable("the run has no style picture")
    return subject.styles
