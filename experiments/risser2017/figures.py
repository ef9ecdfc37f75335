"""The figure of Risser, Wilmot & Barnes 2017, from run records.

python experiments/risser2017/figures.py outputs
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from nstbench.analysis.panels import Cell, Panels, draw, main


def textures(panels: Panels) -> Image.Image:
    """Each texture by Gram matrices alone, and with histograms beside them."""
    cells: list[Cell] = []
    for alone, both in zip(panels, list(panels)[1:], strict=False):
        if alone.endswith("_gram"):
            first = panels[alone]
            cells.append((f"texture\n{first.named('style')}", first.input("style")))
            cells += [("Gram matrices", first.picture), ("and histograms", panels[both].picture)]
    return draw("Risser et al. 2017, textures", panels, cells, columns=3, cell=320)


if __name__ == "__main__":
    main({"risser2017": textures}, "risser2017", Path(__file__).parent, sys.argv[1:])
