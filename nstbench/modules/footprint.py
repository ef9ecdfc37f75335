"""How much memory a canvas takes while it is optimised."""

from __future__ import annotations

import torch
from torch import Tensor

from nstbench.modules.image_optimization import ImageOptimization
from nstbench.optimizers.lbfgs import LBFGS


def memory_of(module: ImageOptimization) -> int:
    """Return the bytes that a canvas needs: those that one evaluation keeps, which are counted, and the
    optimiser's.

    What several canvases of a batch share, such as the encoder, is left out.
    """
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        module.values()
    for shared in module.encoder.parameters():
        kept.pop(shared.untyped_storage().data_ptr(), None)
    largest = max(kept.values(), default=0)
    numbers = sum(p.numel() * p.element_size() for p in module.canvas.parameters())
    single = module.make_optimizer(module.canvas.parameters())
    history: int = 2 * single.param_groups[0].get("history_size", 1)
    with_temporaries = 8 if isinstance(single, LBFGS | torch.optim.LBFGS) else 4
    # On the way back, gradients of two layers are held at a time.
    return sum(kept.values()) + 3 * largest + (history + with_temporaries) * numbers
