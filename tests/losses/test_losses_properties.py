"""What must hold of every loss, whatever the feature maps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nstbench.losses.base import Loss
from nstbench.losses.content import FeatureReconstruction
from nstbench.losses.gram import Gram
from nstbench.losses.total_variation import TotalVariation

TARGETED: dict[str, Loss] = {
    **{
        f"gram-{n}": Gram(n)
        for n in ("paper", "authors", "johnson", "pystiche", "gordicaleksa", "unnormalized")
    },
    **{f"content-{n}": FeatureReconstruction(n) for n in ("paper", "mean", "root")},
}
# An odd picture size, a batch, and a scale far from 1, as encoders give them.
shapes = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 7), st.integers(1, 7))
scales = st.floats(1e-2, 1e2)


def draw(shape: tuple[int, ...], seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


each_loss = pytest.mark.parametrize("loss", TARGETED.values(), ids=TARGETED.keys())


@each_loss
@settings(max_examples=20, deadline=None)
@given(shape=shapes, seed=st.integers(0, 1000), scale=scales)
def test_zero_at_the_target_and_positive_elsewhere(
    loss: Loss, shape: tuple[int, ...], seed: int, scale: float
) -> None:
    F = draw(shape, seed, scale)
    target = loss.target(F)
    torch.testing.assert_close(loss(F, target), torch.zeros(shape[0], dtype=F.dtype), rtol=0, atol=1e-12)
    assert (loss(F * 1.1, target) > 0).all()


@each_loss
@settings(max_examples=20, deadline=None)
@given(shape=shapes, seed=st.integers(0, 1000))
def test_a_canvas_does_not_feel_its_neighbours_in_the_batch(
    loss: Loss, shape: tuple[int, ...], seed: int
) -> None:
    F = draw(shape, seed)
    target = loss.target(draw((1, *shape[1:]), seed + 1))
    alone = torch.cat([loss(f[None], target) for f in F])
    together = loss(F, target)
    assert together.shape == (shape[0],)
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-300)


@settings(max_examples=20, deadline=None)
@given(height=st.integers(2, 7), width=st.integers(2, 7), seed=st.integers(0, 1000))
def test_the_variation_of_a_canvas_is_its_own(height: int, width: int, seed: int) -> None:
    pictures = draw((3, 3, height, width), seed)
    for loss in (TotalVariation(), TotalVariation(1.0, reduction="sum"), TotalVariation(1.5, isotropic=True)):
        alone = torch.cat([loss(p[None], None) for p in pictures])
        torch.testing.assert_close(loss(pictures, None), alone, rtol=1e-12, atol=0)
        torch.testing.assert_close(
            loss(pictures, None) / loss.unit(loss.target(pictures)), torch.ones(3).double()
        )


@each_loss
def test_each_canvas_of_a_batch_may_have_its_own_target(loss: Loss) -> None:
    F, P = draw((3, 4, 5, 6), 0), draw((3, 4, 5, 6), 1)
    together = loss(F, loss.target(P))
    alone = torch.cat([loss(F[i : i + 1], loss.target(P[i : i + 1])) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=0)


@settings(max_examples=30, deadline=None)
@given(shape=shapes, seed=st.integers(0, 1000))
def test_gram_does_not_care_where_things_are(shape: tuple[int, ...], seed: int) -> None:
    F = draw(shape, seed)
    order = torch.randperm(shape[2] * shape[3], generator=torch.Generator().manual_seed(seed))
    shuffled = F.flatten(2)[..., order].view(shape)
    loss = Gram()
    target = loss.target(draw((1, *shape[1:]), seed + 1))
    torch.testing.assert_close(loss(shuffled, target), loss(F, target), rtol=1e-9, atol=1e-15)


@settings(max_examples=30, deadline=None)
@given(shape=shapes, seed=st.integers(0, 1000), times=st.integers(2, 4))
def test_gram_of_a_repeated_picture_is_that_of_the_picture(
    shape: tuple[int, ...], seed: int, times: int
) -> None:
    F = draw(shape, seed)
    loss = Gram()
    target = loss.target(draw((1, *shape[1:]), seed + 1))
    torch.testing.assert_close(loss(F.repeat(1, 1, times, 1), target), loss(F, target), rtol=1e-9, atol=1e-15)


@settings(max_examples=30, deadline=None)
@given(shape=shapes, seed=st.integers(0, 1000), scale=scales)
def test_scaling_the_features_scales_the_losses_by_their_degree(
    shape: tuple[int, ...], seed: int, scale: float
) -> None:
    F, P = draw(shape, seed), draw((1, *shape[1:]), seed + 1)
    for loss, degree in ((Gram(), 4), (FeatureReconstruction(), 2)):
        plain = loss(F, loss.target(P))
        scaled = loss(scale * F, loss.target(scale * P))
        torch.testing.assert_close(scaled, scale**degree * plain, rtol=1e-9, atol=1e-15)


@each_loss
def test_a_unit_is_the_value_of_a_canvas_without_features(loss: Loss) -> None:
    P = draw((2, 4, 5, 6), 3)
    target = loss.target(P)
    torch.testing.assert_close(loss.unit(target), loss(torch.zeros_like(P), target), rtol=1e-12, atol=0)


@each_loss
def test_half_precision_features_are_compared_in_float32(loss: Loss) -> None:
    F = draw((1, 4, 5, 6), 0, 300.0).to(torch.bfloat16)  # Gram entries beyond what float16 can hold
    value = loss(F, loss.target(draw((1, 4, 5, 6), 1, 300.0).float()))
    assert value.dtype == torch.float32
    assert torch.isfinite(value).all()


def test_blended_grams_have_the_gradient_of_the_blended_losses() -> None:
    loss = Gram()
    targets = [loss.target(draw((1, 4, 5, 5), seed)) for seed in (1, 2)]
    F = draw((1, 4, 6, 6), 0).requires_grad_()
    (blended,) = torch.autograd.grad(loss(F, loss.blend(targets, [0.25, 0.75])).sum(), F)
    (summed,) = torch.autograd.grad((0.25 * loss(F, targets[0]) + 0.75 * loss(F, targets[1])).sum(), F)
    torch.testing.assert_close(blended, summed, rtol=1e-10, atol=1e-16)
