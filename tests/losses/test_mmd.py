"""Maximum mean discrepancies: every kernel against the sum over all pairs, and what is sampled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from nstbench.losses.base import Loss
from nstbench.losses.gram import Gram
from nstbench.losses.mmd import GaussianMMD, LinearMMD, PolynomialMMD


def maps(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return scale * (drawn + 0.3).relu()


Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def over_all_pairs(kernel: Kernel, x: np.ndarray, y: np.ndarray) -> float:
    """Sum the kernel over every pair of positions, one by one; ``x`` and ``y`` hold them in rows."""

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([[kernel(u, v) for v in b] for u in a]))

    return mean(x, x) + mean(y, y) - 2 * mean(x, y)


@pytest.mark.parametrize("of_style", [(4, 5), (3, 7)])
@pytest.mark.parametrize("name", ["linear", "polynomial", "gaussian"])
def test_it_is_the_sum_over_all_pairs(name: str, of_style: tuple[int, int]) -> None:
    F, P = maps(1, 4, 4, 5), maps(1, 4, *of_style, seed=1)
    x, y = (t[0].flatten(1).T.numpy() for t in (F, P))
    size = (y**2).sum(1).mean()
    spread = np.mean([[((u - v) ** 2).sum() for v in y] for u in y])
    loss, kernel, divisor = {
        "linear": (LinearMMD(), lambda u, v: u @ v, 4),
        "polynomial": (PolynomialMMD(0.7), lambda u, v: (u @ v + 0.7 * size) ** 2, 4 * 4**2),
        "gaussian": (
            GaussianMMD("positions", bandwidth=0.5),
            lambda u, v: np.exp(-((u - v) ** 2).sum() / (0.5 * spread)),
            1,
        ),
    }[name]
    expected = over_all_pairs(kernel, x, y) / divisor
    assert loss(F, loss.target(P)).item() == pytest.approx(expected, rel=1e-9)


def test_the_polynomial_kernel_without_a_constant_is_the_gram_loss() -> None:
    F, P = maps(1, 4, 4, 5), maps(1, 4, 3, 7, seed=1)
    gram, polynomial = Gram(), PolynomialMMD(0.0)
    torch.testing.assert_close(
        polynomial(F, polynomial.target(P)), gram(F, gram.target(P)), rtol=1e-12, atol=0
    )


def test_the_gaussian_kernel_tells_distributions_of_equal_mean_and_covariance_apart() -> None:
    """Two values of equal weight against three with the same mean and variance."""
    two = torch.tensor([-1.0, 1.0] * 12).double().view(1, 1, 4, 6)
    three = torch.tensor([-np.sqrt(1.5), 0.0, np.sqrt(1.5)] * 8).double().view(1, 1, 4, 6)
    linear, polynomial, gaussian = LinearMMD(), PolynomialMMD(1.0), GaussianMMD(bandwidth=1.0)
    for loss in (linear, polynomial):
        assert loss(two, loss.target(three)).item() < 1e-25
    assert gaussian(two, gaussian.target(three)).item() > 0.01


def seeded(seed: int, samples: int) -> Loss:
    loss = GaussianMMD("positions", samples)
    loss.seed = seed
    return loss


def test_a_seed_is_a_draw_and_all_positions_need_none() -> None:
    F, P = maps(2, 4, 8, 8), maps(1, 4, 9, 9, seed=1)
    target = GaussianMMD().target(P)
    value = seeded(1, 16)(F, target)
    assert torch.equal(seeded(1, 16)(F, target), value)
    assert not torch.equal(seeded(2, 16)(F, target), value)
    assert torch.equal(seeded(1, 100)(F, target), seeded(2, 100)(F, target))
    torch.testing.assert_close(torch.cat([seeded(1, 16)(f[None], target) for f in F]), value)


def test_a_sample_is_zero_at_the_style_picture_and_near_the_whole_elsewhere() -> None:
    P, F = maps(1, 4, 40, 40, seed=1), maps(1, 4, 40, 40, scale=2.0)
    target = GaussianMMD().target(P)
    assert abs(seeded(3, 200)(P, target).item()) < 1e-12
    whole = GaussianMMD("positions", 1600)(F, target).item()
    drawn = np.mean([seeded(i, 200)(F, target).item() for i in range(20)])
    assert drawn == pytest.approx(whole, rel=0.15)


def test_only_the_positions_of_the_draw_have_a_gradient() -> None:
    F = maps(1, 4, 8, 8).requires_grad_()
    (slope,) = torch.autograd.grad(seeded(0, 16)(F, GaussianMMD().target(maps(1, 4, 8, 8, seed=1))).sum(), F)
    assert int((slope.abs().sum(1) > 0).sum()) == 16


def in_frequencies(seed: int, samples: int) -> Loss:
    loss = GaussianMMD("frequencies", samples)
    loss.seed = seed
    return loss


def test_frequencies_are_those_of_the_kernel() -> None:
    """Over many frequencies the estimate is the sum over all pairs of positions."""
    F, P = maps(2, 4, 5, 6), maps(1, 4, 6, 6, seed=1)
    target = GaussianMMD().target(P)
    whole = GaussianMMD("positions")(F, target)
    many = in_frequencies(1, 100_000)(F, target)
    torch.testing.assert_close(many, whole, rtol=0.03, atol=0)
    few = torch.stack([in_frequencies(i, 128)(F, target) for i in range(2, 30)]).mean(0)
    torch.testing.assert_close(few, whole, rtol=0.1, atol=0)


def test_frequencies_change_with_the_seed_and_the_style_is_seen_along_them_anew() -> None:
    F, P = maps(2, 4, 8, 8), maps(1, 4, 9, 9, seed=1)
    target = GaussianMMD().target(P)
    first, second = in_frequencies(1, 16)(F, target), in_frequencies(2, 16)(F, target)
    assert not torch.equal(first, second)
    assert torch.equal(in_frequencies(1, 16)(F, target), first)
    assert abs(in_frequencies(3, 16)(P, target).item()) < 1e-20
    assert len(target.waves) == 1  # of the present draw only


def test_waves_in_blocks_are_waves_at_all_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    F, P = maps(2, 4, 8, 8).requires_grad_(), maps(1, 4, 9, 9, seed=1)
    found = []
    for block in (64, 10):
        monkeypatch.setattr("nstbench.losses.mmd._MeanWaves.block", block)
        value = in_frequencies(1, 16)(F, GaussianMMD().target(P))
        found.append((value, torch.autograd.grad(value.sum(), F)[0]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-15)


def test_the_unit_does_not_depend_on_the_draw() -> None:
    target = GaussianMMD().target(maps(1, 4, 40, 40))
    assert torch.equal(seeded(1, 100).unit(target), in_frequencies(2, 100).unit(target))
    of_few, of_all = target.features[..., ::2], GaussianMMD("positions", 2000)
    assert seeded(1, 100).unit(target).item() == pytest.approx(
        of_all(torch.zeros(1, 4, 40, 40).double(), of_all.target(of_few[..., None])).item(), rel=0.1
    )


def test_a_blend_unites_positions_in_proportion_to_the_weights() -> None:
    P, Q = torch.zeros(1, 1, 6, 10), torch.ones(1, 1, 3, 10)
    loss = GaussianMMD()
    for share in (0.25, 0.5, 0.8):
        united = loss.blend([loss.target(P), loss.target(Q)], [1 - share, share])
        assert united.features.mean().item() == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("settings", [{"samples": 0}, {"bandwidth": 0.0}])
def test_settings_without_a_meaning_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="samples must be at least 1"):
        GaussianMMD(**settings)
    with pytest.raises(ValueError, match="0 or more"):
        PolynomialMMD(c=-1.0)
