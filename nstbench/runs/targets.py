"""Feature maps of content and style pictures, encoded once for all runs of a batch that remember them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from nstbench.encoders.base import Features
from nstbench.modules.image_optimization import ImageOptimization

_MOST = 4  # pictures at a time: runs of a sweep that share one mostly follow each other, and maps are large
_kept: ContextVar[dict[Any, Features] | None] = ContextVar("kept", default=None)


@contextmanager
def shared_encodings() -> Iterator[None]:
    """Keep what `encoded` computes, for whoever asks again."""
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


@torch.no_grad()
def encoded(module: ImageOptimization, picture: Tensor) -> Features:
    """Return the maps of ``picture`` that the objective of ``module`` asks for, as it encodes at present."""
    kept = _kept.get()
    if kept is None:
        return module.encode(picture)
    digest = hashlib.sha256(picture.cpu().contiguous().numpy().tobytes()).hexdigest()
    layers = tuple(module.objective.layers)
    phase = "exactly" if module.is_exact else module.encoding.phase(picture.device)
    key = digest, tuple(picture.shape), id(module.encoder), layers, phase
    found = kept.pop(key, None) or module.encode(picture)
    kept[key] = found  # the last to go
    for oldest in list(kept)[:-_MOST]:
        del kept[oldest]
    return found
