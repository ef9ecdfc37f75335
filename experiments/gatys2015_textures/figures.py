"""The figure of Gatys, Ecker & Bethge 2015, Texture Synthesis, from run records.

python experiments/gatys2015_textures/figures.py outputs
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from nstbench.analysis.panels import Panels, draw, main


def textures(panels: Panels) -> Image.Image:
    """A row for each source: textures that match ever deeper layers, and the source."""
    cells = []
    for label, panel in panels.items():
        layers = panel.settings["layers"]
        cells.append((f"{layers[0]}" if len(layers) == 1 else f"… and {layers[-1]}", panel.picture))
        if label.endswith("_5"):
            cells.append((f"source\n{panel.named('style')}", panel.input("style")))
    return draw("Gatys et al. 2015, textures, figure 2", panels, cells, columns=6)


if __name__ == "__main__":
    main({"gatys2015_textures": textures}, "gatys2015_textures", Path(__file__).parent, sys.argv[1:])
