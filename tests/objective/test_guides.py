"""Guides: each region of the canvas takes its style from its region of a style picture, and from no other."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from nstbench.config.files import formulations
from nstbench.config.schema import Config
from nstbench.encoders.base import Encoder
from nstbench.encoders.geometry import map_shapes
from nstbench.encoders.procedural.encoder import ProceduralVGG
from nstbench.encoders.random import RandomVGG
from nstbench.encoders.torchvision_model import TorchvisionModel
from nstbench.errors import UserError
from nstbench.losses.base import CANVAS, Loss
from nstbench.losses.functional.gram import gram_matrix
from nstbench.losses.gram import Gram
from nstbench.objective.build import build_term, build_terms
from nstbench.objective.guides import guides_for
from nstbench.objective.propagation import propagate
from nstbench.objective.term import Guides, Region, Term
from nstbench.objective.units import set_units
from nstbench.runs.inputs import load_inputs
from nstbench.runs.preparation import prepare
from nstbench.runs.run import run
from nstbench.tracking.fingerprint import fingerprint

Compose = Callable[..., Config]

CIRCULAR = ["encoder.padding=circular"]
STYLES = [*formulations("style")]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def left(height: int, width: int, edge: int) -> Tensor:
    mask = torch.zeros(1, 1, height, width)
    mask[..., :edge] = 1
    return mask


def tiny_vgg() -> Encoder:
    return RandomVGG("vgg11", 0.0625, 1)


ENCODERS: dict[str, Callable[[], Encoder]] = {
    "zeros": lambda: RandomVGG("vgg11", 0.0625, 1, padding="zeros"),
    "reflect": tiny_vgg,
    "none": lambda: RandomVGG("vgg11", 0.0625, 1, normalize=False, padding="none"),
    "max": lambda: RandomVGG("vgg16", 0.0625, 1, pooling="max", padding="replicate"),
    "resnet18": lambda: TorchvisionModel("resnet18", "none"),  # whose grids are not known exactly
}


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("shape", [(97, 131), (96, 128)])
def test_inside_sees_no_other_pixel_and_all_misses_none(name: str, shape: tuple[int, int]) -> None:
    """Held against the encoder itself: pixels are changed, and what changes has seen them."""
    encoder = ENCODERS[name]()
    layers = [n for n, info in encoder.layers.items() if info.stride <= 8 and info.channels > 3]
    layers = layers[:: max(1, len(layers) // 9)]
    mask = torch.zeros(1, 1, *shape)
    mask[..., 20:80, 30:101] = 1
    picture = noise(1, 3, *shape)
    features = encoder(picture, layers)
    assert {n: tuple(f.shape[2:]) for n, f in features.items()} == map_shapes(encoder, layers, shape)
    outside = encoder(torch.where(mask > 0, picture, noise(1, 3, *shape, seed=1)), layers)
    within = encoder(torch.where(mask > 0, noise(1, 3, *shape, seed=1), picture), layers)
    some = 0
    for layer, f in features.items():
        size, info = (f.shape[2], f.shape[3]), encoder.layers[layer]
        inside, every = (propagate(mask, [info], [size], how) for how in ("inside", "all"))
        untouched = ((f - outside[layer]).abs().amax(1, keepdim=True) == 0).float()
        assert torch.equal(inside * untouched, inside), layer
        some += int(inside.sum())
        touched = ((f - within[layer]).abs().amax(1, keepdim=True) > 0).float()
        assert torch.equal(every * touched, touched), layer
        if name in {"zeros", "none"} and layer.startswith("conv"):  # whose windows lose nothing on the way
            assert torch.equal(inside, untouched), layer
            assert torch.equal(every, touched), layer
        simple = propagate(mask, [info], [size], "simple")
        assert (inside <= simple + 1e-6).all()
        assert (simple <= every + 1e-6).all()
    assert some > 1000


@pytest.mark.parametrize("how", ["simple", "inside", "all"])
def test_a_full_mask_is_full_at_every_layer(how: Any) -> None:
    encoder = ProceduralVGG()
    layers = encoder.default_layers["style"]
    for layer, shape in map_shapes(encoder, layers, (70, 90)).items():
        guide = propagate(torch.ones(1, 1, 70, 90), [encoder.layers[layer]], [shape], how)
        torch.testing.assert_close(guide, torch.ones(1, 1, *shape))


def test_soft_masks_stay_soft() -> None:
    mask = torch.linspace(0, 1, 32).expand(1, 1, 32, 32).contiguous()
    info = ProceduralVGG().layers["relu2_1"]
    simple, inside, every = (propagate(mask, [info], [(16, 16)], how) for how in ("simple", "inside", "all"))
    torch.testing.assert_close(simple[0, 0, 0], mask[0, 0, 0].view(16, 2).mean(1))
    assert (inside < simple).all()
    assert (simple < every).all()
    assert inside[..., -1].min() > 0.5


@pytest.mark.parametrize("option", STYLES)
def test_a_full_guide_is_no_guide_and_what_is_outside_counts_for_nothing(option: str) -> None:
    encoder = tiny_vgg().double()
    (node,) = formulations("style")[option].values()
    node = {**node, "layers": ["relu1_1", "relu2_1"]}
    style, canvas = noise(1, 3, 40, 36, seed=1).double(), noise(1, 3, 32, 44, seed=2).double()

    def seen(picture: Tensor) -> dict[str, Tensor]:
        return {**encoder(picture, ["relu1_1", "relu2_1"]), CANVAS: picture}

    def evaluate(style: Tensor, masks: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        term = build_term("style", option, node, encoder)
        guides = None
        if masks is not None:
            term.regions = [Region("here", 1.0)]
            canvas_guides, style_guides = (guides_of(term, encoder, mask) for mask in masks)
            guides = {"here": Guides(canvas_guides, [style_guides])}
        term.compute_targets([[seen(style)]], guides=guides)
        x = canvas.clone().requires_grad_()
        value = term(seen(x))
        return value.detach(), torch.autograd.grad(value.sum(), x)[0]

    value, slope = evaluate(style, None)
    ones = torch.ones(1, 1, 32, 44).double(), torch.ones(1, 1, 40, 36).double()
    guided, guided_slope = evaluate(style, ones)
    torch.testing.assert_close(guided, value, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(guided_slope, slope, rtol=1e-6, atol=1e-6 * float(slope.abs().max()))

    masks = left(32, 44, 26).double(), left(40, 36, 22).double()
    value, slope = evaluate(style, masks)
    assert slope[..., :26].abs().max() > 0
    # NearestNeighbor reads maps at every fourth pixel, from some pixels around.
    assert slope[..., 26 + (4 if option == "nearest_neighbor" else 0) :].abs().max() == 0
    other = style.clone()
    other[..., 22 + (4 if option == "nearest_neighbor" else 0) :] = 0.9
    torch.testing.assert_close(evaluate(other, masks)[0], value, rtol=0, atol=0)
    assert evaluate(other, None)[0] != evaluate(style, None)[0]


def guides_of(term: Term, encoder: Encoder, mask: Tensor, how: Any = "inside") -> dict[str, Tensor]:
    """Return the guides of a mask at each view."""
    shapes = {**map_shapes(encoder, ["relu1_1", "relu2_1"], (mask.shape[2], mask.shape[3])), CANVAS: ()}
    shapes[CANVAS] = (mask.shape[2], mask.shape[3])
    found = {}
    for view in term.layers:
        layers = view.split("+")
        seen = [None if layer == CANVAS else encoder.layers[layer] for layer in layers]
        reach = term.loss.smallest_map // 2
        found[view] = propagate(mask, seen, [shapes[layer] for layer in layers], how, reach)
    return found


def test_the_gram_target_of_a_region_does_not_know_the_other_region() -> None:
    """With complementary guides; the encoder sees the whole style picture, as it is."""
    encoder, layers = ProceduralVGG(), ["relu1_1", "relu2_1", "relu3_1"]
    style, edge = noise(1, 3, 64, 128), 60
    near, far = style.clone(), style.clone()
    near[..., edge:] = noise(1, 3, 64, 128 - edge, seed=1)
    infos = [encoder.layers[layer] for layer in layers]
    mask, other = left(64, 128, edge), 1 - left(64, 128, edge)
    for layer, info in zip(layers, infos, strict=True):
        assert info.receptive_field is not None
        far = style.clone()
        far[..., edge + info.receptive_field + info.stride :] = 0.2
        before, after, afar = (encoder(p, [layer])[layer] for p in (style, near, far))
        size = (before.shape[2], before.shape[3])
        for how in ("simple", "inside", "all"):
            mine, theirs = (propagate(m, [info], [size], how) for m in (mask, other))
            target, changed, kept = (gram_matrix(f, mine) for f in (before, after, afar))
            # Pixels farther away than a receptive field never matter.
            torch.testing.assert_close(kept, target, rtol=0, atol=0)
            if how == "inside":  # then no pixel of the other region does
                assert torch.equal(changed, target)
            else:  # else positions at the border, which see both regions, let a little through
                assert not torch.equal(changed, target)
                assert (changed - target).norm() < 0.1 * target.norm()
            moved = gram_matrix(after, theirs) - gram_matrix(before, theirs)
            assert moved.norm() > (changed - target).norm()


def test_a_guided_gram_matrix_is_the_papers() -> None:
    """Gatys et al. 2017, eq. 3 and 4, with T the root of our guide, normalised to ΣT² = 1."""
    F, g = noise(1, 5, 6, 7).double(), noise(1, 1, 6, 7, seed=1).double()
    T = g.sqrt()
    T = T / T.square().sum().sqrt()
    guided = (T * F).flatten(2)
    torch.testing.assert_close(gram_matrix(F, g), guided @ guided.transpose(1, 2))
    assert Gram("unnormalized").target(F, (g > 0.5).double())[1] == int((g > 0.5).sum())


def test_the_value_of_a_term_is_the_shares_of_its_regions() -> None:
    maps = {"a": noise(1, 4, 8, 8).double(), "b": noise(1, 6, 4, 4, seed=1).double()}
    styles = [{k: noise(*f.shape, seed=s).double() for k, f in maps.items()} for s in (2, 3)]
    on, off = ({k: left(f.shape[2], f.shape[3], f.shape[3] // 2) for k, f in maps.items()} for _ in "12")
    off = {k: 1 - g for k, g in off.items()}
    regions = [Region("sky", 0.75, 1), Region("ground", 0.25, 0)]
    term = Term("style/gram", Gram(), {"a": 0.9, "b": 0.1}, 1.0, regions=regions)
    term.compute_targets(
        [[s] for s in styles], guides={"sky": Guides(on, None), "ground": Guides(off, [off])}
    )
    loss = Gram()
    sky = {k: loss(maps[k], loss.target(styles[1][k]), on[k]) for k in maps}
    ground = {k: loss(maps[k], loss.target(styles[0][k], off[k]), off[k]) for k in maps}
    expected = 0.75 * (0.9 * sky["a"] + 0.1 * sky["b"]) + 0.25 * (0.9 * ground["a"] + 0.1 * ground["b"])
    torch.testing.assert_close(term(maps), expected)
    assert [*term.per_layer(maps)] == ["a@sky", "a@ground", "b@sky", "b@ground"]
    set_units([term], "unit", lambda _: {}, noise(1, 3, 8, 8))
    nothing = {k: torch.zeros_like(f) for k, f in maps.items()}
    assert term(nothing).item() == pytest.approx(1.0)  # each region in a unit of its own


@pytest.fixture
def masks(pair: dict[str, str]) -> dict[str, str]:
    """Masks of the left and the right half of `pair`'s pictures."""
    files = {}
    for name, (width, height) in (("photo", (48, 36)), ("painting", (40, 40))):
        mask = Image.new("L", (width, height), 0)
        mask.paste(255, (0, 0, width // 2, height))
        mask.save(f"left-{name}.png")
        mask.point(lambda v: 255 - v).save(f"right-{name}.png")
        files |= {f"{side} {name}": f"{side}-{name}.png" for side in ("left", "right")}
    return files


def two_styles(masks: dict[str, str], pair: dict[str, str]) -> list[str]:
    return [
        f"pictures.style=[{pair['painting']},procedural:mosaic]",
        f"+pictures.guides.left={{content: {masks['left photo']}, style: {masks['left painting']}}}",
        f"+pictures.guides.right={{content: {masks['right photo']}, picture: 1, weight: 3.0}}",
    ]


def test_a_run_with_guides_records_its_masks_and_its_regions(
    compose_config: Compose, masks: dict[str, str], pair: dict[str, str]
) -> None:
    settings = ["schedule=coarse_to_fine", "size=192", "record.diagnostics_every=1", "steps=2"]
    result = run(compose_config(*two_styles(masks, pair), *settings))
    record = json.loads((result.folder / "run.json").read_text())
    assert record["state"] == "completed"
    hashes = record["inputs"]["guides"]
    assert len(hashes["left"]["content"]) == len(hashes["right"]["content"]) == 64
    assert hashes["right"]["style"] is None
    header = (result.folder / "diagnostics.csv").read_text().splitlines()[0]
    assert "layer/style/gram/relu1_1@left" in header
    assert "layer/style/gram/relu5_1@right" in header


def test_each_region_is_pulled_by_its_own_style_only(
    compose_config: Compose, masks: dict[str, str], pair: dict[str, str]
) -> None:
    """The canvas's left half is deaf to the right one's style, away from the border between them."""
    settings = ["loss/content=none", "loss/regularizer=none", "size=192", "canvas.start=noise"]
    settings += ["layers.style=[relu1_1,relu2_1]"]

    def growth_per_pixel(style: str) -> Tensor:
        overrides = two_styles(masks, pair)
        overrides[0] = overrides[0].replace("procedural:mosaic", style)
        config = compose_config(*overrides, *settings)
        prepared = prepare(config)
        (term,), encoder = prepared.terms, prepared.encoder
        shape, styles = (144, 192), [(192, 192), (192, 192)]
        guides = guides_for(
            term, encoder, config.pictures.guide_propagation, prepared.inputs.masks, shape, styles
        )
        pictures = [
            torch.nn.functional.interpolate(p.pixels, s)
            for p, s in zip(prepared.inputs.styles, styles, strict=True)
        ]
        term.compute_targets([[encoder(p, term.layers_needed)] for p in pictures], guides=guides)
        canvas = noise(1, 3, *shape).requires_grad_()
        return torch.autograd.grad(term(encoder(canvas, term.layers_needed)).sum(), canvas)[0]

    one, other = growth_per_pixel("procedural:mosaic"), growth_per_pixel("procedural:glass")
    torch.testing.assert_close(one[..., :86], other[..., :86], rtol=0, atol=0)
    assert (one[..., 96:] - other[..., 96:]).norm() > 0.1 * one[..., 96:].norm()


def test_a_white_mask_changes_nothing_but_the_name_of_the_run(compose_config: Compose) -> None:
    Image.new("L", (48, 36), 255).save("white.png")
    plain = run(compose_config())
    guided = run(compose_config("+pictures.guides.everywhere={content: white.png}"))
    assert guided.folder != plain.folder
    for name, value in plain.record.final_losses.items():
        assert guided.record.final_losses[name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize("style", ["mrf", "nearest_neighbor", "relaxed_emd", "cross_layer_gram"])
def test_losses_of_patches_and_columns_run_with_guides(
    compose_config: Compose, masks: dict[str, str], pair: dict[str, str], style: str
) -> None:
    settings = [f"loss/style={style}", f"loss.style.{style}.layers=[relu1_1,relu2_1]", "steps=2"]
    # Turned copies of the style picture, with their masks.
    settings += ["loss.style.mrf.rotations=1"] if style == "mrf" else []
    settings += ["loss.style.nearest_neighbor.rotations=true"] if style == "nearest_neighbor" else []
    for unit in ("unit", "gradient"):
        result = run(compose_config(*two_styles(masks, pair), *settings, f"weights.unit={unit}"))
        assert result.record.final_losses["loss/style/" + style] > 0


def test_regions_of_a_texture_need_no_content_picture(compose_config: Compose, masks: dict[str, str]) -> None:
    settings = ["pictures.content=null", "loss/content=none", "canvas.start=noise"]
    guide = f"+pictures.guides.left={{content: {masks['left painting']}, style: {masks['left painting']}}}"
    assert run(compose_config(*settings, guide)).record.state == "completed"


def identity(config: Config) -> str:
    return fingerprint(config.plain, {**load_inputs(config).hashes(), "weights": ""})


def test_the_bytes_of_a_mask_matter_and_its_path_does_not(
    compose_config: Compose, masks: dict[str, str]
) -> None:
    def of(mask: str, *more: str) -> str:
        return identity(compose_config(f"+pictures.guides.a={{content: {mask}}}", *more))

    first = of(masks["left photo"])
    Path("copy.png").write_bytes(Path(masks["left photo"]).read_bytes())
    assert of("copy.png") == first
    assert of(masks["left photo"], "+pictures.guides.a.weight=1") == first  # its default
    others = [
        of(masks["right photo"]),
        of(masks["left photo"], "pictures.guide_propagation=all"),
        of(masks["left photo"], f"+pictures.guides.a.style={masks['left painting']}"),
        of(masks["left photo"], "+pictures.guides.a.weight=2"),
        identity(compose_config()),
    ]
    assert len({first, *others}) == 6


def test_runs_without_controls_are_what_they_were_before_there_were_any(compose_config: Compose) -> None:
    config = compose_config()
    before = identity(config)
    assert "guides" not in load_inputs(config).hashes()
    del config.plain["colour"]
    del config.plain["pictures"]["guides"], config.plain["pictures"]["guide_propagation"]
    assert identity(config) == before
    assert (
        identity(compose_config("pictures.guide_propagation=all")) == before
    )  # there is nothing to propagate


class Deaf(Loss):
    """A loss that cannot be of a region."""

    def target(self, features: Tensor, guide: Tensor | None = None) -> Tensor:
        if guide is not None:
            raise ValueError("it is of the whole picture")
        return features.mean((2, 3))

    def forward(self, features: Tensor, target: Tensor, guide: Tensor | None = None) -> Tensor:
        return (features.mean((2, 3)) - target).square().sum(1)


def test_a_loss_that_takes_no_guides_is_refused_before_the_run(
    compose_config: Compose, masks: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "deaf", sys.modules[__name__])
    node = "+loss.style.deaf={_target_: deaf.Deaf, layers: [relu2_1]}"
    assert run(compose_config("loss/style=none", node, "steps=1")).record.state == "completed"
    with pytest.raises(UserError, match=r"loss\.style\.deaf: it cannot use the guide of region left") as told:
        prepare(compose_config("loss/style=none", node, guide_of(masks, "left photo")))
    assert "it is of the whole picture" in str(told.value)


def guide_of(masks: dict[str, str], mask: str) -> str:
    return f"+pictures.guides.left={{content: {masks[mask]}}}"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+pictures.guides.sky={content: black.png}"], r"guides\.sky\.content=black\.png: it is black ever"),
        (["+pictures.guides.sky={style: wide.png}"], r"guides\.sky\.style=wide\.png: it has 60×20 pixels"),
        (["+pictures.guides.sky={content: lost.png}"], r"guides\.sky\.content=lost\.png: there is no such f"),
        (["+pictures.guides.sky={contnet: a.png}"], r"guides\.sky\.contnet.*no such setting.*mean content"),
        (["+pictures.guides.sky={picture: 1}"], r"guides\.sky\.picture=1: there is no such style picture"),
        (["+pictures.guides.sky={weight: 0}"], r"guides\.sky\.weight=0: it must be greater than 0"),
        (["+pictures.guides.sky={content: 5}"], r"guides\.sky\.content=5: it must be a string"),
        (["+pictures.guides={a b: {picture: 0}}"], r"guides\.a b: this cannot be the name of a region"),
        (["pictures.guide_propagation=inner"], r"guide_propagation=inner: it must be simple, inside or all"),
        (
            ["+pictures.guides.sky={picture: 0}", "loss/style=none"],
            r"guides\.sky: there is no style term for it to guide",
        ),
        (
            ["+pictures.guides.sky={picture: 0}", "pictures.style=[procedural:glass,procedural:gold]"],
            r"style=procedural:gold: no region of pictures\.guides takes its style from it",
        ),
        (
            ["+pictures.guides.sky={picture: 0}", "pictures.style_weights=[2]"],
            r"style_weights=\[2\.0\]: with guides, style pictures are not blended",
        ),
        (
            ["+pictures.guides.sky={content: dot.png}", "pictures.guide_propagation=inside"],
            r"guides\.sky\.content: the region has no position at relu\d_1 .*Type .*guide_propagation=simple",
        ),
        (
            ["+pictures.guides.sky={content: half.png}", "pictures.guide_propagation=all", *CIRCULAR],
            r"guide_propagation=all: with circular padding",
        ),
        (
            [
                "+pictures.guides.sky={content: corner.png}",
                "loss/style=mrf",
                "loss.style.mrf.layers=[relu1_1]",
            ],
            r"loss\.style\.mrf: it cannot use the guide of region sky at relu1_1: .* centre of a 3×3 patch",
        ),
    ],
)
def test_guides_that_cannot_be_used_are_refused_before_anything_is_written(
    compose_config: Compose, overrides: Sequence[str], message: str
) -> None:
    Image.new("L", (48, 36), 0).save("black.png")
    Image.new("L", (60, 20), 255).save("wide.png")
    for name, box in (("dot", (20, 10, 24, 14)), ("corner", (0, 0, 1, 1)), ("half", (0, 0, 24, 36))):
        mask = Image.new("L", (48, 36), 0)
        mask.paste(255, box)
        mask.save(f"{name}.png")
    with pytest.raises(UserError, match=message):
        run(compose_config(*overrides))
    assert not Path("outputs").exists()


def test_what_a_cut_out_leaves_transparent_is_no_part_of_it(compose_config: Compose) -> None:
    cut = Image.new("RGBA", (48, 36), (255, 255, 255, 0))
    cut.paste((255, 255, 255, 255), (0, 0, 24, 36))
    cut.save("cut.png")
    config = compose_config("+pictures.guides.cut={content: cut.png}", "layers.style=[relu1_1]")
    prepared = prepare(config)
    (term,) = (t for t in build_terms(config, prepared.encoder) if t.role == "style")
    guides = guides_for(
        term, prepared.encoder, config.pictures.guide_propagation, prepared.inputs.masks, (36, 48), [(48, 48)]
    )
    assert guides["cut"].canvas is not None
    torch.testing.assert_close(guides["cut"].canvas["relu1_1"], left(36, 48, 24))
