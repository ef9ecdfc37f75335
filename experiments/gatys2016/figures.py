"""The figures of Gatys, Ecker & Bethge 2016, from run records.

python experiments/gatys2016/figures.py outputs
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from nstbench.analysis.panels import Panel, Panels, draw, inputs, main, styles_above_results

PAPER = "Gatys et al. 2016"


def fig1(panels: Panels) -> Image.Image:
    """What each depth keeps: of the content above, of the style below."""
    cells = []
    for what in ("content", "style"):
        cells += inputs(panels, what)
        for label, panel in panels.items():
            if label.startswith(what):
                layers = panel.settings[what] if what == "style" else [panel.settings[what]]
                shown = layers[0] if len(layers) == 1 else f"{layers[0]} to {layers[-1]}"
                cells.append((f"{label[-1]}\n{shown}", panel.picture))
    return draw(f"{PAPER}, figure 1", panels, cells, columns=6)


def fig3(panels: Panels) -> Image.Image:
    """One photograph in five styles: the styles above, their pictures below."""
    return draw(f"{PAPER}, figure 3", panels, styles_above_results(panels), columns=6)


def in_a_row(figure: int, caption: Callable[[Panel], str], columns: int) -> Callable[[Panels], Image.Image]:
    """Return a figure of content, style and the panels, each under its caption."""

    def drawn(panels: Panels) -> Image.Image:
        cells = inputs(panels, "content", "style") + [(caption(p), p.picture) for p in panels.values()]
        return draw(f"{PAPER}, figure {figure}", panels, cells, columns=columns)

    return drawn


def _ratio(panel: Panel) -> str:
    return f"α/β = {panel.settings['ratio']:g}"


def _start(panel: Panel) -> str:
    start, seed = panel.settings["start"], panel.settings["seed"]
    return f"{panel.label}\nfrom {start}" + (f", seed {seed}" if start == "noise" else "")


FIGURES = {
    "fig1": fig1,
    "fig3": fig3,
    "fig4": in_a_row(4, _ratio, columns=6),
    "fig5": in_a_row(5, lambda p: f"content at {p.label}", columns=4),
    "fig6": in_a_row(6, _start, columns=4),
    "fig7": in_a_row(7, _ratio, columns=5),
}

if __name__ == "__main__":
    main(FIGURES, "gatys2016", Path(__file__).parent, sys.argv[1:])
