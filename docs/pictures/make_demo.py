"""The picture at the top of the README, from the run that `make demo` leaves.

make demo && .venv/bin/python docs/pictures/make_demo.py
"""

from __future__ import annotations

from pathlib import Path

from nstbench.pictures.io import read_picture, write_png
from nstbench.pictures.sheet import contact_sheet
from nstbench.pictures.source import load
from nstbench.tracking.record import RunRecord


def main() -> None:
    """Write demo.png beside this file: content, style, canvas."""
    (folder,) = (p.parent for p in Path("outputs/demo").glob("*/run.json"))
    record = RunRecord.read(folder)
    assert record is not None
    pictures = record.config["pictures"]
    cells = [
        (name, load(name, setting="picture").pixels) for name in (pictures["content"], pictures["style"])
    ]
    label = f"nstbench run\n{record.config['size']} px, {record.steps} steps, procedural encoder"
    cells.append((label, read_picture(folder / "canvas.png")))
    write_png(Path(__file__).with_name("demo.png"), contact_sheet(cells, columns=3, cell=320))


if __name__ == "__main__":
    main()
