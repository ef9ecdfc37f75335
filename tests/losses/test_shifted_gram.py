"""The Gram loss of shifted activations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nstbench.losses.gram import Gram
from nstbench.losses.shifted_gram import ShiftedGram


def maps(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return scale * (drawn + 0.3).relu()


@pytest.mark.parametrize("shift", [-1.0, 0.5])
@pytest.mark.parametrize("normalization", ["paper", "pystiche"])
def test_it_is_the_published_formula(shift: float, normalization: str) -> None:
    F, P = maps(1, 4, 5, 6), maps(1, 4, 3, 9, seed=1)
    f, p = (x[0].numpy().reshape(4, -1) + shift for x in (F, P))
    G, A = f @ f.T / 30, p @ p.T / 27
    expected = ((G - A) ** 2).sum() / (4 * 4**2 if normalization == "paper" else 4**2)
    loss = ShiftedGram(shift, normalization)
    assert loss(F, loss.target(P)).item() == pytest.approx(float(expected), rel=1e-12)


def test_without_a_shift_it_is_the_gram_loss() -> None:
    F, P = maps(1, 4, 5, 6), maps(1, 4, 3, 9, seed=1)
    plain, shifted = Gram(), ShiftedGram(0.0)
    torch.testing.assert_close(shifted(F, shifted.target(P)), plain(F, plain.target(P)), rtol=1e-12, atol=0)


def test_channels_that_are_silent_together_are_told_from_channels_that_never_meet() -> None:
    """Where one of two channels is 0 their product is 0, whether the other is silent too or not."""
    meeting = torch.zeros(1, 2, 1, 8, dtype=torch.float64)
    meeting[0, 0, 0, 0], meeting[0, 1, 0, 1] = 2.0, 2.0
    spread = torch.zeros(1, 2, 1, 8, dtype=torch.float64)
    spread[0, 0, 0, :4], spread[0, 1, 0, 4:] = 1.0, 1.0
    G = Gram().target(meeting)[0] - Gram().target(spread)[0]
    np.testing.assert_allclose(G, 0)
    loss = ShiftedGram()
    assert loss(meeting, loss.target(spread)).item() > 0.01


def published(F: Tensor, P: Tensor, shift: float) -> float:
    """Return the formula in float64, with the Gram matrices formed."""
    f, p = (x[0].double().numpy().reshape(x.shape[1], -1) + shift for x in (F, P))
    G, A = f @ f.T / f.shape[1], p @ p.T / p.shape[1]
    return float(((G - A) ** 2).sum() / (4 * len(f) ** 2))


@pytest.mark.parametrize("shift", [-1.0, -30.0, 0.5])
@pytest.mark.parametrize("magnitude", [1e-4, 1e-2, 1.0, 1e2])
def test_float32_is_exact_to_five_digits_at_any_magnitude_of_features(magnitude: float, shift: float) -> None:
    F, P = (maps(1, 16, 24, 20, seed=s, scale=magnitude).float() for s in (0, 1))
    loss = ShiftedGram(shift)
    target = loss.target(P)
    expected = published(F, P, shift)
    assert loss(F, target).item() == pytest.approx(expected, rel=1e-5)
    top, bottom = loss.statistic(F[:, :, :10]), loss.statistic(F[:, :, 10:])
    assert loss.compare(top + bottom, target).item() == pytest.approx(expected, rel=1e-5)
    assert loss.unit(target).item() == pytest.approx(published(0 * F, P, shift), rel=1e-5)


def test_the_gradient_in_float32_is_exact_at_small_features() -> None:
    F, P = (maps(1, 16, 24, 20, seed=s, scale=1e-4).float() for s in (0, 1))
    slopes = []
    for dtype in (torch.float32, torch.float64):
        x = F.to(dtype).clone().requires_grad_()
        ShiftedGram()(x, ShiftedGram().target(P.to(dtype))).backward()
        assert x.grad is not None
        slopes.append(x.grad.double())
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-4, atol=1e-5 * float(slopes[1].abs().max()))


def test_several_pictures_have_the_average_of_their_gram_matrices() -> None:
    F, P, Q = (maps(1, 4, 5, 6, seed=s) for s in range(3))
    loss = ShiftedGram()
    f, p, q = (x[0].numpy().reshape(4, -1) - 1 for x in (F, P, Q))
    G, A = f @ f.T / 30, 0.25 * p @ p.T / 30 + 0.75 * q @ q.T / 30
    blend = loss.blend([loss.target(P), loss.target(Q)], [0.25, 0.75])
    assert loss(F, blend).item() == pytest.approx(float(((G - A) ** 2).sum() / 64), rel=1e-12)
