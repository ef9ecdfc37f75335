"""The figure and the table of the study, from what study.py left.

python experiments/procedural_encoder/figure.py outputs/procedural_encoder figure.png
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from PIL import Image
from study import VARIANTS

from nstbench.pictures.io import read_picture, write_png
from nstbench.pictures.sheet import contact_sheet


def main(output: Path, figure: Path) -> None:
    """Draw a row per encoder, and print a line of Markdown for each."""
    with (output / "transfer" / "encoders.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    encoders = list(dict.fromkeys(row["encoder"] for row in rows))
    names = dict(zip(encoders, ["random weights", "the encoder that ships", *VARIANTS], strict=True))
    cells = []
    print("| encoder | transfer: style by random | by shipped | texture: by random | by shipped |")
    print("|---|---|---|---|---|")
    for encoder, name in names.items():
        own = [row for row in rows if row["encoder"] == encoder]
        distances: dict[tuple[bool, str], list[float]] = defaultdict(list)
        for row in own:
            distances[bool(row["content"]), row["judge"]].append(float(row["style_distance"]))
        judges = [(transfer, judge) for transfer in (True, False) for judge in ("random", "procedural")]
        print(f"| {name} | " + " | ".join(f"{fmean(distances[key]):.2g}" for key in judges) + " |")
        for row in own:
            if row["judge"] == "random":
                picture = output / "transfer" / "runs" / row["run"] / "canvas.png"
                label = f"{name}\n{row['style'].removeprefix('procedural:')}"
                cells.append((label + ("" if row["content"] else ", from noise"), read_picture(picture)))
    write_png(figure, contact_sheet(cells, columns=4, cell=144))
    Image.open(figure).convert("RGB").quantize(256).save(figure, optimize=True)  # a third of the size


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
