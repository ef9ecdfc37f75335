"""The figure of Kolkin et al. 2019, from run records.

python experiments/kolkin2019/figures.py outputs
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from nstbench.analysis.panels import Panels, draw, main


def weights(panels: Panels) -> Image.Image:
    """One pair, from much style to much content."""
    first = next(iter(panels.values()))
    cells = [(f"{what}\n{first.named(what)}", first.input(what)) for what in ("content", "style")]
    cells += [(f"{label}\nα = {p.settings['alpha']:g}", p.picture) for label, p in panels.items()]
    return draw("Kolkin et al. 2019, α", panels, cells, columns=3, cell=360)


if __name__ == "__main__":
    main({"kolkin2019": weights}, "kolkin2019", Path(__file__).parent, sys.argv[1:])
