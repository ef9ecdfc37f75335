"""The objective in blocks: value and gradient of the whole, for every loss that can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from nstbench.blockwise.objective import BlockwiseObjective
from nstbench.encoders.base import Encoder
from nstbench.encoders.geometry import map_shapes
from nstbench.encoders.procedural.encoder import ProceduralVGG
from nstbench.encoders.random import RandomVGG
from nstbench.losses.base import CANVAS, Formulation
from nstbench.losses.content import FeatureReconstruction
from nstbench.losses.contextual import Contextual
from nstbench.losses.covariance import Covariance
from nstbench.losses.cross_layer_gram import CrossLayerGram
from nstbench.losses.gaussian_wasserstein import GaussianWasserstein
from nstbench.losses.gram import Gram
from nstbench.losses.laplacian import Laplacian
from nstbench.losses.mmd import LinearMMD, PolynomialMMD
from nstbench.losses.moments import Moments
from nstbench.losses.mrf import MRF
from nstbench.losses.nearest_neighbor import NearestNeighbor
from nstbench.losses.relaxed_emd import RelaxedEMD
from nstbench.losses.shifted_gram import ShiftedGram
from nstbench.losses.total_variation import TotalVariation
from nstbench.objective.objective import layers_of
from nstbench.objective.term import Guides, Region, Term
from nstbench.objective.units import set_units

LOSSES: dict[str, Formulation] = {  # type: ignore[type-arg]
    "gram": Gram(),
    "gram-unnormalized": Gram("unnormalized"),
    "shifted_gram": ShiftedGram(),
    "covariance": Covariance(),
    "covariance-means": Covariance(means=True),
    "moments": Moments(),
    "moments-adain": Moments("adain"),
    "gaussian_wasserstein": GaussianWasserstein(),
    "mmd_linear": LinearMMD(),
    "mmd_polynomial": PolynomialMMD(),
    "cross_layer_gram": CrossLayerGram(-1.0),
    "features": FeatureReconstruction("paper"),
}
ENCODERS: dict[str, dict[str, Any]] = {
    "zeros, max": {"pooling": "max", "padding": "zeros"},
    "reflect, average": {},
    "replicate": {"padding": "replicate"},
    "none": {"padding": "none", "normalize": False},
}
LAYERS = ["relu1_1", "relu2_1", "relu3_1"]
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


@cache
def encoder(name: str, dtype: torch.dtype = torch.float32) -> Encoder:
    return RandomVGG("vgg11", width=0.06, **ENCODERS[name]).to(dtype)


def picture(height: int, width: int, seed: int, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rough, smooth = (torch.rand(batch, 3, *s, generator=generator) for s in ((height, width), (4, 5)))
    smooth = torch.nn.functional.interpolate(smooth, (height, width), mode="bicubic")
    return 0.4 * rough + 0.6 * smooth


class Case:
    """Two objectives of the same terms, one to be computed whole, one in blocks."""

    def __init__(
        self,
        make: Callable[[], Sequence[Term]],
        encoder: Encoder,
        pictures: Mapping[str, Sequence[Tensor]],
        tile: int,
        guides: Mapping[str, Guides] | None = None,
    ) -> None:
        dtype = next(encoder.parameters()).dtype
        self.encoder = encoder
        self.whole, in_blocks = make(), make()
        self.blocks = BlockwiseObjective(encoder, encoder, in_blocks, tile)
        for term, same in zip(self.whole, in_blocks, strict=True):
            own = [p.to(dtype) for p in pictures[term.role]]
            blend = [1 / len(own)] * len(own) if len(own) > 1 and not term.regions else (1.0,)
            term.compute_targets([[self.see(p)] for p in own], blend, guides if term.regions else None)
            self.blocks.compute_targets(same, own, blend, guides if term.regions else None)

    def see(self, x: Tensor) -> dict[str, Tensor]:
        return {**self.encoder(x, layers_of(self.whole)), CANVAS: x}

    def dense(self, canvas: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        leaf = canvas.clone().requires_grad_()
        values = {term.name: term(self.see(leaf)) for term in self.whole}
        (gradient,) = torch.autograd.grad(self.total(values).sum(), leaf)
        return {name: value.detach() for name, value in values.items()}, gradient

    def total(self, values: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([term.weight * values[term.name] for term in self.whole]).sum(0)

    def assert_alike(self, canvas: Tensor, tolerance: float) -> None:
        (values, gradient), (found, slope) = self.dense(canvas), self.blocks(canvas)
        for name, value in values.items():
            torch.testing.assert_close(found[name], value, rtol=tolerance, atol=0)
        torch.testing.assert_close(self.total(found), self.total(values), rtol=tolerance, atol=0)
        assert slope.shape == gradient.shape
        assert (slope - gradient).norm() <= tolerance * gradient.norm()
        assert (slope - gradient).abs().max() <= 10 * tolerance * gradient.abs().max()


def terms(loss: Formulation, role: str = "style") -> Callable[[], list[Term]]:  # type: ignore[type-arg]
    weights = {view: 1.0 + i for i, view in enumerate(loss.views(LAYERS))}
    return lambda: [Term(f"{role}/it", loss, weights, 3.0)]


@each_loss
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
@pytest.mark.parametrize("name", ENCODERS)
def test_value_and_gradient_are_those_of_the_whole(
    loss: Formulation,  # type: ignore[type-arg]
    name: str,
    dtype: torch.dtype,
) -> None:
    if isinstance(loss, CrossLayerGram) and name == "none":
        pytest.skip("maps without padding do not lie in each other: refused")
    style = picture(75, 83, 2) if isinstance(loss, FeatureReconstruction) else picture(53, 66, 2)
    # Blocks smaller than the receptive field of relu3_1.
    case = Case(terms(loss), encoder(name, dtype), {"style": [style]}, 20)
    case.assert_alike(picture(75, 83, 1, batch=2).to(dtype), 1e-10 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("shape", [(64, 64), (41, 97), (120, 33)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
def test_a_whole_objective_on_the_encoder_that_ships(shape: tuple[int, int], dtype: torch.dtype) -> None:
    def make() -> list[Term]:
        defaults = ["relu1_1", "relu2_1", "relu3_1", "relu4_1"]
        return [
            Term("content/features", FeatureReconstruction(), {"relu3_2": 1.0}, 1.0),
            Term("content/laplacian", Laplacian(), {CANVAS: 1.0}, 1.0),
            Term("style/gram", Gram(), dict.fromkeys(defaults, 0.25), 50.0),
            Term("style/moments", Moments(), {"relu2_2": 1.0, CANVAS: 2.0}, 5.0),
            Term("regularizer/tv", TotalVariation(), {CANVAS: 1.0}, 0.1),
        ]

    content, style = picture(*shape, 1), picture(50, 60, 2)
    pictures = {"content": [content], "style": [style], "regularizer": [content]}
    case = Case(make, ProceduralVGG().to(dtype), pictures, 40)
    case.assert_alike(picture(*shape, 3).to(dtype), 1e-10 if dtype == torch.float64 else 1e-5)


@each_loss
def test_means_far_from_zero_lose_no_digits(loss: Formulation) -> None:  # type: ignore[type-arg]
    """Of bright pictures with little in them, raw sums of squares in float32 would lose four."""
    flat = 0.97 + 0.03 * picture(75, 83, 1)
    style = 0.9 + 0.1 * picture(75, 83, 2)
    exact = Case(terms(loss), encoder("reflect, average", torch.float64), {"style": [style]}, 24)
    case = Case(terms(loss), encoder("reflect, average"), {"style": [style]}, 24)
    truth, gradient = exact.dense(flat.double())
    found, slope = case.blocks(flat)
    dense, own = case.dense(flat)
    # What float32 costs the features themselves, it costs both.
    true, whole, in_blocks = (case.total(values) for values in (truth, dense, found))
    allowed = 1e-5 + 2 * float((whole - true).abs() / true)
    assert float((in_blocks - true).abs() / true) <= allowed
    assert (slope - gradient).norm() <= 1e-5 * gradient.norm() + 2 * (own - gradient).norm()


def test_blends_of_pictures() -> None:
    styles = [picture(53, 66, 2), picture(70, 41, 3)]
    for loss in (Gram(), Covariance(), GaussianWasserstein()):
        case = Case(terms(loss), encoder("reflect, average", torch.float64), {"style": styles}, 24)
        case.assert_alike(picture(75, 83, 1).double(), 1e-10)


@pytest.mark.parametrize("name", [n for n in LOSSES if n != "features"])
def test_regions_with_styles_of_their_own(name: str) -> None:
    loss, eyes = LOSSES[name], encoder("zeros, max", torch.float64)
    canvas, style = picture(75, 83, 1), picture(53, 66, 2)
    views = list(loss.views(LAYERS))

    def guide(of: Tensor, begin: float) -> dict[str, Tensor]:
        shapes = map_shapes(eyes, LAYERS, (of.shape[2], of.shape[3]))
        found = {}
        for view in views:
            height, width = shapes[view.split("+")[0]]
            ramp = torch.linspace(begin, begin + 1.4, width, dtype=torch.float64).clamp(0, 1)
            found[view] = ramp.expand(1, 1, height, width).clone()
        return found

    guides = {
        "left": Guides(guide(canvas, -0.7), [guide(style, -0.2)]),  # none of it in some blocks
        "right": Guides(guide(canvas, -0.2), None),
    }
    regions = [Region("left", 0.3), Region("right", 0.7)]
    case = Case(
        lambda: [Term("style/it", loss, dict.fromkeys(views, 1.0), 3.0, regions=regions)],
        eyes,
        {"style": [style]},
        24,
        guides,
    )
    case.assert_alike(canvas.double(), 1e-10)


@pytest.mark.parametrize("unit", ["paper", "unit", "gradient"])
def test_units_are_those_of_the_whole(unit: str) -> None:
    def make() -> list[Term]:
        return [
            Term("content/features", FeatureReconstruction(), {"relu3_1": 1.0}, 2.0),
            Term("style/gram", Gram(), {"relu1_1": 0.5, "relu2_1": 0.5}, 20.0),
            Term("regularizer/tv", TotalVariation(), {CANVAS: 1.0}, 0.1),
        ]

    content, style = picture(61, 70, 1), picture(53, 66, 2)
    pictures = {"content": [content], "style": [style], "regularizer": [content]}
    case = Case(make, encoder("zeros, max", torch.float64), pictures, 24)
    start = picture(61, 70, 5).double()
    set_units(case.whole, unit, case.see, start)  # type: ignore[arg-type]
    set_units(case.blocks.terms, unit, case.see, start, case.blocks.measured)  # type: ignore[arg-type]
    case.assert_alike(picture(61, 70, 3).double(), 1e-10)


def test_nothing_is_asked_of_the_encoder_but_crops() -> None:
    sizes = []
    eyes = encoder("zeros, max")

    def encode(x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        sizes.append(max(x.shape[2:]))
        return eyes(x, layers)  # type: ignore[no-any-return]

    objective = terms(Gram())()
    blocks = BlockwiseObjective(eyes, encode, objective, 32)
    blocks.compute_targets(objective[0], [picture(400, 300, 1)])
    blocks(picture(300, 400, 2))
    assert max(sizes) <= 32 + 4 + 2 * 24


def test_a_value_without_a_gradient_is_the_same() -> None:
    case = Case(terms(FeatureReconstruction()), encoder("zeros, max"), {"style": [picture(75, 83, 2)]}, 24)
    canvas = picture(75, 83, 1)
    without, with_gradient = (case.blocks(canvas, gradient=g)[0] for g in (False, True))
    assert torch.equal(case.total(without), case.total(with_gradient))


def test_pictures_of_another_size_have_no_positions_to_compare() -> None:
    case = Case(terms(FeatureReconstruction()), encoder("zeros, max"), {"style": [picture(75, 83, 2)]}, 24)
    with pytest.raises(ValueError, match="needs one size"):
        case.blocks(picture(75, 80, 1))


def test_losses_of_patches_cannot_be_computed_in_blocks() -> None:
    from nstbench.blockwise.contributions import block_mode

    assert block_mode(Term("style/mrf", MRF(), {"relu1_1": 1.0}, 1.0), "relu1_1") == "impossible"
    assert block_mode(Term("style/mrf", MRF(), {CANVAS: 1.0}, 1.0), CANVAS) == "pixels"


@pytest.mark.parametrize("loss", [MRF(), Contextual(), NearestNeighbor(), RelaxedEMD()], ids=str)
def test_a_term_that_blocks_cannot_compute_is_refused_by_name_and_not_counted_as_0(
    loss: Formulation,  # type: ignore[type-arg]
) -> None:
    eyes = encoder("zeros, max")
    refused = pytest.raises(
        ValueError, match=rf"style/it \({type(loss).__name__} of .*cannot be computed in blocks"
    )
    with refused:
        BlockwiseObjective(eyes, eyes, terms(loss)(), 32)
    objective = terms(Gram())()
    blocks = BlockwiseObjective(eyes, eyes, objective, 32)
    blocks.compute_targets(objective[0], [picture(60, 60, 1)])
    with refused:
        blocks.compute_targets(terms(loss)()[0], [picture(60, 60, 1)])
    with refused:
        blocks.measured(terms(loss)(), picture(60, 60, 2))
    objective.append(terms(loss)()[0])
    with refused:
        blocks(picture(60, 60, 2))


def test_a_term_without_a_position_that_counts_is_refused_by_name() -> None:
    nowhere = {"relu1_1": torch.zeros(1, 1, 60, 60)}
    guides = {"sky": Guides(nowhere, [nowhere])}
    term = Term("style/it", Gram(), {"relu1_1": 1.0}, 1.0, regions=[Region("sky", 1.0)])
    eyes = encoder("zeros, max")
    blocks = BlockwiseObjective(eyes, eyes, [term], 32)
    with pytest.raises(ValueError, match=r"style/it: no position .* has a weight above 0 for relu1_1@sky"):
        blocks.compute_targets(term, [picture(60, 60, 1)], guides=guides)
