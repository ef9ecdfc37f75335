"""STROTSS' content loss against NumPy, and what must hold of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nstbench.losses.self_similarity import SelfSimilarity


def maps(height: int = 6, width: int = 8, seed: int = 0, batch: int = 1) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    sizes = [(4, height, width), (5, (height + 1) // 2, (width + 1) // 2)]
    return [torch.rand(batch, *size, generator=g, dtype=torch.float64) + 0.1 for size in sizes]


def test_the_value_is_that_of_the_paper() -> None:
    canvas, content = maps(seed=1), maps(seed=2)

    def distances(these: list[Tensor]) -> np.ndarray:
        size = these[0].shape[2:]
        same = [torch.nn.functional.interpolate(m, size, mode="bilinear", align_corners=False) for m in these]
        X = torch.cat(same, 1)[0].flatten(1).T.numpy()
        lengths = np.linalg.norm(X, axis=1)
        D = 1 - X @ X.T / lengths[:, None] / lengths
        return np.asarray(D / D.sum(0, keepdims=True))

    expected = np.abs(distances(canvas) - distances(content)).mean() * 48
    loss = SelfSimilarity(samples=48)
    np.testing.assert_allclose(loss(canvas, loss.target(content)).item(), expected, rtol=2e-6)


@pytest.mark.parametrize("samples", [5, 12])
def test_the_gradient_is_that_of_the_value(samples: int) -> None:
    loss = SelfSimilarity(samples=samples)
    target = loss.target(maps(4, 3, seed=2))
    leaves = [m.requires_grad_() for m in maps(4, 3, seed=1)]
    assert torch.autograd.gradcheck(lambda *m: loss(m, target), leaves)


@pytest.mark.parametrize("samples", [10, 100])
def test_it_is_nothing_at_the_content_in_any_scale_or_rotation_of_its_features(samples: int) -> None:
    loss = SelfSimilarity(samples=samples)
    content = [m.float() for m in maps(seed=1)]
    target = loss.target(content)
    assert loss(content, target).item() == 0.0
    assert loss([3 * m for m in content], target).item() < 1e-4
    assert loss([m.flip(1) for m in content], target).item() < 1e-4  # channels exchanged everywhere
    assert loss([m.flip(2) for m in content], target).item() > 0.05  # positions exchanged


def test_the_value_is_at_most_two() -> None:
    loss = SelfSimilarity(samples=100)
    one = torch.eye(8, dtype=torch.float64)[:, torch.arange(48) % 8].view(1, 8, 6, 8)
    other = torch.eye(8, dtype=torch.float64)[:, torch.arange(48) // 6].view(1, 8, 6, 8)
    assert 0.1 < loss([one], loss.target([other])).item() < 2
    assert loss.unit(loss.target([one])).item() == 1


@pytest.mark.parametrize("constant", [0.0, 0.7])
def test_a_picture_of_one_colour_gives_numbers(constant: float) -> None:
    loss = SelfSimilarity(samples=30)
    flat, content = [torch.full((1, 4, 6, 8), constant)], [torch.rand(1, 4, 6, 8)]
    # Nothing is unlike anything: not rounding errors made large, but 0.
    assert loss([flat[0] * (1 + 1e-7 * torch.rand(1, 4, 6, 8))], loss.target(flat)).item() < 0.05
    for canvas, target in ((flat, content), (content, flat), (flat, flat)):
        leaf = canvas[0].clone().requires_grad_()
        value = loss([leaf], loss.target(target))
        (slope,) = torch.autograd.grad(value.sum(), leaf)
        assert torch.isfinite(value).all()
        assert torch.isfinite(slope).all()
    single = [torch.rand(1, 4, 1, 1)]
    assert loss(single, loss.target(single)).item() == 0.0


def test_each_canvas_and_each_target_is_its_own() -> None:
    loss = SelfSimilarity(samples=12)
    canvas, shared, own = maps(seed=1, batch=3), maps(seed=2), maps(seed=3, batch=3)
    for content in (shared, own):
        together = loss(canvas, loss.target(content))
        for i in range(3):
            theirs = [m[i : i + 1] for m in content] if content is own else content
            alone = loss([m[i : i + 1] for m in canvas], loss.target(theirs))
            torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=0)


def test_a_draw_is_the_seed_s() -> None:
    loss = SelfSimilarity(samples=10, redraw_every=3)
    canvas, target = maps(seed=1), loss.target(maps(seed=2))
    first = loss(canvas, target)
    loss.seed = 1
    second = loss(canvas, target)
    loss.seed = 0
    assert loss(canvas, target).item() == first.item() != second.item()


def test_only_the_region_counts() -> None:
    loss = SelfSimilarity(samples=100)
    content = maps(seed=1)[:1]
    left = torch.zeros(1, 1, 6, 8)
    left[..., :4] = 1.0
    canvas = [torch.cat([content[0][..., :4], maps(seed=2)[0][..., 4:]], 3)]
    assert loss(canvas, loss.target(content, left), left).item() == 0.0
    assert loss(canvas, loss.target(content)).item() > 0.01


def test_half_precision_and_another_size() -> None:
    loss = SelfSimilarity(samples=20)
    target = loss.target([m.bfloat16() for m in maps(seed=1)])
    value = loss([m.bfloat16() for m in maps(seed=2)], target)
    assert value.dtype == torch.float32
    assert torch.isfinite(value).all()
    with pytest.raises(ValueError, match="one size"):
        loss(maps(8, 8), target)
