"""docs/units.md: every foreign formula, written out in NumPy, against nstbench's objective as it says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from nstbench.config.schema import Config
from nstbench.encoders.build import build_encoder
from nstbench.objective.build import build_terms
from nstbench.objective.objective import Objective

Array = np.ndarray[Any, np.dtype[np.float64]]
DOC = (Path(__file__).resolve().parents[2] / "docs" / "units.md").read_text(encoding="utf-8")
ENCODER = ["encoder=random", "encoder.width=0.0625", "encoder.shape=vgg19", "weights.unit=paper"]


class Maps(NamedTuple):
    """Feature maps as ``(N, h, w)``: of canvas and content picture at one layer, of canvas and style at L."""

    F: Array
    P: Array
    styles: list[tuple[Array, Array]]


def flat(x: Array) -> Array:
    return x.reshape(len(x), -1)


def gram(x: Array) -> Array:
    return flat(x) @ flat(x).T


def positions(x: Array) -> int:
    return x[0].size


def mse(x: Array, y: Array) -> float:
    return float(((x - y) ** 2).sum() / x.size)


def printed_style(F: Array, A: Array) -> float:
    N, M = len(F), positions(F)
    return float(((gram(F) - gram(A)) ** 2).sum() / (4 * N**2 * M**2))


def over_positions(x: Array) -> Array:
    return gram(x) / positions(x)


def over_values(x: Array) -> Array:
    return gram(x) / x.size


def as_printed(m: Maps) -> float:
    return 1e-3 * 0.5 * ((m.F - m.P) ** 2).sum() + sum(printed_style(F, A) / 5 for F, A in m.styles)


def as_meant(m: Maps) -> float:
    style = sum(mse(over_positions(F), over_positions(A)) / 5 for F, A in m.styles)
    return 1e-3 * mse(m.F, m.P) + style


def authors(m: Maps) -> float:
    weights = [1e3 / len(F) ** 2 for F, _ in m.styles]
    values = [mse(over_positions(F), over_positions(A)) for F, A in m.styles]
    return mse(m.F, m.P) + float(np.dot(weights, values))


def authors_normalized(m: Maps) -> float:
    sw = 1e9 / len(m.styles)
    return 1e6 * mse(m.F, m.P) + sum(sw * mse(over_positions(F), over_positions(A)) for F, A in m.styles)


def deep_textures(m: Maps) -> float:
    total = 0.0
    for F, A in m.styles:
        difference = gram(F) / positions(F) - gram(A) / positions(A)
        total += 1e9 / 4 * (difference**2).sum() / len(F) ** 2
    return total


def neural_style(m: Maps, content: float = 5, style: float = 100) -> float:
    return content * mse(m.F, m.P) + sum(style * mse(over_values(F), over_values(A)) for F, A in m.styles)


def neural_style_tf(m: Maps) -> float:
    K = 1 / (2 * len(m.F) ** 0.5 * positions(m.F) ** 0.5)
    style = sum(printed_style(F, A) * 0.2 for F, A in m.styles) / len(m.styles)
    return 5 * K * ((m.F - m.P) ** 2).sum() + 1e4 * style


def pystiche(m: Maps) -> float:
    style = np.mean([mse(over_positions(F), over_positions(A)) for F, A in m.styles])
    return mse(m.F, m.P) + 1e3 * float(style)


def pystiche_papers(m: Maps) -> float:
    style = np.mean([mse(over_positions(F), over_positions(A)) for F, A in m.styles])
    return 0.5 * ((m.F - m.P) ** 2).sum() + 1e3 * 0.25 * float(style)


def gordicaleksa(m: Maps) -> float:
    style = sum(((over_values(F) - over_values(A)) ** 2).sum() for F, A in m.styles) / len(m.styles)
    return 1e5 * mse(m.F, m.P) + 3e4 * float(style)


def risser(m: Maps) -> float:
    return sum(mse(gram(F), gram(A)) for F, A in m.styles)


FOREIGN: dict[str, Callable[[Maps], float]] = {
    "Gatys et al. 2016, as printed": as_printed,
    "Gatys et al. 2016, as α/β is meant": as_meant,
    "the authors, plain network": authors,
    "the authors, normalised network": authors_normalized,
    "DeepTextures": deep_textures,
    "neural-style, neural-style-pt": neural_style,
    "neural-style-tf": neural_style_tf,
    "Johnson et al., code": lambda m: neural_style(m, 1, 5),
    "PyTorch's example": lambda m: neural_style(m, 1e5, 1e10),
    "pystiche": pystiche,
    "pystiche_papers, as in the paper": pystiche_papers,
    "pytorch-neural-style-transfer": gordicaleksa,
    "Risser et al., code (Gram part)": risser,
}


class Row(NamedTuple):
    typed: list[str]
    alpha: str
    beta: str


def rows() -> dict[str, Row]:
    """Return the lines of the doc's first table: what to type, α and β_l."""
    found = {}
    for line in DOC.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[2].startswith("`"):
            typed, alpha, beta = (cell.strip("`") for cell in cells[2:])
            found[cells[0]] = Row(shlex.split(typed), alpha, beta)
    return found


