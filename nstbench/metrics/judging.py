"""The encoder of a metric: one that the run did not optimise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

from torch import Tensor

from nstbench.encoders.base import Encoder
from nstbench.encoders.build import build_encoder
from nstbench.errors import UserError
from nstbench.metrics.base import Unavailable


class JudgingEncoder:
    """An encoder for metrics; without its weights on this machine the metric is unavailable.

    It is built at its first use: most runs need it at their end only.

    Args:
        node: Node like the group ``encoder``.
    """

    def __init__(self, node: Mapping[str, Any]) -> None:
        self.node, self.missing = node, ""

    @cached_property
    def encoder(self) -> Encoder | None:
        """The encoder; None where its weights are missing."""
        try:
            return build_encoder(self.node).cpu()
        except UserError as error:  # missing weights make the metric unavailable, and are no error
            self.missing = str(error)
            return None

    def check(self, layers: Sequence[str] | Literal["default"], setting: str) -> None:
        """Raise UserError for the first layer that the encoder lacks; the default ones need no check."""
        if layers != "default" and self.encoder is not None:
            self.encoder.check(layers, setting)

    def layers_for(
        self, role: Literal["content", "style"], layers: Sequence[str] | Literal["default"]
    ) -> list[str]:
        """Return the names of layers; for ``default``, those that the encoder chooses for the role."""
        if layers != "default":
            return list(layers)
        return [] if self.encoder is None else list(self.encoder.default_layers[role])

    def encoder_for(self, pictures: Sequence[Tensor], optimized: Encoder, layers: Sequence[str]) -> Encoder:
        """Return the encoder, on the CPU, for pictures ``(1, 3, H, W)`` that are compared.

        Args:
            pictures: Pictures that it is to encode.
            optimized: Encoder whose features the run optimised.
            layers: Names of the layers that are compared.

        Raises:
            Unavailable: If its weights are missing, the run optimised it, or a picture is too small for it.
        """
        if self.encoder is None:
            raise Unavailable(self.missing)
        if self.encoder.weights_sha256 == optimized.weights_sha256:
            raise Unavailable("its encoder is the one that the run optimised: choose another one")
        smallest = self.encoder.smallest_picture(layers)
        if min(min(p.shape[-2:]) for p in pictures) < smallest:
            raise Unavailable(f"a picture is smaller than the {smallest} pixels that its encoder needs")
        # A run that optimises this very encoder, in the same sweep, may have moved it to its device.
        return self.encoder.cpu()
