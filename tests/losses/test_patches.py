"""Patches and their nearest neighbours, against unfolding in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nstbench.losses.functional.patches import grid, joined, nearest, patches_of


def maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unfolded(F: np.ndarray, size: int, stride: int) -> np.ndarray:
    """All patches of a map (C, h, w) as rows, in the order of reading."""
    h, w = F.shape[1:]
    ys, xs = grid(h, size, stride), grid(w, size, stride)
    return np.stack([F[:, y : y + size, x : x + size].ravel() for y in ys for x in xs])


def nearest_oracle(
    F: np.ndarray, styles: list[np.ndarray], size: int, strides: tuple[int, int]
) -> np.ndarray:
    mine = unfolded(F, size, strides[0])
    theirs = np.concatenate([unfolded(S, size, strides[1]) for S in styles])
    cosine = mine @ theirs.T / np.linalg.norm(theirs, axis=1) / np.linalg.norm(mine, axis=1)[:, None]
    return cosine.argmax(1)


def test_a_grid_includes_the_last_row() -> None:
    assert grid(8, 3, 2) == [0, 2, 4, 5]
    assert grid(9, 3, 2) == [0, 2, 4, 6]
    assert grid(3, 3, 5) == [0]
    assert grid(5, 1, 1) == [0, 1, 2, 3, 4]


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 4),
    canvas=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    styles=st.lists(st.tuples(st.integers(4, 9), st.integers(4, 9)), min_size=1, max_size=3),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    block=st.sampled_from([1, 30, 200, 10**6]),
    seed=st.integers(0, 1000),
)
def test_matches_are_those_of_all_similarities_whatever_the_block(
    size: int,
    canvas: tuple[int, int],
    styles: list[tuple[int, int]],
    strides: tuple[int, int],
    block: int,
    seed: int,
) -> None:
    F = maps(2, 3, *canvas, seed=seed)
    S = [maps(1, 3, *shape, seed=seed + i + 1) for i, shape in enumerate(styles)]
    style = joined([patches_of(s, size, strides[1]) for s in S])
    found = nearest(patches_of(F, size, strides[0]), style, block)
    for i in range(2):
        expected = nearest_oracle(F[i].numpy(), [s[0].numpy() for s in S], size, strides)
        assert found[i].tolist() == expected.tolist()


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])  # summed along diagonals; unfolded
def test_only_patches_centred_in_the_region_are_found(strides: tuple[int, int]) -> None:
    F, S = maps(1, 3, 8, 9), maps(1, 3, 9, 8, seed=1)
    guide = torch.zeros(1, 1, 9, 8)
    guide[..., 3:7, 2:6] = 0.8
    guide[..., 5, 5] = 0.3  # less than a half of the largest: outside
    canvas, style = patches_of(F, 3, strides[0]), patches_of(S, 3, strides[1], guide)
    inside = [
        (y, x)
        for y in grid(9, 3, strides[1])
        for x in grid(8, 3, strides[1])
        if 3 <= y + 1 < 7 and 2 <= x + 1 < 6 and (y + 1, x + 1) != (5, 5)
    ]
    assert [(int(c) // 8, int(c) % 8) for c in style.corners] == inside
    mine = unfolded(F[0].numpy(), 3, strides[0])
    theirs = np.stack([S[0, :, y : y + 3, x : x + 3].numpy().ravel() for y, x in inside])
    expected = (mine @ theirs.T / np.linalg.norm(theirs, axis=1)).argmax(1)
    # The most similar patch of the region, even where all of the region point away from the canvas.
    assert nearest(canvas, style)[0].tolist() == expected.tolist()


def test_each_canvas_may_have_a_style_of_its_own() -> None:
    F, S = maps(2, 3, 6, 7), maps(2, 3, 5, 6, seed=1)
    together = nearest(patches_of(F, 3), patches_of(S, 3))
    for i in range(2):
        alone = nearest(patches_of(F[i : i + 1], 3), patches_of(S[i : i + 1], 3))
        assert together[i].tolist() == alone[0].tolist()


def test_of_equals_the_first_is_found_and_zeros_resemble_nothing() -> None:
    tile = maps(1, 3, 4, 4).abs()
    twice = joined([patches_of(tile, 3), patches_of(tile, 3)])
    assert nearest(patches_of(tile, 3), twice)[0].tolist() == [0, 1, 2, 3]
    blank_first = joined([patches_of(torch.zeros_like(tile), 3), patches_of(tile, 3)])
    assert nearest(patches_of(tile, 3), blank_first)[0].tolist() == [4, 5, 6, 7]
    assert nearest(patches_of(torch.zeros_like(tile), 3), twice)[0].tolist() == [0, 0, 0, 0]


def test_a_patch_that_does_not_fit_and_a_guide_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(ValueError, match="5×5 does not fit into a feature map of 4×9"):
        patches_of(maps(1, 3, 4, 9), 5)
    with pytest.raises(ValueError, match="one guide for the whole batch is needed, not 2"):
        patches_of(maps(2, 3, 5, 5), 3, guide=torch.ones(2, 1, 5, 5))
    for empty in (torch.zeros(1, 1, 5, 5), torch.eye(5)[0].view(1, 1, 1, 5).expand(1, 1, 5, 5)):
        with pytest.raises(ValueError, match="contains no centre of a 3×3 patch"):
            patches_of(maps(1, 3, 5, 5), 3, guide=empty)
