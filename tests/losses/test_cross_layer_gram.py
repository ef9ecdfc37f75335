"""Gram matrices between neighbouring layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nstbench.losses.cross_layer_gram import CrossLayerGram


def maps(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return scale * (drawn + 0.3).relu()


def oracle(finer: Tensor, coarser: Tensor, shift: float, weights: Tensor | None = None) -> np.ndarray:
    """Repeat the coarser map's positions and multiply, position by position."""
    f, g = finer.numpy(), coarser.numpy()
    k, m = f.shape[1] // g.shape[1], f.shape[2] // g.shape[2]
    up = g.repeat(k, axis=1).repeat(m, axis=2)
    f = f[:, : up.shape[1], : up.shape[2]]
    w = np.ones(f.shape[1:]) if weights is None else weights.numpy()[0, : up.shape[1], : up.shape[2]]
    return np.einsum("ahw,bhw,hw->ab", f + shift, up + shift, w) / w.sum()


SIZES = {
    "halved": ((8, 6), (4, 3)),
    "halved, rounded down": ((9, 7), (4, 3)),
    "quartered": ((8, 8), (2, 2)),
    "equal": ((5, 4), (5, 4)),
    "another factor each way": ((6, 8), (3, 2)),
}


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("shift", [0.0, -1.0])
@pytest.mark.parametrize(("fine", "coarse"), SIZES.values(), ids=SIZES.keys())
def test_it_is_the_gram_matrix_with_the_coarser_map_repeated(
    fine: tuple[int, int], coarse: tuple[int, int], shift: float, guided: bool
) -> None:
    F, P = ([maps(1, 3, *fine, seed=s), maps(1, 5, *coarse, seed=s + 1)] for s in (0, 2))
    guide = maps(1, 1, *fine, seed=4) + 0.1 if guided else None
    G = oracle(F[0][0], F[1][0], shift, guide[0] if guide is not None else None)
    A = oracle(P[0][0], P[1][0], shift)
    loss = CrossLayerGram(shift)
    target = loss.target(P)
    expected = ((G - A) ** 2).sum() / (4 * 3 * 5)
    assert loss(F, target, guide).item() == pytest.approx(float(expected), rel=1e-11)
    turned = loss(F[::-1], loss.target(P[::-1]), guide)
    assert turned.item() == pytest.approx(float(expected), rel=1e-11)


def test_sizes_that_a_rounding_up_made_are_upsampled() -> None:
    F = [maps(1, 3, 5, 7), maps(1, 4, 3, 4, seed=1)]
    rows, columns = (np.arange(n) * m // n for n, m in ((5, 3), (7, 4)))
    up = F[1][0].numpy()[:, rows][:, :, columns]
    expected = np.einsum("ahw,bhw->ab", F[0][0].numpy(), up) / 35
    np.testing.assert_allclose(CrossLayerGram().target(F)[0].numpy(), expected, rtol=1e-12)


def test_it_looks_at_every_pair_of_neighbours() -> None:
    assert CrossLayerGram().views(["a", "b", "c"]) == ["a+b", "b+c"]
    with pytest.raises(ValueError, match="two layers or more"):
        CrossLayerGram().views(["relu4_1"])


def batch(size: int = 1, seed: int = 0, *, shape: tuple[int, int] = (8, 6)) -> list[Tensor]:
    h, w = shape
    return [maps(size, 3, h, w, seed=seed), maps(size, 4, h // 2, w // 2, seed=seed + 1)]


def test_zero_at_the_style_picture_and_positive_elsewhere() -> None:
    loss = CrossLayerGram()
    target = loss.target(batch())
    assert loss(batch(), target).item() == 0
    assert (loss(batch(3, 2, shape=(6, 10)), target) > 1e-4 * loss.unit(target)).all()


def test_it_ties_layers_that_their_own_gram_matrices_leave_free() -> None:
    """The coarser map turned around has the same Gram matrix of its own."""
    F = batch()
    loss = CrossLayerGram()
    assert loss([F[0], F[1].flip(2, 3)], loss.target(F)).item() > 1e-4


@pytest.mark.parametrize("of_style", [1, 3])
def test_a_canvas_does_not_feel_its_neighbours_in_the_batch(of_style: int) -> None:
    F, P = batch(3), batch(of_style, 2)
    loss = CrossLayerGram()
    together = loss(F, loss.target(P))
    alone = []
    for i in range(3):
        target = loss.target([p[i % of_style : i % of_style + 1] for p in P])
        alone.append(loss([f[i : i + 1] for f in F], target))
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-12, atol=0)


@pytest.mark.parametrize("shift", [0.0, -1.0])
def test_a_unit_is_the_value_of_a_canvas_without_features(shift: float) -> None:
    loss = CrossLayerGram(shift)
    target = loss.target(batch())
    torch.testing.assert_close(loss.unit(target), loss([torch.zeros_like(f) for f in batch()], target))


def test_a_blend_averages_the_matrices() -> None:
    loss = CrossLayerGram()
    P, Q = loss.target(batch(seed=2)), loss.target(batch(seed=4))
    torch.testing.assert_close(loss.blend([P, Q], [0.25, 0.75]), 0.25 * P + 0.75 * Q)


@pytest.mark.parametrize("shape", [(8, 6), (7, 5)])
@pytest.mark.parametrize("guided", [False, True])
def test_gradients_agree_with_finite_differences(shape: tuple[int, int], guided: bool) -> None:
    F = [f.requires_grad_() for f in batch(2, shape=shape)]
    guide = maps(1, 1, *shape, seed=9) if guided else None
    loss = CrossLayerGram(0.3)
    target = loss.target(batch(seed=2))
    assert torch.autograd.gradcheck(lambda a, b: loss([a, b], target, guide), F)


def test_a_guide_of_the_coarser_size_is_that_of_its_blocks() -> None:
    F, loss = batch(), CrossLayerGram()
    coarse = maps(1, 1, 4, 3, seed=5)
    fine = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(loss.target(F, coarse), loss.target(F, fine), rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="0 everywhere"):
        loss.target(F, torch.zeros(1, 1, 8, 6))


def test_half_precision_features_are_compared_in_float32_and_empty_ones_are_finite() -> None:
    loss = CrossLayerGram()
    target = loss.target([f.bfloat16() for f in batch()])
    assert target.dtype == torch.float32
    F = [torch.zeros(1, c, *s, requires_grad=True) for c, s in ((3, (2, 2)), (4, (1, 1)))]
    value = loss(F, target)
    slopes = torch.autograd.grad(value.sum(), F)
    assert torch.isfinite(value).all()
    assert all(torch.isfinite(s).all() for s in slopes)


@pytest.mark.parametrize("magnitude", [1e-4, 1.0, 1e2])
def test_a_shift_leaves_float32_its_digits_at_any_magnitude_of_features(magnitude: float) -> None:
    F, P = (
        [
            maps(1, 8, 16, 12, seed=s, scale=magnitude).float(),
            maps(1, 6, 8, 6, seed=s + 1, scale=magnitude).float(),
        ]
        for s in (0, 2)
    )
    loss = CrossLayerGram(-1.0)
    G, A = (oracle(maps_[0][0].double(), maps_[1][0].double(), -1.0) for maps_ in (F, P))
    expected = float(((G - A) ** 2).sum() / (4 * 8 * 6))
    assert loss(F, loss.target(P)).item() == pytest.approx(expected, rel=1e-5)
