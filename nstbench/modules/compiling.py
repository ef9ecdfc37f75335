"""``torch.compile``, with a clear error where it does not work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from nstbench.errors import UserError


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function compiled, one graph for each shape of its arguments.

    Raises:
        UserError: The returned function is called and cannot be compiled.
    """
    fast = torch.compile(function, dynamic=False)

    def call(*arguments: Any) -> Any:
        with _raise_user_error():
            return fast(*arguments)

    return call


def check_compiles(device: torch.device) -> None:
    """Check that this machine can compile, with a small function.

    Raises:
        UserError: It cannot.
    """
    with _raise_user_error():
        torch.compile(lambda x: (x + 1).relu() * 2, dynamic=False)(torch.ones(64, device=device))


@contextmanager
def _raise_user_error() -> Iterator[None]:
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        text = " ".join(str(error).split())
        reason = f"the encoder cannot be compiled here ({text[:160].rstrip()})"
        hint = "Remove it; or install a C++ compiler (for the CPU) or Triton (for a GPU)."
        raise UserError("trainer.compile", "true", reason, hint) from error
