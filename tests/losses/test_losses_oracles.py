"""Every formula against plain NumPy in float64, and its gradient against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nstbench.losses.base import Loss
from nstbench.losses.content import FeatureReconstruction
from nstbench.losses.gram import Gram
from nstbench.losses.total_variation import TotalVariation


def gram_oracle(F: np.ndarray, P: np.ndarray, normalization: str) -> float:
    """Write each published formula out as its authors print it."""
    N, M = F.shape[0], F[0].size
    F, P = F.reshape(N, -1), P.reshape(N, -1)
    G = np.einsum("ik,jk->ij", F, F)
    A = np.einsum("ik,jk->ij", P, P) * M / P.shape[1]  # as if the picture had the canvas's positions
    squared = ((G - A) ** 2).sum()
    raw = ((G * P.shape[1] / M - np.einsum("ik,jk->ij", P, P)) ** 2).mean()  # and the other way round
    return {
        "paper": squared / (4 * N**2 * M**2),
        "authors": ((G / M - A / M) ** 2).mean() / N**2,
        "neural_style": ((G / (N * M) - A / (N * M)) ** 2).mean(),
        "johnson": ((G / (N * M) - A / (N * M)) ** 2).mean(),
        "pystiche": ((G / M - A / M) ** 2).mean(),
        "gordicaleksa": ((G / (N * M) - A / (N * M)) ** 2).sum(),
        "unnormalized": raw,
    }[normalization]


GRAMS = ["paper", "authors", "neural_style", "johnson", "pystiche", "gordicaleksa", "unnormalized"]


def maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("normalization", GRAMS)
@pytest.mark.parametrize("of_style", [(5, 6), (3, 9)])
def test_gram_is_the_published_formula(normalization: str, of_style: tuple[int, int]) -> None:
    F, P = maps(1, 4, 5, 6), maps(1, 4, *of_style, seed=1)
    loss = Gram(normalization)
    value = loss(F, loss.target(P))
    assert value.item() == pytest.approx(gram_oracle(F[0].numpy(), P[0].numpy(), normalization), rel=1e-12)


@pytest.mark.parametrize("normalization", GRAMS)
def test_gram_relates_to_the_papers_unit_as_documented(normalization: str) -> None:
    F, P = maps(1, 4, 5, 6), maps(1, 4, 5, 6, seed=1)
    N, M = 4, 30
    factor = {"paper": 1, "pystiche": 4, "gordicaleksa": 4, "unnormalized": 4 * M**2}.get(
        normalization, 4 / N**2
    )
    paper, other = Gram("paper"), Gram(normalization)
    in_paper = paper(F, paper.target(P)).item()
    assert other(F, other.target(P)).item() == pytest.approx(factor * in_paper, rel=1e-12)


def test_gram_from_a_statistic_added_over_blocks_is_the_whole() -> None:
    F, P = maps(2, 4, 6, 8), maps(1, 4, 5, 5, seed=1)
    loss = Gram()
    target = loss.target(P)
    statistic = loss.statistic(F[..., :3]) + loss.statistic(F[..., 3:])
    torch.testing.assert_close(loss.compare(statistic, target), loss(F, target), rtol=1e-12, atol=0)


def test_a_guided_gram_sees_its_region_only() -> None:
    F, P = maps(1, 4, 6, 6), maps(1, 4, 5, 5, seed=1)
    guide = torch.zeros(1, 1, 6, 6, dtype=torch.float64)
    guide[..., :2] = 1
    loss = Gram()
    guided = loss(F, loss.target(P), guide)
    torch.testing.assert_close(guided, loss(F[..., :2], loss.target(P)), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("normalization", "formula"),
    [
        ("paper", lambda d: (d**2).sum() / 2),
        ("mean", lambda d: (d**2).mean()),
        ("root", lambda d: (d**2).sum() / (2 * np.sqrt(d.size))),
    ],
)
def test_content_is_the_published_formula(normalization: str, formula) -> None:
    F, P = maps(1, 4, 5, 6), maps(1, 4, 5, 6, seed=1)
    loss = FeatureReconstruction(normalization)
    value = loss(F, loss.target(P)).item()
    assert value == pytest.approx(formula((F - P)[0].numpy()), rel=1e-12)


def test_a_guided_content_counts_its_region_only() -> None:
    F, P = maps(1, 4, 6, 6), maps(1, 4, 6, 6, seed=1)
    guide = torch.zeros(1, 1, 6, 6, dtype=torch.float64)
    guide[..., 3:, :] = 1
    value = FeatureReconstruction("paper")(F, P, guide).item()
    assert value == pytest.approx(((F - P)[0, :, 3:] ** 2).sum().item() / 2, rel=1e-12)


def test_content_of_another_size_is_refused() -> None:
    loss = FeatureReconstruction()
    with pytest.raises(ValueError, match="one size"):
        loss(maps(1, 4, 5, 6), loss.target(maps(1, 4, 6, 5)))


def tv_oracle(x: np.ndarray, variant: str) -> float:
    """Loop over pixels, as the papers write sums."""
    C, H, W = x.shape
    total = 0.0
    for c in range(C):
        for i in range(H):
            for j in range(W):
                dx = x[c, i, j + 1] - x[c, i, j] if j + 1 < W else None
                dy = x[c, i + 1, j] - x[c, i, j] if i + 1 < H else None
                if variant in {"mahendran", "pystiche"}:
                    total += dx**2 + dy**2 if dx is not None and dy is not None else 0.0
                elif variant == "l1":
                    total += sum(255 * abs(d) for d in (dx, dy) if d is not None)
                else:
                    total += sum(d**2 for d in (dx, dy) if d is not None)
    scale = {"mean": 1 / x.size, "squared": 255**2 / 2, "pystiche": 1 / (C * (H - 1) * (W - 1))}
    return total * scale.get(variant, 1.0)


@pytest.mark.parametrize(
    ("variant", "settings"),
    [
        ("mean", {}),
        ("mahendran", {"isotropic": True, "reduction": "sum"}),
        ("squared", {"reduction": "sum", "factor": 0.5, "range": 255.0}),
        ("l1", {"exponent": 1.0, "reduction": "sum", "range": 255.0}),
        ("pystiche", {"isotropic": True}),
    ],
)
def test_total_variation_is_the_published_formula(variant: str, settings: dict[str, object]) -> None:
    x = maps(1, 3, 4, 5)
    value = TotalVariation(**settings)(x, None).item()
    assert value == pytest.approx(tv_oracle(x[0].numpy(), variant), rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "has_target"),
    [
        *[(Gram(n), True) for n in GRAMS],
        *[(FeatureReconstruction(n), True) for n in ("paper", "mean", "root")],
        (TotalVariation(), False),
        (TotalVariation(exponent=1.0), False),
        (TotalVariation(exponent=1.25, isotropic=True, reduction="sum"), False),
    ],
    ids=lambda x: getattr(x, "normalization", type(x).__name__),
)
def test_gradients_agree_with_finite_differences(loss: Loss, has_target: bool) -> None:
    F = maps(2, 3, 4, 5).requires_grad_()
    target = loss.target(maps(1, 3, 4, 5, seed=1)) if has_target else None
    assert torch.autograd.gradcheck(lambda f: loss(f, target), F, eps=1e-6, atol=1e-7, rtol=1e-5)


def test_a_flat_picture_has_a_finite_gradient() -> None:
    for loss in (TotalVariation(exponent=1.0), TotalVariation(exponent=1.0, isotropic=True)):
        flat = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)
        loss(flat, None).sum().backward()
        assert flat.grad is not None
        assert torch.isfinite(flat.grad).all()


@pytest.mark.parametrize("exponent", [1.0, 1.25, 2.0])
@pytest.mark.parametrize("isotropic", [True, False])
def test_the_total_variation_of_a_constant_picture_is_0_and_of_an_edge_exact(
    exponent: float, isotropic: bool
) -> None:
    loss = TotalVariation(exponent, isotropic=isotropic, reduction="sum")
    flat = torch.full((1, 3, 8, 8), 0.7, requires_grad=True)
    value = loss(flat, None)
    value.sum().backward()
    assert value.item() == 0
    assert flat.grad is not None
    assert not flat.grad.any()
    edge = torch.zeros(1, 1, 8, 8)
    edge[..., 4:] = 0.5
    rows = 7 if isotropic else 8
    assert loss(edge, None).item() == pytest.approx(rows * 0.5**exponent, rel=1e-6)


@pytest.mark.parametrize("step", [1e-6, 1e-15, 1e-18, 1e-22, 1e-38])
def test_the_gradient_of_total_variation_is_bounded_at_the_smallest_differences(step: float) -> None:
    ramp = (step * torch.arange(6.0)).expand(1, 1, 6, 6).clone().requires_grad_()
    TotalVariation(1.0, isotropic=True, reduction="sum")(ramp, None).sum().backward()
    assert ramp.grad is not None
    assert ramp.grad.abs().max() <= 2
