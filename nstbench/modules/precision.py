"""The precision in which the encoder computes, and the end of bfloat16 in a stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from nstbench.encoders.base import Encoder, Features
from nstbench.modules.compiling import compiled
from nstbench.modules.plateau import Plateau
from nstbench.runtime.device import fast_bf16

Precision = Literal["fp32", "tf32", "bf16", "auto"]
Phase = Literal["fp32", "tf32", "bf16"]

# Of `auto`: how they were chosen is in docs/speed.md.
AUTO_TOLERANCE, AUTO_EVALUATIONS, AUTO_SHARE = 0.001, 20, 0.8


class Encoding:
    """An encoder in the precision of a stage.

    - ``fp32``: float32, whatever the device could do faster.
    - ``tf32``: on an NVIDIA GPU the inputs of convolutions are rounded to 10 bits, PyTorch's own default;
      elsewhere ``fp32``.
    - ``bf16``: convolutions and their feature maps in bfloat16, 8 bits.
    - ``auto``: ``bf16`` where the device computes it in hardware, until the objective is on a `Plateau`
      or 80 % of the stage's steps are made; then ``tf32`` on an NVIDIA GPU and ``fp32`` elsewhere. Where
      bfloat16 is not in hardware, the latter from the beginning.

    Pictures of targets, units and final values are encoded by `full_precision`: in float32.

    Args:
        encoder: Frozen encoder.
        precision: Precision, one of the above.
        compile: Whether to use ``torch.compile``, with one graph for each size of the canvas.
        channels_last: Whether feature maps are in the memory format ``torch.channels_last``.
    """

    def __init__(
        self,
        encoder: Encoder,
        precision: Precision = "fp32",
        *,
        compile: bool = False,
        channels_last: bool = False,
    ) -> None:
        self.encoder, self.precision = encoder, precision
        self.compile, self.channels_last = compile, channels_last
        self.plateau = Plateau(AUTO_TOLERANCE, AUTO_EVALUATIONS)
        self.settled_at: int | None = None
        self._ready: dict[Phase, Any] = {}

    def phase(self, device: torch.device) -> Phase:
        """Return the present precision."""
        if self.precision in {"fp32", "bf16"}:
            return cast(Phase, self.precision)
        if self.precision == "auto" and self.settled_at is None and fast_bf16(device):
            return "bf16"
        return "tf32" if device.type == "cuda" else "fp32"

    def __call__(self, pictures: Tensor, layers: Sequence[str]) -> Features:
        """Return the feature maps of ``layers`` in the present precision."""
        self._move_encoder(pictures.device)
        phase = self.phase(pictures.device)
        if self.channels_last:
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        encode = self._prepared(phase)
        device = pictures.device.type
        with torch.autocast(device, dtype=torch.bfloat16) if phase == "bf16" else nullcontext():
            return cast(Features, encode(pictures, layers))

    def full_precision(self, pictures: Tensor, layers: Sequence[str]) -> Features:
        """Return the feature maps of ``layers`` in float32."""
        self._move_encoder(pictures.device)
        return cast(Features, self.encoder(pictures, layers))

    def _move_encoder(self, device: torch.device) -> None:
        """Move the encoder to the device of the pictures: metrics of another run may have moved it away."""
        parameter = next(self.encoder.parameters(), None)
        if parameter is not None and parameter.device != device:
            self.encoder.to(device)

    @contextmanager
    def tf32_allowed(self, device: torch.device) -> Iterator[None]:
        """Allow TF32 in convolutions inside the block, if it is the present precision."""
        before = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = self.phase(device) == "tf32"
        try:
            yield
        finally:
            torch.backends.cudnn.allow_tf32 = before

    def end_bf16_if_due(self, step: int, steps: int) -> bool:
        """End bfloat16 for the rest of the stage, if that is due; return whether it was.

        Args:
            step: Number of the next step of the stage, from 0.
            steps: Steps of the stage.
        """
        late = step >= AUTO_SHARE * steps
        if self.precision != "auto" or self.settled_at is not None or not (late or self.plateau.reached):
            return False
        self.settled_at = step
        return True

    def phases(self, steps: int, device: torch.device) -> dict[str, int]:
        """Return the number of steps in each precision, of ``steps`` that were made."""
        now = self.phase(device)
        if self.precision != "auto" or self.settled_at is None or not fast_bf16(device):
            return {now: steps}
        return {"bf16": self.settled_at, now: steps - self.settled_at}

    def is_provisional(self, device: torch.device) -> bool:
        """Return whether a more exact precision follows in this stage."""
        return self.precision == "auto" and self.phase(device) == "bf16"

    def state_dict(self) -> dict[str, Any]:
        """Return the state, for checkpoints."""
        return {"settled_at": self.settled_at, "plateau": self.plateau.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.settled_at = state["settled_at"]
        self.plateau.load_state_dict(state["plateau"])

    def _prepared(self, phase: Phase) -> Any:
        """Return the encoder of a phase, prepared once."""
        if phase not in self._ready:
            encoder = with_bf16_weights(self.encoder) if phase == "bf16" else self.encoder
            if self.channels_last:
                encoder = encoder if phase == "bf16" else deepcopy(encoder)
                encoder = encoder.to(memory_format=torch.channels_last)
            self._ready[phase] = compiled(encoder) if self.compile else encoder
        return self._ready[phase]


def with_bf16_weights(encoder: Encoder) -> Encoder:
    """Return a copy whose convolutions and linear layers have bfloat16 weights.

    Autocast would convert float32 weights again at every evaluation: it caches only those that are trained.
    Modules that autocast leaves in float32, such as the preprocessing, stay in float32.
    """
    copy = deepcopy(encoder)
    for module in copy.modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            module.to(torch.bfloat16)
    return copy
