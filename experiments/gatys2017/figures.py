"""The figures of Gatys et al. 2017, from run records.

python experiments/gatys2017/figures.py outputs
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.nn import functional

from nstbench.analysis.panels import Cell, Panel, Panels, draw, main
from nstbench.encoders.random import RandomVGG
from nstbench.losses.functional.gram import gram_matrix
from nstbench.pictures.resize import resize, shape_for
from nstbench.pictures.source import load

PAPER = "Gatys et al. 2017"


def inputs(panel: Panel) -> list[Cell]:
    """Return the content picture and the style picture of a panel."""
    return [(f"{what}\n{panel.named(what)}", panel.input(what)) for what in ("content", "style")]


def colour(panels: Panels) -> Image.Image:
    """The painting's colours, and the photograph's."""
    cells = inputs(panels["none"])
    cells += [(f"colour={label}", panel.picture) for label, panel in panels.items()]
    return draw(f"{PAPER}, colour", panels, cells, columns=3, cell=360)


def spatial(panels: Panels) -> Image.Image:
    """Two styles, and two parts of one, without guides and with them."""
    a, b, c, d = (panels[label] for label in "ABCD")
    first, second = (_masked(d, region, "style") for region in ("cup", "table"))
    cells = [
        (f"content\n{a.named('content')}", a.input("content")),
        *((f"style\n{s}", read(s)) for s in a.settings["style"]),
        ("A: both, blended\n" + near(a, a), a.picture),
        ("B: each in its region\n" + near(b, b), b.picture),
        ("guides of B and D", _masked(b, "cup", "content")),
        ("style of D for the cup", first),
        ("style of D for the table", second),
        ("C: the strokes, without guides\n" + near(c, d), c.picture),
        ("D: a part of them in each region\n" + near(d, d), d.picture),
    ]
    return draw(f"{PAPER}, spatial control", panels, cells, columns=5, cell=320)


def scale(panels: Panels) -> Image.Image:
    """One stage, coarse to fine, and the style picture at other sizes."""
    cells = inputs(panels["A"])
    cells += [
        ("A: one stage", panels["A"].picture),
        ("B: coarse to fine", panels["B"].picture),
        ("C: coarse to fine, style at half its size", panels["C"].picture),
        ("D: coarse to fine, style at twice its size", panels["D"].picture),
    ]
    return draw(f"{PAPER}, scale", panels, cells, columns=3, cell=448)


def read(source: str) -> Tensor:
    """Return the picture that a source stands for."""
    return load(source, setting="panels").pixels


def _masked(panel: Panel, region: str, whose: str) -> Tensor:
    """Return the content or style picture, white where the region is not."""
    settings = panel.settings
    guide = settings["guides"][region]
    picture = (
        panel.input("content") if whose == "content" else read(settings["style"][guide.get("picture", 0)])
    )
    mask = read(guide[whose])
    return picture * mask + (1 - mask)


def near(panel: Panel, guided: Panel) -> str:
    """Say of the cup and the table how far their Gram matrices are from those of either style.

    The distance is ``‖G - A‖ / ‖A‖``, a mean over layers, to eyes that no run optimised (a VGG-16 of half
    width with random weights). A style is what a region of ``guided`` has, or a picture of the panel's own.
    """
    said = []
    size = panel.record.config["schedule"]["stages"][-1]["size"]
    masks = {"cup": "sample:coffee/cup", "table": "sample:coffee/table"}
    styles = [(s, None) for s in panel.settings["style"]]
    if len(styles) == 1:
        styles = [(styles[0][0], guide["style"]) for guide in guided.settings["guides"].values()]
    for region, mask in masks.items():
        distances = [_distance(panel.picture, read(mask), read(s), m and read(m), size) for s, m in styles]
        said.append(f"{region} {distances[0]:.2f}, {distances[1]:.2f}")
    return "; ".join(said)


@cache
def judge() -> RandomVGG:
    """Return the encoder that distances are measured with."""
    return RandomVGG(shape="vgg16", width=0.5, seed=1000).requires_grad_(False).eval()


def _distance(picture: Tensor, mask: Tensor, style: Tensor, style_mask: Tensor | None, size: int) -> float:
    style = resize(style, shape_for(style.shape[2], style.shape[3], size, "long_edge"))
    grams, of_style = _gram_matrices(picture, mask), _gram_matrices(style, style_mask)
    distances = [float((G - A).norm() / A.norm()) for G, A in zip(grams, of_style, strict=True)]
    return sum(distances) / len(distances)


def _gram_matrices(picture: Tensor, mask: Tensor | None) -> list[Tensor]:
    """Return those of a region of a picture, at each layer."""
    grams = []
    for features in judge()(picture, judge().default_layers["style"]).values():
        shape = (features.shape[2], features.shape[3])
        guide = None if mask is None else functional.interpolate(mask[:, :1], shape, mode="area")
        grams.append(gram_matrix(features, guide))
    return grams


FIGURES = {"colour": colour, "spatial": spatial, "scale": scale}

if __name__ == "__main__":
    main(FIGURES, "gatys2017", Path(__file__).parent, sys.argv[1:])
