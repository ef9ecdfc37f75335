"""The figures of Gatys, Ecker & Bethge 2015, A Neural Algorithm of Artistic Style, from run records.

python experiments/gatys2015_arxiv/figures.py outputs
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from nstbench.analysis.panels import Panels, draw, main, styles_above_results

PAPER = "Gatys et al. 2015 (arXiv 1508.06576)"


def fig2(panels: Panels) -> Image.Image:
    """One photograph in five styles: the styles above, their pictures below."""
    return draw(f"{PAPER}, figure 2", panels, styles_above_results(panels), columns=6)


def fig3(panels: Panels) -> Image.Image:
    """Depth of the style from row to row, α/β from column to column."""
    cells = []
    for label, p in panels.items():
        layers = p.settings["layers"]
        shown = layers[0] if len(layers) == 1 else f"{layers[0]} to {layers[-1]}"
        cells.append((f"{label}: α/β = {p.settings['ratio']:g}\n{shown}", p.picture))
    return draw(f"{PAPER}, figure 3", panels, cells, columns=4)


if __name__ == "__main__":
    main({"fig2": fig2, "fig3": fig3}, "gatys2015_arxiv", Path(__file__).parent, sys.argv[1:])
