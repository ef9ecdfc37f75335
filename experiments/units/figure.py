"""The figure of the study: one row per unit, one column per normalisation, from the run records.

python experiments/units/figure.py outputs/units experiments/units/figure.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from nstbench.pictures.io import read_picture, write_png
from nstbench.pictures.sheet import contact_sheet
from nstbench.tracking.record import RunRecord

UNITS = ("paper", "unit", "gradient")
NORMALIZATIONS = ("paper", "authors", "pystiche", "gordicaleksa", "unnormalized")


def main(study: Path, figure: Path) -> None:
    """Write the grid and print its numbers as a Markdown table."""
    found = {}
    for folder in study.iterdir():
        record = RunRecord.read(folder)
        if record is not None and record.state == "completed":
            config = record.config
            found[config["weights"]["unit"], config["loss"]["style"]["gram"]["normalization"]] = (
                record,
                folder,
            )
    cells = []
    print("| unit | " + " | ".join(NORMALIZATIONS) + " |\n|---|" + "---|" * len(NORMALIZATIONS))
    for unit in UNITS:
        row = [found[unit, normalization] for normalization in NORMALIZATIONS]
        values = [f"{record.metrics['colour_distance']:.2f}" for record, _ in row]
        print(f"| `{unit}` | " + " | ".join(values) + " |")
        for normalization, value, (_, folder) in zip(NORMALIZATIONS, values, row, strict=True):
            label = f"{unit}: {normalization}\ncolour distance {value}"
            cells.append((label, read_picture(folder / "canvas.png")))
    write_png(figure, contact_sheet(cells, columns=len(NORMALIZATIONS), cell=192))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
