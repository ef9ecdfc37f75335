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
