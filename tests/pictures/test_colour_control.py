"""Keeping the content picture's colours: moments, histograms, luminance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nstbench.pictures.colour_control import (
    luminance,
    match_histogram,
    match_moments,
    matched_luminance,
    with_luminance,
)

ROOTS = ("cholesky", "pca", "symmetric")
RGB_TO_YIQ = torch.tensor(
    [[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]]
).double()


def picture(seed: int, shape: tuple[int, int] = (30, 20)) -> Tensor:
    """Correlated colours, within [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.rand(3, *shape, generator=generator, dtype=torch.float64) ** (1 + seed)
    mix = torch.rand(3, 3, generator=generator, dtype=torch.float64)
    return torch.einsum("ij,jhw->ihw", mix / mix.sum(1, keepdim=True), colours)[None]


def moments(p: Tensor) -> tuple[Tensor, Tensor]:
    flat = p.double().flatten(2)[0]
    return flat.mean(1), torch.cov(flat, correction=0)


@pytest.mark.parametrize("root", ROOTS)
def test_the_style_gets_the_contents_mean_and_covariance(root: str) -> None:
    style, content = picture(1), picture(2, (17, 41))
    matched = match_moments(style, content, root)
    for ours, theirs in zip(moments(matched), moments(content), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    assert (moments(style)[1] - moments(content)[1]).abs().max() > 1e-3
    again = match_moments(matched, content, root)
    torch.testing.assert_close(again, matched, rtol=0, atol=1e-9)


def test_in_single_precision_moments_agree_to_a_millionth() -> None:
    for root in ROOTS:
        matched = match_moments(picture(1).float(), picture(2).float(), root)
        assert matched.dtype == torch.float32
        for ours, theirs in zip(moments(matched), moments(picture(2).float()), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_roots_differ_and_the_symmetric_one_moves_colours_least() -> None:
    style, content = picture(1), picture(2)
    moved = {r: (match_moments(style, content, r) - style).square().mean().item() for r in ROOTS}
    assert moved["symmetric"] < moved["pca"] * 0.999
    assert moved["symmetric"] < moved["cholesky"] * 0.999


@pytest.mark.parametrize("root", ROOTS)
def test_the_linear_map_is_that_of_the_formula(root: str) -> None:
    style, content = picture(1), picture(2)
    (m, S), (n, C) = moments(style), moments(content)

    def power(matrix: Tensor, exponent: float) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        return vectors @ torch.diag(values**exponent) @ vectors.T

    if root == "cholesky":
        A = torch.linalg.cholesky(C) @ torch.linalg.inv(torch.linalg.cholesky(S))
    elif root == "pca":
        A = power(C, 0.5) @ power(S, -0.5)
    else:
        A = power(S, -0.5) @ power(power(S, 0.5) @ C @ power(S, 0.5), 0.5) @ power(S, -0.5)
        torch.testing.assert_close(A, A.T)  # Monge's map is the gradient of a convex function
    by_hand = torch.einsum("ij,jp->ip", A, style.flatten(2)[0] - m[:, None]) + n[:, None]
    torch.testing.assert_close(match_moments(style, content, root).flatten(2)[0], by_hand)


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("kind", ["grey", "nearly grey", "flat", "two colours"])
def test_a_style_without_colours_gets_the_mean_and_no_amplified_noise(root: str, kind: str) -> None:
    style, content = picture(1), picture(2)
    if kind == "flat":
        style = torch.full_like(style, 0.3)
    elif kind == "two colours":
        style = torch.tensor([0.9, 0.2, 0.1]).double().view(1, 3, 1, 1) * (style[:, :1] > 0.4)
    else:
        noise = torch.rand(style.shape, generator=torch.Generator().manual_seed(0)) - 0.5
        style = luminance(style) + (noise.double() / 255 if kind == "nearly grey" else 0)
    matched = match_moments(style, content, root)
    mean, covariance = moments(matched)
    torch.testing.assert_close(mean, moments(content)[0], rtol=0, atol=1e-9)
    assert torch.isfinite(matched).all()
    # In no direction does it vary more than the content does at most.
    assert torch.linalg.eigvalsh(covariance)[-1] <= torch.linalg.eigvalsh(moments(content)[1])[-1] * 1.001
    if kind == "flat":
        torch.testing.assert_close(matched, matched[..., :1, :1].expand_as(matched))


@pytest.mark.parametrize("root", ROOTS)
def test_of_a_grey_content_picture_the_style_becomes_grey(root: str) -> None:
    matched = match_moments(picture(1), luminance(picture(2)), root)
    torch.testing.assert_close(matched, luminance(matched), rtol=0, atol=1e-6)
    assert luminance(matched).std() > 0.05


def test_histograms_of_every_channel_are_the_contents() -> None:
    style, content = picture(1), picture(2)
    matched = match_histogram(style, content)
    torch.testing.assert_close(
        matched.flatten(2).sort().values, content.flatten(2).sort().values, rtol=0, atol=1e-12
    )
    torch.testing.assert_close(
        matched.flatten(2).argsort(), style.flatten(2).argsort(), rtol=0, atol=0
    )  # what was lighter stays lighter
    torch.testing.assert_close(match_histogram(matched, content), matched, rtol=0, atol=1e-12)


def test_histograms_of_pictures_of_two_sizes_agree_in_their_quantiles() -> None:
    content = picture(2, (64, 50))
    matched = match_histogram(picture(1), content)
    levels = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9]).double()
    for ours, theirs in zip(matched[0].flatten(1), content[0].flatten(1), strict=True):
        torch.testing.assert_close(ours.quantile(levels), theirs.quantile(levels), rtol=0, atol=0.01)


def test_flat_areas_stay_flat_and_take_the_mean_of_what_they_would_share() -> None:
    style, content = picture(1), picture(2)
    style[:, :, :15] = 0.0  # half of the picture is black
    matched = match_histogram(style, content)
    assert matched[:, :, :15].flatten(2).std(dim=2).max() < 1e-12
    torch.testing.assert_close(matched.mean((0, 2, 3)), content.mean((0, 2, 3)), rtol=0, atol=1e-12)
    torch.testing.assert_close(match_histogram(matched, content), matched, rtol=0, atol=1e-12)
    flat = match_histogram(torch.full_like(style, 0.7), content)
    torch.testing.assert_close(flat[0, :, 0, 0], content.mean((0, 2, 3)))


def test_the_styles_luminance_has_the_contents_mean_and_deviation() -> None:
    style, content = picture(1), picture(2)
    matched = matched_luminance(style, content)
    wanted = luminance(content)[:, 0]
    assert matched.shape == style.shape
    torch.testing.assert_close(matched, luminance(matched), rtol=0, atol=1e-12)  # it is grey
    assert matched[:, 0].mean().item() == pytest.approx(wanted.mean().item(), abs=1e-12)
    assert matched[:, 0].std().item() == pytest.approx(wanted.std().item(), abs=1e-12)
    torch.testing.assert_close(matched_luminance(matched, content), matched, rtol=0, atol=1e-12)
    flat = matched_luminance(torch.full_like(style, 0.2), content)
    torch.testing.assert_close(flat, wanted.mean().expand_as(flat))


def test_what_is_put_together_has_the_pictures_luminance_and_the_contents_hue() -> None:
    content, result = picture(2), picture(1)
    content[:, :, 0, 0] = torch.tensor([1.0, 0.0, 0.0])  # pure red: there is no lighter one
    result[:, :, 0, :2] = 0.95
    together = with_luminance(content, result)
    assert together.min() >= -1e-9
    assert together.max() <= 1 + 1e-9
    torch.testing.assert_close(luminance(together), luminance(result), rtol=0, atol=1e-9)
    torch.testing.assert_close(with_luminance(content, together), together, rtol=0, atol=1e-9)
    y, wanted = (torch.einsum("ij,bjhw->bihw", RGB_TO_YIQ, p) for p in (together, content))
    chroma, theirs = y[:, 1:], wanted[:, 1:]
    # Within the gamut I and Q are the content's; else both are smaller by one factor.
    share = (chroma * theirs).sum(1) / theirs.square().sum(1)
    assert share.max() <= 1 + 1e-5
    assert (share > 1 - 1e-5).double().mean() > 0.5
    torch.testing.assert_close(chroma, share[:, None] * theirs, rtol=0, atol=1e-5)
    torch.testing.assert_close(with_luminance(content, content), content, rtol=0, atol=1e-9)


def test_black_and_white_stay_black_and_white() -> None:
    content = picture(2)
    for value in (0.0, 1.0):
        flat = torch.full_like(content, value)
        torch.testing.assert_close(with_luminance(content, flat), flat, rtol=0, atol=1e-9)
    torch.testing.assert_close(
        with_luminance(content, torch.full_like(content, 1.3)), torch.ones_like(content), rtol=0, atol=1e-9
    )


def test_the_gradient_of_luminance_is_grey() -> None:
    x = picture(1).requires_grad_()
    luminance(x).square().sum().backward()
    assert x.grad is not None
    ratio = x.grad / torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-5, atol=1e-9)
