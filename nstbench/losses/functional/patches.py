"""Patches of feature maps, and the most similar style patch of each: shared by losses that match.

Neither all patches nor all similarities are in memory at once: what is kept of a picture is its feature
vectors, and similarities are computed a block at a time, of which only the best is kept.
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
        vectors: Feature vectors of all maps, row by row, one map after another, ``(B, n, C)``.
        shapes: Shape ``(h, w)`` of each map; the numbers of positions sum to n.
        corners: Index of the upper left vector of each patch, ``(P,)``.
        widths: Width of the map that each patch lies in, ``(P,)``; entry (y, x) of a patch is the vector
            ``corner + y·width + x``.
        size: Side of the patches.
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
        """Return the index of the vector at entry (y, x) of each patch, ``(P,)``."""
        return self.corners + y * self.widths + x

    def of_canvas(self, i: int) -> Patches:
        """Return the patches of one canvas of the batch; if all canvases share them, the shared ones."""
        return replace(self, vectors=self.vectors[min(i, len(self.vectors) - 1)][None])

    def squared_norms(self) -> Tensor:
        """Return ‖Ψ‖² of each patch, ``(B, P)``."""
        norms = (self.vectors**2).sum(2)
        return torch.stack([norms[:, self.entry(y, x)] for y, x in self.offsets]).sum(0)


def grid(length: int, size: int, stride: int) -> list[int]:
    """Return where patches begin along a side: every ``stride`` positions, and always the last that fits.

    As in Li & Wand's code, no row or column of a map is left out.
    """
    last = length - size
    return sorted({*range(0, last + 1, stride), last})


def patches_of(features: Tensor, size: int, stride: int = 1, guide: Tensor | None = None) -> Patches:
    """Return the patches of feature maps ``(B, C, h, w)``; of a region, those centred in it.

    Args:
        features: One map per canvas.
        size: Side of the patches.
        stride: Stride between patches; the last row and column of patches are always included.
        guide: Guide of the region, ``(1, 1, h, w)``; a position is in it where the guide is at least half
            of its largest value.

    Raises:
        ValueError: If the maps are smaller than a patch, if each canvas has a guide of its own, or if
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
            raise ValueError(f"the guide's region contains no centre of a {size}×{size} patch at this layer")
    vectors = at_least_float32(features).flatten(2).transpose(1, 2).contiguous()
    return Patches(vectors, ((h, w),), corners, torch.full_like(corners, w), size)


def joined(several: Sequence[Patches]) -> Patches:
    """Return the union of several sets of patches."""
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
    """Return the index of the style patch with the highest cosine for each patch of the canvas, ``(B, P)``.

    ``NN(i) = argmax_j ⟨Ψ_i, Ψ_j⟩ / ‖Ψ_j‖``; ‖Ψ_i‖ does not change the argmax. Of equal cosines the first
    is returned, and a patch of zeros has the similarity 0 to any other.

    The inner product of two patches is a sum over their k² entries of inner products of single
    vectors, so one product of the maps themselves, summed along its diagonals, equals the product
    of unfolded patches, with k² times fewer multiplications. If strides leave so few pairs of patches
    that unfolding is cheaper, patches are unfolded.

    Args:
        canvas: Patches of one map per canvas.
        style: Patches of any number of maps, for each canvas its own or shared by all.
        block: Number of similarities in memory at once.
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
    for canvas_part in _unfolded(canvas, side):
        best = canvas_part.new_full((len(canvas_part),), -torch.inf)
        index = torch.zeros(len(canvas_part), dtype=torch.long, device=canvas_part.device)
        for j, style_part in enumerate(_unfolded(style, side)):
            similarity = canvas_part @ (style_part * scales[j * side : j * side + side, None]).T
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
    # Similarities may be negative: a vector that is the corner of no patch must be excluded explicitly.
    any_excluded = len(style.corners) < sum((H - k + 1) * (W - k + 1) for H, W in style.shapes)
    excluded = torch.ones(n, dtype=torch.bool, device=scale.device).index_fill_(0, style.corners, False)
    order = torch.zeros(n, dtype=torch.long, device=scale.device)
    order[style.corners] = torch.arange(len(style.corners), device=scale.device)
    found = []
    height = max(4 * k, block // (w * max(W for _, W in style.shapes)))  # rows of patches per block
    for top in range(0, h - k + 1, height):
        rows = min(height, h - k + 1 - top)
        canvas_part = canvas.vectors[0, top * w : (top + rows + k - 1) * w]
        best = canvas_part.new_full((rows, w - k + 1), -torch.inf)
        index = torch.zeros(rows, w - k + 1, dtype=torch.long, device=canvas_part.device)
        start = 0
        for H, W in style.shapes:
            window: deque[Tensor] = deque(maxlen=k)
            for Y in range(H):
                first = start + (Y - k + 1) * W  # the vector that begins this row of patches
                style_part = style.vectors[0, start + Y * W : start + (Y + 1) * W]
                product = (canvas_part @ style_part.T).view(rows + k - 1, w, W)
                window.append(_sum([product[:, x : w - k + 1 + x, x : W - k + 1 + x] for x in range(k)]))
                if len(window) < k:
                    continue
                similarity = _sum([window[y][y : y + rows] for y in range(k)])
                here = slice(first, first + W - k + 1)
                similarity *= scale[here]
                if any_excluded:
                    similarity.masked_fill_(excluded[here], -torch.inf)
                value = similarity.amax(dim=2)
                better = value > best  # few patches after the first rows: argmax is computed for these alone
                best = torch.where(better, value, best)
                index[better] = similarity[better].argmax(dim=1) + first
            start += H * W
        found.append(index)
    everywhere = torch.cat(found)  # (h - k + 1, w - k + 1): also where the canvas's grid has no patch
    y, x = canvas.corners // w, canvas.corners % w
    return order[everywhere[y, x]]


def _sum(terms: Sequence[Tensor]) -> Tensor:
    """Return the sum, as a new tensor."""
    if len(terms) == 1:
        return terms[0].clone()
    total = terms[0] + terms[1]
    for term in terms[2:]:
        total += term
    return total
