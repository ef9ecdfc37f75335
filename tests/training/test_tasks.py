"""What the network learns from, against values that can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nstbench.training.schema import TaskSettings
from nstbench.training.tasks import TEXTURE_LAYERS, Heads, labels_at
from nstbench.training.textures.collage import Collage

WIDTHS = (4, 6, 8, 10, 12)
PROGRAMS = 7
EVERYTHING = TaskSettings(texture=1.0, histogram=0.5, reconstruction=2.0)


def scene(side: int = 32, batch: int = 2) -> tuple[list[Tensor], Collage, Tensor]:
    g = torch.Generator().manual_seed(0)
    maps = [torch.randn(batch, w, side >> i, side >> i, generator=g) for i, w in enumerate(WIDTHS)]
    pictures = torch.rand(batch, 3, side, side, generator=g)
    labels = torch.randint(PROGRAMS, (batch, side, side), generator=g)
    return [m.requires_grad_() for m in maps], Collage(pictures, labels), pictures * 2 - 1


def losses(heads: Heads, side: int = 32) -> dict[str, Tensor]:
    maps, drawn, normalised = scene(side)
    values: dict[str, Tensor] = heads(maps, drawn, normalised, torch.Generator().manual_seed(3))
    return {k: v if k == "loss" else v.detach() for k, v in values.items()}


def zeroed(heads: Heads) -> Heads:
    for p in heads.parameters():
        torch.nn.init.zeros_(p)
    return heads


def test_labels_are_those_at_the_centres_of_positions() -> None:
    labels = torch.arange(16 * 16).view(1, 16, 16)
    at_4 = labels_at(labels, 4).view(4, 4)
    assert at_4[0].tolist() == [2 * 16 + x for x in (2, 6, 10, 14)]
    assert at_4[:, 0].tolist() == [y * 16 + 2 for y in (2, 6, 10, 14)]
    assert labels_at(labels, 16).tolist() == [[8 * 16 + 8]]


@pytest.mark.parametrize("side", [32, 48])
def test_all_losses_are_finite_and_reach_every_map_they_look_at(side: int) -> None:
    torch.manual_seed(0)
    maps, drawn, normalised = scene(side)
    values = Heads(WIDTHS, PROGRAMS, EVERYTHING)(maps, drawn, normalised, torch.Generator())
    accuracies = {f"accuracy/{layer}" for layer in TEXTURE_LAYERS}
    assert set(values) == {"texture", "histogram", "reconstruction", "loss"} | accuracies
    assert all(torch.isfinite(v) and v.ndim == 0 for v in values.values())
    assert all(0 <= float(values[name]) <= 1 for name in accuracies)
    values["loss"].backward()
    assert maps[0].grad is None  # no task looks at the first block
    assert all(m.grad is not None and m.grad.abs().sum() > 0 for m in maps[1:])


def test_heads_that_know_nothing() -> None:
    """All classes equally likely: log of their number at each of three depths, weighted 0.5, 1 and 1."""
    with torch.no_grad():
        values = losses(zeroed(Heads(WIDTHS, PROGRAMS, EVERYTHING)))
    assert float(values["texture"]) == pytest.approx(2.5 * math.log(PROGRAMS), rel=1e-5)
    assert float(values["histogram"]) == pytest.approx(math.log(64), rel=1e-5)
    _, _, normalised = scene()
    assert float(values["reconstruction"]) == pytest.approx(float(normalised.abs().mean()), rel=1e-5)
    expected = 1.0 * values["texture"] + 0.5 * values["histogram"] + 2.0 * values["reconstruction"]
    assert float(values["loss"]) == pytest.approx(float(expected), rel=1e-6)


def test_heads_that_know_everything() -> None:
    heads = zeroed(Heads(WIDTHS, PROGRAMS, EVERYTHING))
    maps, _, _ = scene()
    one = Collage(torch.full((2, 3, 32, 32), 0.6), torch.full((2, 32, 32), 4))
    with torch.no_grad():
        for head in heads.texture:
            head.bias[4] = 50.0  # type: ignore[index,operator]
        for head in heads.histogram:
            head.bias[(2 * 4 + 2) * 4 + 2] = 50.0  # type: ignore[index,operator]
        assert heads.patch.bias is not None
        heads.patch.bias.fill_(0.2)
    with torch.no_grad():
        values = heads(maps, one, one.pictures * 2 - 1, torch.Generator())
    assert [float(values[f"accuracy/{layer}"]) for layer in TEXTURE_LAYERS] == [1, 1, 1]
    assert float(values["histogram"]) == pytest.approx(0, abs=1e-5)
    assert float(values["reconstruction"]) == pytest.approx(0, abs=1e-6)


def test_a_patch_is_the_pixels_under_its_position() -> None:
    """The map of relu4_3 holds the very patches: then nothing is missing from the reconstruction."""
    widths = (4, 6, 8, 192, 12)
    heads = zeroed(Heads(widths, PROGRAMS, EVERYTHING))
    _, drawn, normalised = scene()
    patches = torch.nn.functional.pixel_unshuffle(normalised, 8)
    maps = [torch.zeros(2, w, 32 >> i, 32 >> i) for i, w in enumerate(widths)]
    maps[3] = patches
    with torch.no_grad():
        heads.patch.weight.copy_(torch.eye(192).view(192, 192, 1, 1))
    assert heads(maps, drawn, normalised, torch.Generator())["reconstruction"].item() < 1e-6


@pytest.mark.parametrize("task", ["texture", "histogram", "reconstruction"])
def test_a_weight_of_0_leaves_a_task_out(task: str) -> None:
    torch.manual_seed(0)
    whole = Heads(WIDTHS, PROGRAMS, EVERYTHING)
    with torch.no_grad():
        before = losses(whole)
    whole.weights = replace(EVERYTHING, **{task: 0.0})
    values = losses(whole)
    weight = getattr(EVERYTHING, task)
    left = float(before["loss"] - weight * before[task])
    assert values["loss"].item() == pytest.approx(left, rel=1e-5)
    assert (task in values) == (task == "texture")  # whose accuracy is always of interest
    values["loss"].backward()
    parts = {"texture": whole.texture, "histogram": whole.histogram, "reconstruction": whole.patch}
    for name, part in parts.items():
        moved = any(p.grad is not None and bool(p.grad.any()) for p in part.parameters())
        assert moved == (name != task), name
