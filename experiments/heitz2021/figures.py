"""The figure of Heitz et al. 2021, from run records.

python experiments/heitz2021/figures.py outputs
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from nstbench.analysis.panels import Cell, Panels, draw, main


def textures(panels: Panels) -> Image.Image:
    """Each texture by Gram matrices, and by sliced Wasserstein distances."""
    cells: list[Cell] = []
    for gram, sliced in zip(panels, list(panels)[1:], strict=False):
        if gram.endswith("_gram"):
            first = panels[gram]
            cells.append((f"texture\n{first.named('style')}", first.input("style")))
            cells += [("Gram matrices", first.picture), ("sliced Wasserstein", panels[sliced].picture)]
    return draw("Heitz et al. 2021, textures", panels, cells, columns=3, cell=320)


if __name__ == "__main__":
    main({"heitz2021": textures}, "heitz2021", Path(__file__).parent, sys.argv[1:])
