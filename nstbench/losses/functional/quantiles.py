"""One-dimensional optimal transport: sorting, quantiles, and mapping values by their rank."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 2**16
"""Number of values sorted together on the CPU: their keys, of twice their size, fit in a core's cache."""


def ascending(values: Tensor) -> Tensor:
    """Return ``values`` sorted along the last dimension; not differentiable."""
    values = values.detach()
    if values.device.type == "cpu":  # NumPy's vectorised sort is 20 times as fast as PyTorch's
        return torch.from_numpy(np.sort(values.numpy(), axis=-1))
    return values.sort(dim=-1).values


def resampled(quantiles: Tensor, positions: int) -> Tensor:
    """Return the quantile function at another number of positions, ``(B, C, M)`` to ``(B, C, positions)``.

    The k-th of M sorted values is the quantile at level (k + ½)/M; between two levels the function is
    a straight line, beyond the first and the last it is constant (``hazen`` in ``numpy.quantile``).
    """
    if quantiles.shape[-1] == positions:
        return quantiles
    return F.interpolate(quantiles, size=positions, mode="linear", align_corners=False)


def remap(values: Tensor, quantiles: Tensor, generator: torch.Generator) -> Tensor:
    """Return values mapped to another distribution of their row; not differentiable.

    The k-th smallest value of a row becomes ``quantiles[k]``: the monotone map, which is the optimal
    transport in one dimension. Equal values are ranked at random, in a different order for each row:
    many values after a ReLU are exactly 0, and ranked by their position they would be mapped to a ramp
    from the top of the picture to its bottom.

    Args:
        values: Values ``(B, C, M)``.
        quantiles: Sorted values of the other distribution, ``(1 or B, C, M)``.
        generator: Random generator for the order of equal values; one order for the whole batch.

    Returns:
        The mapped values, ``(B, C, M)``.
    """
    values = values.detach()
    C, M = values.shape[1:]
    # Multiply-shift hashing: one number per position and an odd one per row give an order for each row.
    place = torch.randint(2**32, (M,), generator=generator)
    row = 2 * torch.randint(2**31, (C,), generator=generator) + 1
    quantiles = quantiles.to(values).expand_as(values)
    if values.device.type == "cpu" and values.dtype == torch.float32:
        return torch.from_numpy(_remap_numpy(values.numpy(), quantiles.numpy(), place.numpy(), row.numpy()))
    ties = _hashes(place.to(values.device), row.to(values.device)).argsort(dim=1).expand(values.shape)
    order = ties.gather(2, values.gather(2, ties).sort(dim=2, stable=True).indices)
    return torch.empty_like(values).scatter_(2, order, quantiles)


def _hashes(place: Tensor, row: Tensor) -> Tensor:
    """Return the keys that order equal values, ``(C, M)``: random bits above the position, in 32 bits."""
    random = (place * row[:, None]) & 0xFFFFFFFF
    return random & ~_places(len(place)) | torch.arange(len(place), device=place.device)


def _places(positions: int) -> int:
    """Return the mask of the bits that number the positions."""
    return (1 << (positions - 1).bit_length()) - 1


def _remap_numpy(
    values: npt.NDArray[np.float32],
    quantiles: npt.NDArray[np.float32],
    place: npt.NDArray[np.int64],
    row: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """Compute `remap` by sorting integers, which NumPy does four times as fast as ranking floats.

    A key holds the value's bits above those of `_hashes`: keys are ordered by value, then at
    random, and their lowest bits are the position of the value.
    """
    B, C, M = values.shape
    moved = np.empty_like(values)
    mask, places = np.uint32(_places(M)), np.arange(M, dtype=np.uint32)
    random, odd = place.astype(np.uint32), row.astype(np.uint32)[:, None]
    rows = max(1, _BLOCK // M)
    for b in range(B):
        for c in range(0, C, rows):
            block = slice(c, c + rows)
            bits = (values[b, block] + np.float32(0)).view(np.int32)  # -0 and 0 are equal: one zero
            # Positive floats are ordered as their bits are; negative ones in reverse.
            key = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64) << 32
            key |= random * odd[block] & ~mask | places
            key.sort(axis=-1)
            np.put_along_axis(moved[b, block], key & np.int64(mask), quantiles[b, block], axis=-1)
    return moved
