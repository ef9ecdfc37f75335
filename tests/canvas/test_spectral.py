"""The spectral canvas: another parametrisation of the same pictures."""

from __future__ import annotations

import csv
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nstbench.canvas.base import Canvas
from nstbench.canvas.pixels import Pixels
from nstbench.canvas.spectral import COLOUR_ROOT, Spectral, spectral_gain
from nstbench.config.schema import Config
from nstbench.encoders.calibration import calibration_photographs
from nstbench.errors import UserError
from nstbench.modules.member import Evaluation, EvaluationCallback, Member
from nstbench.pictures.io import read_picture
from nstbench.runs.run import Result, run

Compose = Callable[..., Config]
ALPHA = "canvas.parametrization.alpha"


def picture(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def painted(pictures: Tensor, alpha: float = 0.5, **settings: bool) -> Spectral:
    canvas = Spectral(alpha, **{"decorrelate": False, **settings})
    canvas.paint(pictures)
    return canvas


edges = st.integers(1, 33)


# ---------------------------------------------------------------------------- the parametrisation


@given(st.integers(1, 3), edges, edges, st.floats(0, 2), st.booleans(), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_what_is_painted_is_what_is_seen(
    batch: int, height: int, width: int, alpha: float, decorrelate: bool, seed: int
) -> None:
    wanted = picture(seed, batch, 3, height, width) * 1.5 - 0.25  # wide noise leaves [0, 1]
    canvas = painted(wanted, alpha, decorrelate=decorrelate)
    assert [p.shape for p in canvas.parameters()] == [wanted.shape]
    assert canvas.z.dtype == canvas().dtype == torch.float32
    torch.testing.assert_close(canvas(), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(canvas.finished(), wanted.clamp(0, 1), rtol=0, atol=1e-5)
    again = painted(canvas().detach(), alpha, decorrelate=decorrelate)
    torch.testing.assert_close(again(), canvas(), rtol=0, atol=1e-5)


@given(st.integers(1, 2), edges, edges, st.floats(0, 2), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_bounded_picture_is_painted_to_half_a_level_of_8_bits(
    batch: int, height: int, width: int, alpha: float, decorrelate: bool
) -> None:
    wanted = (picture(height, batch, 3, height, width) * 255).round() / 255
    wanted[..., 0, 0] = 0.0
    wanted[..., -1, -1] = 1.0
    canvas = painted(wanted, alpha, decorrelate=decorrelate, bounded=True)
    torch.testing.assert_close(canvas(), wanted.clamp(1 / 512, 511 / 512), rtol=0, atol=1e-5)
    assert torch.equal((canvas.finished() * 255).round(), (wanted * 255).round())


def test_a_canvas_takes_pictures_of_another_size() -> None:
    canvas = painted(picture(1, 1, 3, 8, 12))
    for shape in ((2, 3, 17, 5), (1, 3, 1, 9), (1, 3, 1, 1)):
        wanted = picture(2, *shape)
        canvas.paint(wanted)
        torch.testing.assert_close(canvas(), wanted, rtol=0, atol=1e-5)
        assert [*canvas.state_dict()] == ["z"]  # the gains follow from the shape


@given(edges, edges, st.floats(0, 2))
@settings(max_examples=50, deadline=None)
def test_the_gain_is_a_power_of_the_frequency_with_a_mean_square_of_one(
    height: int, width: int, alpha: float
) -> None:
    gain = spectral_gain(height, width, alpha)
    # An impulse has all frequencies in equal parts: what is left of it shows every gain.
    impulse = torch.zeros(height, width, dtype=torch.float64)
    impulse[0, 0] = 1
    kernel = torch.fft.irfft2(torch.fft.rfft2(impulse) * gain, s=(height, width))
    whole = torch.fft.fft2(kernel)
    torch.testing.assert_close(whole.imag, torch.zeros_like(whole.imag), rtol=0, atol=1e-9)
    assert (whole.real**2).mean().item() == pytest.approx(1)
    vertical, horizontal = torch.fft.fftfreq(height), torch.fft.fftfreq(width)
    for y, x in ((0, 0), (height // 2, width // 3), (height // 4, width // 2), (height - 1, 0)):
        f = max(float(torch.hypot(vertical[y], horizontal[x])), 1 / max(height, width))
        lowest = 1 / max(height, width)
        assert whole.real[y, x].item() == pytest.approx(gain[0, 0].item() * (f / lowest) ** -alpha, rel=1e-5)


def test_noise_keeps_its_strength() -> None:
    canvas = painted(picture(0, 1, 3, 64, 48))
    canvas.z.data = torch.randn(1, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    assert canvas().var(correction=0).item() == pytest.approx(1, rel=0.15)


def gradient(canvas: Canvas, weight: Tensor) -> Tensor:
    (canvas().sin() * weight).sum().backward()
    (parameter,) = canvas.parameters()
    assert parameter.grad is not None
    return parameter.grad


def test_without_a_fall_it_is_the_canvas_of_pixels() -> None:
    wanted, weight = picture(1, 2, 3, 9, 14), picture(2, 2, 3, 9, 14)
    spectral, pixels = painted(wanted, alpha=0), Pixels()
    pixels.paint(wanted)
    torch.testing.assert_close(spectral.z, pixels.pixels, rtol=0, atol=1e-6)
    torch.testing.assert_close(spectral(), pixels(), rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient(spectral, weight), gradient(pixels, weight), rtol=0, atol=1e-6)


def one_step(canvas: Canvas, aim: Tensor) -> Tensor:
    """Return how far one step of gradient descent on ½‖picture - aim‖² moves the picture."""
    before = canvas().detach().clone()
    optimizer = torch.optim.SGD(canvas.parameters(), lr=0.01)
    ((canvas() - aim) ** 2).sum().mul(0.5).backward()
    optimizer.step()
    return canvas().detach() - before


def test_low_frequencies_move_further_and_high_ones_less() -> None:
    start = picture(1, 1, 3, 24, 33)
    spectral, pixels = painted(start), Pixels()
    pixels.paint(start)
    brighter = one_step(spectral, start + 0.1).mean() / one_step(pixels, start + 0.1).mean()
    gain = spectral_gain(24, 33, 0.5)
    assert brighter.item() == pytest.approx(gain[0, 0].item() ** 2, rel=1e-3)
    assert brighter > 5
    spectral.paint(start)
    pixels.paint(start)
    stripes = start + 0.1 * (-1.0) ** torch.arange(24).view(1, 1, 24, 1)
    moved = one_step(spectral, stripes).norm() / one_step(pixels, stripes).norm()
    assert moved.item() == pytest.approx(gain[12, 0].item() ** 2, rel=1e-3)
    assert moved < 1


def test_a_bounded_canvas_stays_inside_however_far_it_is_pushed() -> None:
    canvas = painted(picture(1, 1, 3, 7, 10), bounded=True)
    optimizer = torch.optim.Adam(canvas.parameters(), lr=0.3)
    for _ in range(20):
        optimizer.zero_grad()
        ((canvas() - 3) ** 2).sum().backward()  # a colour that there is not
        optimizer.step()
    assert 0 < canvas().min() <= canvas().max() < 1
    assert canvas().mean() > 0.9
    outside = painted(torch.tensor([-1.0, 2.0]).view(1, 1, 1, 2).expand(1, 3, 4, 2), bounded=True)
    assert outside().amin().item() == pytest.approx(1 / 512, abs=1e-5)
    assert outside().amax().item() == pytest.approx(511 / 512, abs=1e-5)


def test_colours_are_those_of_the_photographs() -> None:
    """Compute the constants again, as their comment says."""
    photographs = calibration_photographs(128).double()
    centred = photographs - photographs.mean(dim=(2, 3), keepdim=True)
    colours = centred.transpose(0, 1).flatten(1)
    covariance = colours @ colours.T / colours.shape[1]
    values, vectors = torch.linalg.eigh(covariance / (covariance.trace() / 3))
    root = vectors @ values.sqrt().diag() @ vectors.T
    torch.testing.assert_close(root, torch.tensor(COLOUR_ROOT).double(), rtol=0, atol=2e-3)
    # White z has their covariance.
    canvas = painted(photographs[:1], alpha=0, decorrelate=True)
    canvas.z.data = torch.randn(
        1, 3, 128, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    mixed = canvas().detach().flatten(2)[0]
    torch.testing.assert_close(torch.cov(mixed), covariance / (covariance.trace() / 3), rtol=0, atol=0.05)


@pytest.mark.parametrize("bounded", [False, True])
def test_gradients_are_exact(bounded: bool) -> None:
    canvas = painted(picture(3, 1, 3, 3, 4).double(), decorrelate=True, bounded=bounded)
    assert canvas().dtype == torch.float64

    def picture_of(z: Tensor) -> Tensor:
        return torch.func.functional_call(canvas, {"z": z}, ())

    z = canvas.z.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(picture_of, (z,))


def test_the_picture_is_float32_even_under_autocast() -> None:
    canvas = painted(picture(3, 1, 3, 6, 5), decorrelate=True, bounded=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(canvas(), painted(picture(3, 1, 3, 6, 5), decorrelate=True, bounded=True)())
        assert canvas().dtype == torch.float32


# ------------------------------------------------------------------------------------ the setting


@pytest.mark.parametrize("alpha", ["-0.5", "2.5", "inf", "nan"])
def test_a_fall_that_makes_no_sense_is_refused(alpha: str, compose_config: Compose) -> None:
    with pytest.raises(UserError) as caught:
        compose_config("canvas=spectral", f"{ALPHA}={alpha}")
    assert str(caught.value).startswith(f"{ALPHA}={alpha}: it must be ")
    assert f"{ALPHA}=" in caught.value.hint


def test_a_fall_is_a_number(compose_config: Compose) -> None:
    with pytest.raises(UserError, match=rf"{ALPHA}=steep: it must be a number"):
        compose_config("canvas=spectral", f"{ALPHA}=steep")
    with pytest.raises(UserError, match=r"parametrization.alhpa=1: there is no such setting.*alpha"):
        compose_config("canvas=spectral", "+canvas.parametrization.alhpa=1")
    for valid in ("0", "1", "2"):
        compose_config("canvas=spectral", f"{ALPHA}={valid}")


# ---------------------------------------------------------------------------------------- in a run


class See(EvaluationCallback):
    """Keep what the first evaluation of each stage saw."""

    def __init__(self) -> None:
        self.first: dict[int, Tensor] = {}
        self.dtypes: set[torch.dtype] = set()
        self.scales: list[Tensor] = []

    def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
        self.first.setdefault(evaluation.stage, evaluation.picture)
        assert isinstance(member.canvas, Spectral | Pixels)
        self.dtypes |= {evaluation.picture.dtype, *(p.dtype for p in member.canvas.parameters())}
        if evaluation.index == 0:
            self.scales = [s for term in member.terms for s in term.scales.values()]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("bounded", ["false", "true"])
def test_two_stages_of_odd_sizes(compose_config: Compose, precision: str, bounded: str) -> None:
    see = See()
    chosen = ["canvas=spectral", f"canvas.parametrization.bounded={bounded}", "schedule=two_sizes"]
    precise = [f"schedule.precision={precision}", "record.curves_every=1", "optimizer=adam"]
    result = run(compose_config(*chosen, *precise, "size=98"), callbacks=[see])
    assert [p.shape[-2:] for p in see.first.values()] == [(37, 49), (74, 98)]
    assert see.dtypes == {torch.float32}
    assert (see.first[0].mean(dim=(2, 3)) - see.first[1].mean(dim=(2, 3))).abs().max() < 0.1
    finished = read_picture(result.folder / "canvas.png")
    assert finished.shape == (1, 3, 74, 98)
    with (result.folder / "curves.csv").open() as file:
        losses = [float(row["loss/total"]) for row in csv.DictReader(file)]
    assert losses[-1] < losses[0]


def bytes_of(result: Result) -> bytes:
    return (result.folder / "canvas.png").read_bytes()


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("stop", [3, 5])  # in the first stage, in the second
def test_stopped_in_any_stage_it_ends_with_the_same_bytes(
    compose_config: Compose, optimizer: str, stop: int, killed_at: Callable[[int], EvaluationCallback]
) -> None:
    chosen = ["canvas=spectral_noise", "canvas.parametrization.decorrelate=true", f"optimizer={optimizer}"]
    chosen += [
        "canvas.parametrization.bounded=true",
        "schedule=two_sizes",
        "size=98",
        "weights.unit=gradient",
    ]
    chosen += ["record.checkpoint_every=1"]
    whole = run(compose_config(*chosen, "output=whole"))
    with pytest.raises(RuntimeError, match="killed"):
        run(compose_config(*chosen, "output=broken"), callbacks=[killed_at(stop)])
    continued = run(compose_config(*chosen, "output=broken"), callbacks=[killed_at(0)])  # not begun again
    assert continued.record.evaluations == whole.record.evaluations == 6
    assert continued.record.final_losses == whole.record.final_losses
    assert bytes_of(continued) == bytes_of(whole)


def test_units_of_gradients_are_those_of_the_picture(compose_config: Compose) -> None:
    """What a weight of 1 means does not depend on the parametrisation."""
    seen = {}
    for canvas in ("pixels", "spectral"):
        seen[canvas] = See()
        chosen = [f"canvas={canvas}", "canvas.start=noise", "weights.unit=gradient", "steps=1"]
        run(compose_config(*chosen), callbacks=[seen[canvas]])
    assert len(seen["pixels"].scales) >= 3
    torch.testing.assert_close(seen["spectral"].scales, seen["pixels"].scales, rtol=1e-3, atol=0)


def test_without_a_fall_a_run_is_that_of_pixels(compose_config: Compose) -> None:
    pixels = run(compose_config("canvas=pixels", "optimizer=sgd"))
    flat = [f"{ALPHA}=0", "canvas.parametrization.decorrelate=false"]
    spectral = run(compose_config("canvas=spectral", *flat, "optimizer=sgd"))
    assert spectral.record.final_losses == pytest.approx(pixels.record.final_losses, rel=1e-3)
