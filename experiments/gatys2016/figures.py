"""The figures of Gatys et al. 2016, from run records.

python experiments/gatys2016/figures.py outputs
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from nstbench.analysis.panels import Panels, draw, main

PAPER = "Gatys et al. 2016"


def fig3(panels: Panels) -> Image.Image:
    """One photograph in five styles: the styles above, their pictures below."""
    first = panels["B"]
    cells = [(f"A\n{first.named('content')}", first.input("content"))]
    cells += [(f"style of {label}\n{p.named('style')}", p.input("style")) for label, p in panels.items()]
    cells.append(("", first.input("content")))
    cells += [(f"{label}\nα/β = {p.settings['ratio']:g}", p.picture) for label, p in panels.items()]
    return draw(f"{PAPER}, figure 3", panels, cells, columns=6)


def fig4(panels: Panels) -> Image.Image:
    """From style to content."""
    first = next(iter(panels.values()))
    cells = [(f"{what}\n{first.named(what)}", first.input(what)) for what in ("content", "style")]
    cells += [(f"α/β = {p.settings['ratio']:g}", p.picture) for p in panels.values()]
    return draw(f"{PAPER}, figure 4", panels, cells, columns=6)


FIGURES = {"fig3": fig3, "fig4": fig4}

if __name__ == "__main__":
    main(FIGURES, "gatys2016", Path(__file__).parent, sys.argv[1:])
