"""The pictures of docs/controls.md, from the runs that it shows; about six minutes on two cores.

python docs/pictures/make_controls.py
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from nstbench.pictures.io import read_picture, to_image
from nstbench.pictures.sheet import contact_sheet
from nstbench.pictures.source import load

HERE = Path(__file__).parent
RUN = "run study=controls metrics=fast logger=none"
GUIDED = (
    "content=sample:coffee 'style=[procedural:mosaic,procedural:strokes]'"
    " pictures.guides.cup.content=cup.png pictures.guides.cup.picture=0"
    " pictures.guides.table.content=table.png pictures.guides.table.picture=1"
)
GUIDES = {
    "blended, no guides": "content=sample:coffee 'style=[procedural:mosaic,procedural:strokes]'",
    "simple": GUIDED,
    "inside, to relu4_1": f"{GUIDED} pictures.guide_propagation=inside"
    " 'layers.style=[relu1_1,relu2_1,relu3_1,relu4_1]'",
    "all": f"{GUIDED} pictures.guide_propagation=all",
}
COLOURS = {
    option: f"content=sample:astronaut style=procedural:strokes size=192 colour={option}"
    for option in ("none", "luminance", "histogram", "cholesky", "pca", "symmetric")
}


def draw_masks() -> None:
    """Write cup.png and table.png: the cup of sample:coffee, roughly, and all else."""
    cup = Image.new("L", (600, 400), 0)
    draw = ImageDraw.Draw(cup)
    draw.ellipse((75, 56, 480, 388), fill=255)
    draw.ellipse((172, 18, 410, 200), fill=255)
    draw.polygon([(400, 64), (420, 62), (426, 84), (408, 180)], fill=255)
    cup.save("cup.png")
    ImageOps.invert(cup).save("table.png")


def main() -> None:
    """Run what is not there yet, and write controls_guides.jpg and controls_colours.jpg."""
    draw_masks()
    coffee = {"content": "sample:coffee", "guide of the cup": "cup.png"}
    coffee |= {"mosaic": "procedural:mosaic", "strokes": "procedural:strokes"}
    astronaut = {"content": "sample:astronaut", "style": "procedural:strokes"}
    for name, inputs, runs in (("guides", coffee, GUIDES), ("colours", astronaut, COLOURS)):
        cells = [(label, load(source, setting="picture").pixels) for label, source in inputs.items()]
        for label, command in runs.items():
            typed = [sys.executable, "-m", "nstbench", *shlex.split(f"{RUN} {command}")]
            said = subprocess.run(typed, check=True, capture_output=True, text=True).stdout
            (written,) = (line.split()[1] for line in said.splitlines() if line.startswith("picture "))
            cells.append((label, read_picture(written)))
        sheet = to_image(contact_sheet(cells, columns=4, cell=250))
        sheet.save(HERE / f"controls_{name}.jpg", quality=82, optimize=True)


if __name__ == "__main__":
    main()