ROWS = rows()


def evaluated(expression: str, x: Array, layers: int) -> float:
    assert re.fullmatch(r"[\dNMLe+.*/()-]+", expression)
    names = {"N": len(x), "M": positions(x), "L": layers}
    return float(eval(expression, {"__builtins__": {}}, names))


def in_papers_units(row: Row, m: Maps) -> float:
    layers = len(m.styles)
    content = evaluated(row.alpha, m.F, layers) * 0.5 * ((m.F - m.P) ** 2).sum()
    return float(content) + sum(evaluated(row.beta, F, layers) * printed_style(F, A) for F, A in m.styles)


def objective_of(config: Config, maps: Mapping[str, Mapping[str, torch.Tensor]]) -> float:
    """Return nstbench's objective of a configuration, for given feature maps of canvas, content and style."""
    terms = build_terms(config, build_encoder(config.encoder))
    for term in terms:
        term.compute_targets([[maps[term.role]]])
    return float(Objective([terms])(maps["canvas"], torch.zeros(1, 3, 1, 1))[0])


def layers_of(config: Config) -> tuple[str, list[str]]:
    """Return the content layer and the style layers."""
    content, style = config.layers.content, config.layers.style
    if content == "default" or style == "default":
        return "relu4_2", [f"relu{block}_1" for block in range(1, 6)]
    return content[0], list(style)


def random_maps(config: Config, seed: int = 0) -> tuple[Maps, dict[str, dict[str, torch.Tensor]]]:
    """Return random feature maps: for the formulas above, and for the objective of a configuration."""
    content, styles = layers_of(config)
    random = np.random.default_rng(seed)
    maps: dict[str, dict[str, torch.Tensor]] = {"canvas": {}, "content": {}, "style": {}}
    for i, layer in enumerate(dict.fromkeys([*styles, content])):
        shape = (3 + 2 * i, 9 - i, 7 - i)  # every layer has its own N and M
        for role in maps:
            maps[role][layer] = torch.from_numpy(random.random((1, *shape)) * (1 + i))
    of = {role: {layer: x[0].numpy() for layer, x in by.items()} for role, by in maps.items()}
    pairs = [(of["canvas"][layer], of["style"][layer]) for layer in styles]
    return Maps(of["canvas"][content], of["content"][content], pairs), maps


@pytest.fixture
def compose_row(compose_config: Callable[..., Config]) -> Callable[[str], Config]:
    return lambda name: compose_config(*ENCODER, "loss/regularizer=none", *ROWS[name].typed)


def test_the_table_and_the_formulas_are_about_the_same_implementations() -> None:
    assert list(ROWS) == list(FOREIGN)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_formula_is_our_objective_as_typed(name: str, compose_row: Callable[[str], Config]) -> None:
    config = compose_row(name)
    m, maps = random_maps(config)
    foreign = FOREIGN[name](m)
    assert foreign > 0
    assert objective_of(config, maps) == pytest.approx(foreign, rel=1e-6)


@pytest.mark.parametrize("name", FOREIGN)
def test_alpha_and_beta_convert_it_to_the_papers_units(
    name: str, compose_row: Callable[[str], Config], compose_config: Callable[..., Config]
) -> None:
    """By hand, and by typing the paper's formulas with these weights."""
    row, config = ROWS[name], compose_row(name)
    m, maps = random_maps(config, seed=1)
    foreign = FOREIGN[name](m)
    assert in_papers_units(row, m) == pytest.approx(foreign, rel=1e-6)
    betas = [evaluated(row.beta, F, len(m.styles)) for F, _ in m.styles]
    content, styles = layers_of(config)
    typed = [
        *("formulas.content=paper", "formulas.gram=paper", "weights.style=1"),
        f"weights.content={evaluated(row.alpha, m.F, len(m.styles))!r}",
        f"loss.style.gram.layer_weights={betas}".replace(" ", ""),
        f"layers.content=[{content}]",
        f"layers.style=[{','.join(styles)}]",
    ]
    converted = compose_config(*ENCODER, "loss/regularizer=none", *typed)
    assert objective_of(converted, maps) == pytest.approx(foreign, rel=1e-6)


@pytest.mark.parametrize("name", ["the authors, plain network", "neural-style, neural-style-pt", "pystiche"])
def test_pictures_of_two_sizes_are_each_divided_by_their_own(
    name: str, compose_row: Callable[[str], Config]
) -> None:
    """These codes divide every Gram matrix by its own number of positions, as ours does throughout."""
    config = compose_row(name)
    m, maps = random_maps(config)
    cut = [(F, A[:, :-1, :-2]) for F, A in m.styles]
    maps["style"] = {layer: x[..., :-1, :-2].contiguous() for layer, x in maps["style"].items()}
    assert objective_of(config, maps) == pytest.approx(FOREIGN[name](m._replace(styles=cut)), rel=1e-6)


