"""Patches of feature maps, and the most similar style patch of each: shared by losses that match.

Neither all patches nor all similarities are ever in memory: what is kept of a picture is its feature
vectors, and similarities are computed a block at a time, of which only the best is remembered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nstbench.losses.functional.maps import at_least_float32

# Similarities in memory at once: small blocks stay in a CPU's cache, large ones keep a GPU busy.
_BLOCK = {"cpu": 2**20, "cuda": 2**25}


@dataclass(frozen=True)
class Patches:
    """The square patches of feature maps, as the maps' own vectors and where patches begin.

    Attributes:
        vectors: ``(B, n, C)``: the feature vectors of all maps, row by row, one map after another.
        shapes: ``(h, w)`` of each map; the sizes sum to n.
        corners: ``(P,)``: which vector is the upper left one of each patch.
        widths: ``(P,)``: of the map that each patch lies in; entry (y, x) of a patch is the vector
            ``corner + y·width + x``.
        size: of the patches.
    """

    vectors: Tensor
    shapes: tuple[tuple[int, int], ...]
    corners: Tensor
    widths: Tensor
    size: int

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """The entries (y, x) of a patch."""
        return [(y, x) for y in range(self.size) for x in range(self.size)]

    def entry(self, y: int, x: int) -> Tensor:
        """Return which vector is entry (y, x) of each patch, ``(P,)``."""
        return self.corners + y * self.widths + x

    def of_canvas(self, i: int) -> Patches:
        """Return those of one canvas of the batch; maps that all canvases share are its own too."""
        return replace(self, vectors=self.vectors[min(i, len(self.vectors) - 1)][None])

    def squared_norms(self) -> Tensor:
        """Return ‖Ψ‖² of each patch, ``(B, P)``."""
        of_vectors = (self.vectors**2).sum(2)
        return torch.stack([of_vectors[:, self.entry(y, x)] for y, x in self.offsets]).sum(0)


def grid(length: int, size: int, stride: int) -> list[int]:
    """Return where patches begin along a side: every ``stride``, and the last that fits, always.

    Li & Wand's code does so too, so that no row or column of a map is left out.
    """
    last = length - size
    return sorted({*range(0, last + 1, stride), last})


def patches_of(features: Tensor, size: int, stride: int = 1, guide: Tensor | None = None) -> Patches:
    """Return the patches of feature maps ``(B, C, h, w)``; of a region, those centred in it.

    Args:
        features: one map per canvas.
        size: of the patches.
        stride: between patches; the last row and column of patches is there whatever it is.
        guide: ``(1, 1, h, w)``; a position is in the region where it is at least a half of its largest.

    Raises:
        ValueError: if the maps are smaller than a patch, if each canvas has a guide of its own, or if
            no patch is centred in the region.
    """
    h, w = features.shape[2:]
    if min(h, w) < size:
        raise ValueError(f"a patch of {size}×{size} does not fit into a feature map of {h}×{w}")
    rows = torch.tensor(grid(h, size, stride), device=features.device)
    columns = torch.tensor(grid(w, size, stride), device=features.device)
    corners = (rows[:, None] * w + columns).flatten()
    if guide is not None:
        if guide.shape[0] != 1:
            raise ValueError(f"one guide for the whole batch is needed, not {guide.shape[0]}")
        centre = guide.flatten()[corners + (size // 2) * (w + 1)]
        corners = corners[(centre >= guide.max() / 2) & (centre > 0)]
        if not len(corners):
            raise ValueError(f"the guide's region holds the centre of no {size}×{size} patch at this layer")
    vectors = at_least_float32(features).flatten(2).transpose(1, 2).contiguous()
    return Patches(vectors, ((h, w),), corners, torch.full_like(corners, w), size)


def joined(several: Sequence[Patches]) -> Patches:
    """Return the patches of all: their union."""
    corners, before = [], 0
    for each in several:
        corners.append(each.corners + before)
        before += each.vectors.shape[1]
    return Patches(
        torch.cat([each.vectors for each in several], dim=1),
        tuple(shape for each in several for shape in each.shapes),
        torch.cat(corners),
        torch.cat([each.widths for each in several]),
        several[0].size,
    )


@torch.no_grad()
def nearest(canvas: Patches, style: Patches, block: int | None = None) -> Tensor:
    """Return which style patch has the highest cosine with each patch of the canvas, ``(B, P)``.

    ``NN(i) = argmax_j ⟨Ψ_i, Ψ_j⟩ / ‖Ψ_j‖``; ‖Ψ_i‖ changes no maximum. The first of equals wins, and a
    patch of zeros has the similarity 0 to any other.

    The inner product of two patches is a sum over their k² entries of inner products of single
    vectors, so one product of the maps as they are, summed along its diagonals, gives what a product
    of unfolded patches gives, with k² times fewer multiplications. Where strides leave so few pairs
    of patches that the latter is the cheaper, that is what is done.

    Args:
        canvas: of one map per canvas.
        style: of any number of maps; of each canvas its own, or shared by all.
        block: similarities in memory at once.
    """
    block = block or _BLOCK.get(canvas.vectors.device.type, _BLOCK["cpu"])
    pairs = len(canvas.corners) * len(style.corners) * canvas.size**2
    dense = pairs > canvas.vectors.shape[1] * style.vectors.shape[1]
    search = _by_diagonals if dense else _by_unfolding
    norms = style.squared_norms().sqrt()
    scales = torch.where(norms > 0, 1 / norms, norms)
    each = [
        search(canvas.of_canvas(i), style.of_canvas(i), scales[min(i, len(scales) - 1)], block)
        for i in range(len(canvas.vectors))
    ]
    return torch.stack(each)


def _by_unfolding(canvas: Patches, style: Patches, scales: Tensor, block: int) -> Tensor:
    """Search in products of unfolded patches, some canvas and some style patches at a time."""
    side = max(1, int(block**0.5))
    found = []
    for mine in _unfolded(canvas, side):
        best = mine.new_full((len(mine),), -torch.inf)
        index = torch.zeros(len(mine), dtype=torch.long, device=mine.device)
        for j, theirs in enumerate(_unfolded(style, side)):
            similarity = mine @ (theirs * scales[j * side : j * side + side, None]).T
            value, where = similarity.max(dim=1)
            better = value > best
            best, index = torch.where(better, value, best), torch.where(better, where + j * side, index)
        found.append(index)
    return torch.cat(found)


def _unfolded(patches: Patches, count: int) -> Iterator[Tensor]:
    """Yield the patches as rows, ``(≤ count, k²C)``, a few at a time."""
    entries = torch.stack([patches.entry(y, x) for y, x in patches.offsets], dim=1)
    for start in range(0, len(entries), count):
        yield patches.vectors[0][entries[start : start + count]].flatten(1)


def _by_diagonals(canvas: Patches, style: Patches, scales: Tensor, block: int) -> Tensor:
    """Search in products of the maps: some rows of the canvas against one row of the style at a time."""
    k = canvas.size
    ((h, w),) = canvas.shapes
    n = style.vectors.shape[1]
    scale = scales.new_zeros(n).index_copy_(0, style.corners, scales)
    # Similarity may be below 0: a vector that begins no patch must lose against that, too.
    any_barred = len(style.corners) < sum((H - k + 1) * (W - k + 1) for H, W in style.shapes)
    barred = torch.ones(n, dtype=torch.bool, device=scale.device).index_fill_(0, style.corners, False)
    order = torch.zeros(n, dtype=torch.long, device=scale.device)
    order[style.corners] = torch.arange(len(style.corners), device=scale.device)
    found = []
    height = max(4 * k, block // (w * max(W for _, W in style.shapes)))  # rows of patches per block
    for top in range(0, h - k + 1, height):
        rows = min(height, h - k + 1 - top)
        mine = canvas.vectors[0, top * w : (top + rows + k - 1) * w]
        best = mine.new_full((rows, w - k + 1), -torch.inf)
        index = torch.zeros(rows, w - k + 1, dtype=torch.long, device=mine.device)
        start = 0
        for H, W in style.shapes:
            window: deque[Tensor] = deque(maxlen=k)
            for Y in range(H):
                first = start + (Y - k + 1) * W  # the vector that begins this row of patches
                theirs = style.vectors[0, start + Y * W : start + (Y + 1) * W]
                product = (mine @ theirs.T).view(rows + k - 1, w, W)
                window.append(_sum([product[:, x : w - k + 1 + x, x : W - k + 1 + x] for x in range(k)]))
                if len(window) < k:
                    continue
                similarity = _sum([window[y][y : y + rows] for y in range(k)])
                here = slice(first, first + W - k + 1)
                similarity *= scale[here]
                if any_barred:
                    similarity.masked_fill_(barred[here], -torch.inf)
                value = similarity.amax(dim=2)
                better = value > best  # of ever fewer patches, so that only theirs is asked where
                best = torch.where(better, value, best)
                index[better] = similarity[better].argmax(dim=1) + first
            start += H * W
        found.append(index)
    everywhere = torch.cat(found)  # (h - k + 1, w - k + 1): also where the canvas's grid has no patch
    y, x = canvas.corners // w, canvas.corners % w
    return order[everywhere[y, x]]


def _sum(terms: Sequence[Tensor]) -> Tensor:
    """Return the sum, in memory of its own."""
    if len(terms) == 1:
        return terms[0].clone()
    total = terms[0] + terms[1]
    for term in terms[2:]:
        total += term
    return total
