"""What must hold of every option of conf/loss, found there: a new one is tested without a line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from nstbench.config.files import formulations, groups
from nstbench.config.instantiate import TERM_KEYS, build
from nstbench.config.schema import Role
from nstbench.losses.base import Formulation, JointLoss

OPTIONS = [(r, o) for r in get_args(Role) for o in groups()[f"loss/{r}"] if o != "none"]
every_option = pytest.mark.parametrize(("role", "option"), OPTIONS, ids=[f"{r}={o}" for r, o in OPTIONS])

Maps = dict[str, Tensor]


def loss_of(role: str, option: str) -> Formulation[Any]:
    """Build the loss of an option, with its defaults."""
    (own,) = formulations(role)[option].values()
    loss: Formulation[Any] = build({k: v for k, v in own.items() if k not in TERM_KEYS})
    return loss


def seen(loss: Formulation[Any], role: str, maps: Maps) -> Any:
    """Return what a loss sees of a picture: the pixels, one layer, or all together."""
    if role == "regularizer" or type(loss).__name__ == "Laplacian":
        return maps["canvas"]
    if not isinstance(loss, JointLoss):
        return maps["layer"]
    return [maps[name] for name in loss.views(["layer", "deep"])[0].split("+")]


def maps_of(kind: str, *, batch: int = 1, seed: int = 0, dtype: torch.dtype = torch.float32) -> Maps:
    """Return the pixels and the feature maps of a picture of a kind."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"canvas": (batch, 3, 24, 20), "layer": (batch, 5, 12, 10), "deep": (batch, 7, 6, 5)}
    if kind == "narrow":
        shapes = {"canvas": (batch, 3, 12, 12), "layer": (batch, 5, 3, 3), "deep": (batch, 7, 1, 1)}
    make: dict[str, Callable[..., Tensor]] = {
        "zeros": torch.zeros,
        "constant": lambda *shape: torch.full(shape, 0.7),
        "tiny": lambda *shape: 1e-20 * torch.rand(shape, generator=generator),
        "near": lambda *shape: 1 + 1e-6 * torch.rand(shape, generator=generator),
        "sparse": lambda *shape: (torch.rand(shape, generator=generator) - 0.8).relu(),
        "usual": lambda *shape: torch.rand(shape, generator=generator),
        "narrow": lambda *shape: torch.rand(shape, generator=generator),
        "large": lambda *shape: 300 * torch.rand(shape, generator=generator),
    }
    return {name: make[kind](*shape).to(dtype) for name, shape in shapes.items()}


def value_and_gradients(
    loss: Formulation[Any], role: str, canvas: Maps, target: Any
) -> tuple[Tensor, list[Tensor]]:
    looked = seen(loss, role, {name: x.clone().requires_grad_() for name, x in canvas.items()})
    value = loss(looked, target)
    leaves: Sequence[Tensor] = [looked] if isinstance(looked, Tensor) else looked
    gradients = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
    return value.detach(), [
        torch.zeros_like(x) if g is None else g for x, g in zip(leaves, gradients, strict=True)
    ]


KINDS = ["zeros", "constant", "tiny", "near", "sparse", "usual", "large", "narrow"]


@every_option
@pytest.mark.parametrize("of_style", KINDS)
def test_degenerate_pictures_have_finite_values_and_gradients(role: str, option: str, of_style: str) -> None:
    loss = loss_of(role, option)
    style = maps_of(of_style, seed=1)
    target = loss.join([loss.target(seen(loss, role, style))])
    assert torch.isfinite(loss.unit(target)).all()
    for of_canvas in KINDS:
        canvas = maps_of(of_canvas)
        if role == "content" and ("narrow" in (of_canvas, of_style)) and of_canvas != of_style:
            continue  # content compares maps of one size
        value, gradients = value_and_gradients(loss, role, canvas, target)
        assert value.shape == (1,)
        assert torch.isfinite(value).all(), of_canvas
        assert (value >= 0).all(), of_canvas
        for gradient in gradients:
            assert torch.isfinite(gradient).all(), of_canvas


@every_option
def test_a_canvas_does_not_feel_its_neighbours(role: str, option: str) -> None:
    loss = loss_of(role, option)
    canvas = maps_of("usual", batch=3, dtype=torch.float64)
    for batch in (1, 3):  # one style for all, and one for each
        style = maps_of("sparse", batch=batch, seed=1, dtype=torch.float64)
        together, gradients = value_and_gradients(loss, role, canvas, loss.target(seen(loss, role, style)))
        assert together.shape == (3,)
        for i in range(3):
            own = {name: x[i : i + 1] for name, x in canvas.items()}
            its = {name: x[min(i, batch - 1)][None] for name, x in style.items()}
            alone, slopes = value_and_gradients(loss, role, own, loss.target(seen(loss, role, its)))
            torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-9, atol=1e-12)
            for all_of_them, one in zip(gradients, slopes, strict=True):
                torch.testing.assert_close(all_of_them[i : i + 1], one, rtol=1e-8, atol=1e-12)


@every_option
def test_half_precision_features_are_compared_in_float32_and_left_as_they_are(role: str, option: str) -> None:
    loss = loss_of(role, option)
    canvas = maps_of("usual", dtype=torch.bfloat16)
    before = {name: x.clone() for name, x in canvas.items()}
    target = loss.target(seen(loss, role, maps_of("sparse", seed=1, dtype=torch.bfloat16)))
    value = loss(seen(loss, role, canvas), target)
    assert value.dtype == torch.float32
    assert torch.isfinite(value).all()
    assert all(torch.equal(canvas[name], before[name]) for name in canvas)
    torch.testing.assert_close(loss(seen(loss, role, canvas), target), value, rtol=0, atol=0)


@every_option
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")], ids=str)
@pytest.mark.parametrize("everywhere", [True, False], ids=["everywhere", "at one position"])
def test_a_canvas_that_is_not_finite_fails_alone(
    role: str, option: str, poison: float, everywhere: bool
) -> None:
    loss = loss_of(role, option)
    sound = maps_of("usual", batch=3)
    bad = {name: x.clone() for name, x in sound.items()}
    for x in bad.values():
        h, w = x.shape[2:]
        x[1, :, h // 2, w // 2] = poison
        if everywhere:
            x[1] = poison
    for styles in (1, 3):  # one style for all, and one for each
        target = loss.target(seen(loss, role, maps_of("sparse", batch=styles, seed=1)))
        expected, slopes = value_and_gradients(loss, role, sound, target)
        value, gradients = value_and_gradients(loss, role, bad, target)
        assert not torch.isfinite(value[1])
        for row in (0, 2):
            assert torch.equal(value[row], expected[row])
            for gradient, slope in zip(gradients, slopes, strict=True):
                assert torch.isfinite(gradient[row]).all()
                assert torch.equal(gradient[row], slope[row])
