"""The figure of Li & Wand 2016, from run records.

python experiments/li_wand2016/figures.py outputs
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from nstbench.analysis.panels import Panels, draw, main


def portrait(panels: Panels) -> Image.Image:
    """The portrait by Gram matrices and by patches."""
    first = panels["Gram"]
    cells = [(f"{what}\n{first.named(what)}", first.input(what)) for what in ("content", "style")]
    cells += [("Gram matrices", panels["Gram"].picture), ("patches (MRF)", panels["MRF"].picture)]
    return draw("Li & Wand 2016, figure 6", panels, cells, columns=4, cell=360)


if __name__ == "__main__":
    main({"li_wand2016": portrait}, "li_wand2016", Path(__file__).parent, sys.argv[1:])