def test_what_the_page_says_of_factors_between_codes() -> None:
    """Its first paragraph, and the factor 50 between neural-style's and the authors' defaults."""
    for N, factor in ((64, 819), (512, 52429)):
        x = np.zeros((N, 20, 30))
        weight_1 = [evaluated(beta, x, 5) for beta in ("4/L", "4/N**2")]
        assert round(weight_1[0] / weight_1[1]) == factor
        assert f"{factor}" in DOC.partition("## The formulas")[0]
    authors, neural_style = ROWS["the authors, plain network"], ROWS["neural-style, neural-style-pt"]
    x = np.zeros((128, 20, 30))
    share = [evaluated(row.beta, x, 5) / evaluated(row.alpha, x, 5) for row in (authors, neural_style)]
    assert share[0] / share[1] == pytest.approx(50)
    assert "gives style 50 times more" in DOC


# -------------------------------------------------------------------------- the α/β of the paper


class Found(NamedTuple):
    """The objective of random pictures: what each role adds, its gradient, N·M of the content layer."""

    content: float
    style: float
    gradient: torch.Tensor
    size: int

    @property
    def total(self) -> float:
        return self.content + self.style


def found(config: Config) -> Found:
    encoder = build_encoder(config.encoder)
    random = torch.Generator().manual_seed(3)
    canvas, *others = (torch.rand(1, 3, 48, 40, generator=random) for _ in range(3))
    terms = build_terms(config, encoder)
    objective = Objective([terms])
    for term in terms:
        picture = others[term.role == "style"]
        term.compute_targets([[encoder(picture, objective.layers)]])
    canvas.requires_grad_()
    features = encoder(canvas, objective.layers)
    total, pending = objective(features, canvas)
    (values,) = pending.read()
    (gradient,) = torch.autograd.grad(total.sum(), canvas)
    roles = (values.weighted[name] for name in ("content/features", "style/gram"))
    return Found(*roles, gradient, features[layers_of(config)[0]][0].numel())


def assert_one_objective(one: Found, other: Found, factor: float) -> None:
    """Check that both roles, their sum and its gradient differ by one factor, to 1e-5."""
    assert one.content == pytest.approx(factor * other.content, rel=1e-5)
    assert one.style == pytest.approx(factor * other.style, rel=1e-5)
    assert one.total == pytest.approx(factor * other.total, rel=1e-5)
    assert (one.gradient - factor * other.gradient).norm() < 1e-5 * one.gradient.norm()


AUTHORS = ["encoder=procedural", "recipe=gatys2016/authors_normalized"]
PRINTED = ["formulas.content=paper", "formulas.gram=paper", "weights.style=1"]


def test_the_authors_weights_are_the_papers_ratio_of_means(compose_config: Callable[..., Config]) -> None:
    """1e6 : 1e9 on means = 1e9 × (α/β = 1e-3 on means), with a normalised network."""
    code = compose_config(*AUTHORS, tiny=False)
    paper = compose_config("encoder=procedural", "recipe=gatys2016/paper", "encoder.pooling=max", tiny=False)
    assert code.encoder == paper.encoder
    assert code.encoder["normalize_activations"] is True
    assert_one_objective(found(code), found(paper), 1e9)


def test_the_authors_weights_are_another_ratio_in_the_printed_equations(
    compose_config: Callable[..., Config],
) -> None:
    """1e6 : 1e9 on means = 4e9 × (α/β = 5e-4/(N·M) on ½Σ and 1/(4N²M²)); 1e-3 is 2·N·M times too much."""
    one = found(compose_config(*AUTHORS, tiny=False))
    ratio = f"weights.content={5e-4 / one.size!r}"
    assert_one_objective(one, found(compose_config(*AUTHORS, *PRINTED, ratio, tiny=False)), 4e9)
    naive = found(compose_config(*AUTHORS, *PRINTED, "weights.content=1e-3", tiny=False))
    assert naive.style / naive.content * 2 * one.size == pytest.approx(one.style / one.content, rel=1e-5)


def test_with_the_printed_style_alone_the_ratio_is_a_quarter(compose_config: Callable[..., Config]) -> None:
    half = ["formulas.gram=paper", "weights.content=2.5e-4", "weights.style=1"]
    one = found(compose_config(*AUTHORS, tiny=False))
    assert_one_objective(one, found(compose_config(*AUTHORS, *half, tiny=False)), 4e9)


def test_the_numbers_of_the_page_for_512_pixels() -> None:
    size = 512 * (512 // 8) ** 2
    assert f"N·M = {size}" in DOC
    assert f"α/β = {5e-4 / size:.3e}" in DOC
    assert f"weights.content={5e-4 / size!r}" in DOC
    assert f"content {1e-3 / (5e-4 / size):.0f} times more" in DOC
