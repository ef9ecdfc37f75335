"""The sheet and the table of the study, from run records.

python experiments/distilled_encoder/figure.py outputs/distilled_encoder sheet.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean

from nstbench.pictures.io import read_picture, to_image
from nstbench.pictures.sheet import contact_sheet
from nstbench.pictures.source import load
from nstbench.tracking.record import RunRecord

ENCODERS = {"shipped": "procedural", "distilled": "distilled", "vgg16_hed": "vgg16_hed"}
METRICS = {"gram_distance": "Gram distance ↓", "content_distance": "content distance ↓", "ssim": "SSIM ↑"}


def main(study: Path, sheet: Path) -> None:
    """Draw a row for each pair of pictures, and print a line of Markdown for each encoder."""
    found: dict[tuple[str, str], dict[str, tuple[Path, RunRecord]]] = {}
    for folder in sorted(study.iterdir()):
        record = RunRecord.read(folder)
        if record is not None and record.state == "completed":
            pictures, weights = record.config["pictures"], str(record.config["encoder"].get("weights"))
            found.setdefault((pictures["content"], pictures["style"]), {})[weights] = folder, record
    cells = []
    for (content, style), runs in found.items():
        cells += [(source, load(source, setting="pictures").pixels) for source in (content, style)]
        cells += [(name, read_picture(runs[key][0] / "canvas.png")) for key, name in ENCODERS.items()]
    drawn = to_image(contact_sheet(cells, columns=5, cell=256))
    drawn.convert("RGB").save(sheet, quality=88, optimize=True)
    print(f"| `encoder=` | {' | '.join(METRICS.values())} |")
    print("|---|" + "---:|" * len(METRICS))
    for key, name in ENCODERS.items():
        means = [fmean(runs[key][1].metrics[metric] for runs in found.values()) for metric in METRICS]
        print(f"| `{name}` | " + " | ".join(f"{mean:.2f}" for mean in means) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
