"""The figures after He, Wang & Hopcroft 2016, from run records.

python experiments/random_weights/figures.py outputs
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from nstbench.analysis.panels import Panels, draw, main

PAPER = "He et al. 2016"
ENCODERS = {
    "A": "random weights",
    "B": "random, each channel's deviation 1",
    "C": "trained",
}


def transfer(panels: Panels) -> Image.Image:
    """One pair, painted by every encoder."""
    return _figure("transfer", panels, ("content", "style"), columns=5)


def texture(panels: Panels) -> Image.Image:
    """One texture, synthesised by every encoder."""
    return _figure("texture", panels, ("style",), columns=4)


def _figure(title: str, panels: Panels, inputs: tuple[str, ...], columns: int) -> Image.Image:
    first = panels["A"]
    cells = [(f"{what}\n{first.named(what)}", first.input(what)) for what in inputs]
    cells += [(f"{label}: {ENCODERS[label]}", panel.picture) for label, panel in panels.items()]
    return draw(f"{PAPER}, {title}", panels, cells, columns=columns, cell=320)


FIGURES = {"transfer": transfer, "texture": texture}

if __name__ == "__main__":
    main(FIGURES, "random_weights", Path(__file__).parent, sys.argv[1:])
