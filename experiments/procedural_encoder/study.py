"""The study behind docs/procedural_encoder.md: what does each choice of data and task bring?

python experiments/procedural_encoder/study.py outputs/procedural_encoder

Trains one encoder per variant with `nstbench train`, all on as many pixels, then lets each of them
paint (`benchmarks/encoders.py`), judged by the encoder that ships and by one with random weights.
Writes accuracies.md, transfer/sheet.png and transfer/encoders.csv; done before is not done again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PIXELS = 150e6  # of training pictures; the encoder that ships saw 2.5e9

_COMMON = ("bank.programs=128", "bank.pictures=24", "bank.size=160", "logger=[]", "record.progress=false")


def phases(*crops: int) -> str:
    """Return the setting ``phases`` with equally many pixels at each size of crop."""
    parts = []
    for crop in crops:
        batch = max(16, 128 * 48**2 // crop**2)
        steps = round(PIXELS / len(crops) / (batch * crop**2))
        parts.append(f"{{crop: {crop}, batch: {batch}, steps: {steps}}}")
    return f"phases=[{', '.join(parts)}]"


VARIANTS: dict[str, tuple[str, ...]] = {
    "as shipped": (phases(48, 96),),
    "one texture a picture": (phases(48, 96), "textures=1"),
    "no colour histograms": (phases(48, 96), "tasks.histogram=0"),
    "no reconstruction": (phases(48, 96), "tasks.reconstruction=0"),
    "histograms and reconstruction only": (phases(48, 96), "tasks.texture=0"),
    "colours not turned": (phases(48, 96), "recolour=false"),
    "crops of 48 pixels only": (phases(48),),
    "crops of 128 pixels only": (phases(128),),
}


def train(output: Path, name: str, overrides: tuple[str, ...]) -> Path:
    """Train a variant, unless it is trained; return its folder."""
    study = name.replace(" ", "_")
    given = [*_COMMON, *overrides, f"output={output}", f"study={study}"]
    subprocess.run([sys.executable, "-m", "nstbench", "train", *given], check=True)
    (folder,) = (record.parent for record in (output / study).glob("*/training.json"))
    return folder


def main(output: Path) -> None:
    """Train, examine, paint."""
    lines = ["| variant | crop | relu3_3 | relu4_3 | relu5_1 |", "|---|---|---|---|---|"]
    encoders = []
    for name, overrides in VARIANTS.items():
        folder = train(output, name, overrides)
        encoders.append(f"procedural,weights={folder / 'encoder.safetensors'}")
        for exam in json.loads((folder / "training.json").read_text(encoding="utf-8"))["accuracies"]:
            found = " | ".join(f"{100 * value:.0f} %" for value in exam["at"].values())
            lines.append(f"| {name} | {exam['crop']} | {found} |")
    (output / "accuracies.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    paint = ["--encoders", "random", "procedural", *encoders, "--canvases", "spectral", "--texture"]
    paint += ["--size", "192", "--steps", "100", "--contents", "sample:astronaut"]
    paint += ["--styles", "procedural:strokes", "procedural:mosaic", "--output", str(output / "transfer")]
    subprocess.run([sys.executable, str(ROOT / "benchmarks" / "encoders.py"), *paint], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
