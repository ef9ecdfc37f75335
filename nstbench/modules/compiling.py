"""``torch.compile``, and one clear message where it cannot work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from nstbench.errors import UserError


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function compiled, one graph for each shape of its arguments.

    Raises:
        UserError: when called, if it cannot be compiled.
    """
    fast = torch.compile(function, dynamic=False)

    def call(*arguments: Any) -> Any:
        with _explained():
            return fast(*arguments)

    return call


def check_compiles(device: torch.device) -> None:
    """Compile a trifle, to see whether this machine has what compiling needs.

    Raises:
        UserError: if it has not.
    """
    with _explained():
        torch.compile(lambda x: (x + 1).relu() * 2, dynamic=False)(torch.ones(64, device=device))


@contextmanager
def _explained() -> Iterator[None]:
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        text = " ".join(str(error).split())
        reason = f"the encoder cannot be compiled here ({text[:160].rstrip()})"
        hint = "Remove it; or install a C++ compiler (for the CPU) or Triton (for a GPU)."
        raise UserError("trainer.compile", "true", reason, hint) from error
