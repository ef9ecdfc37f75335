"""The memory that a canvas takes while it is optimised."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nstbench.modules.member import Member
from nstbench.optimizers.lbfgs import LBFGS


def memory_of(member: Member, optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes that one more canvas takes in a batch.

    They are the bytes that one evaluation keeps for its gradient, which are counted, and those of the
    optimiser. Memory that the canvases of a batch share, such as the encoder's, is left out.

    Args:
        member: Canvas with its objective.
        optimizer: Optimiser of the canvas's parameters.
    """
    numbers = sum(p.numel() * p.element_size() for p in member.canvas.parameters())
    history: int = 2 * optimizer.param_groups[0].get("history_size", 1)
    with_temporaries = 8 if isinstance(optimizer, LBFGS | torch.optim.LBFGS) else 4
    return kept_by(member, member.evaluate) + (history + with_temporaries) * numbers


def kept_by(member: Member, evaluate: Callable[[], object]) -> int:
    """Return the bytes that an evaluation keeps for its gradient, without those of the encoder's weights."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(x: Tensor) -> None:
        # Held here alone, and let go at the end: a graph that is given its own outputs is never freed.
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage()

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        evaluate()
    for shared in member.encoding.encoder.parameters():
        kept.pop(shared.untyped_storage().data_ptr(), None)
    sizes = [storage.nbytes() for storage in kept.values()]
    # The backward pass holds the gradients of two layers at a time.
    return sum(sizes) + 3 * max(sizes, default=0)
