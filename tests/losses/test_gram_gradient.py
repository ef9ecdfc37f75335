"""The Gram matrix has a gradient of its own: it is that of the formula written out."""

from __future__ import annotations

import torch

from nstbench.losses.functional.gram import gram_matrix


def test_the_gradient_of_a_gram_matrix_is_that_of_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    f = torch.randn(2, 5, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    # Not symmetric, as the derivative of a loss of single entries.
    pull = torch.randn(2, 5, 5, generator=generator, dtype=torch.float64)
    flat = f.flatten(2)
    written_out = torch.einsum("bim,bjm->bij", flat, flat) / 12
    torch.testing.assert_close(gram_matrix(f), written_out)
    (expected,) = torch.autograd.grad((written_out * pull).sum(), f)
    (found,) = torch.autograd.grad((gram_matrix(f) * pull).sum(), f)
    torch.testing.assert_close(found, expected)
    assert torch.autograd.gradcheck(gram_matrix, f)
    assert torch.autograd.gradgradcheck(gram_matrix, f)
