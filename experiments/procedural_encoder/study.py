"""The study behind docs/procedural_encoder.md: what does each choice of data and task bring?

python experiments/procedural_encoder/study.py outputs/procedural_encoder

Trains one encoder per variant as `nstbench train` does, all on as many pixels, then lets each of them
paint (`benchmarks/encoders.py`), judged by the encoder that ships and by one with random weights.
Writes accuracies.md, transfer/sheet.png and transfer/encoders.csv; done before is not done again.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir

from nstbench.config.files import conf_dir
from nstbench.config.resolvers import register_resolvers
from nstbench.training.train import Trained, train
from nstbench.training.validation import validate_training

ROOT = Path(__file__).parents[2]
PIXELS = 60e6  # of training pictures; the encoder that ships saw 2.9e9

_COMMON = ("bank.programs=64", "bank.pictures=24", "bank.size=160", "logger=[]", "record.progress=false")


def phases(*crops: int) -> str:
    """Return the setting ``phases`` with equally many pixels at each size of crop."""
    parts = []
    for crop in crops:
        batch = max(16, 128 * 48**2 // crop**2)
        steps = round(PIXELS / len(crops) / (batch * crop**2))
        parts.append(f"{{crop: {crop}, batch: {batch}, steps: {steps}}}")
    return f"phases=[{', '.join(parts)}]"


VARIANTS: dict[str, tuple[str, ...]] = {
    "all of it, briefly": (phases(48, 96),),
    "one texture a picture": (phases(48, 96), "textures=1"),
    "no colour histograms": (phases(48, 96), "tasks.histogram=0"),
    "no reconstruction": (phases(48, 96), "tasks.reconstruction=0"),
    "histograms and reconstruction only": (phases(48, 96), "tasks.texture=0"),
    "colours not turned": (phases(48, 96), "recolour=false"),
    "crops of 48 pixels only": (phases(48),),
    "crops of 128 pixels only": (phases(128),),
}


def trained(output: Path, overrides: tuple[str, ...]) -> Trained:
    """Train a variant, unless it is trained."""
    given = [*_COMMON, *overrides, f"output={output}", "study=variants"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return train(validate_training(compose("train", overrides=given)))


def main(output: Path) -> None:
    """Train, examine, paint."""
    register_resolvers()
    lines = ["| variant | crop | relu3_3 | relu4_3 | relu5_1 |", "|---|---|---|---|---|"]
    encoders = []
    for name, overrides in VARIANTS.items():
        print(name, flush=True)
        variant = trained(output, overrides)
        encoders.append(f"procedural,weights={variant.weights}")
        for exam in variant.accuracies:
            found = " | ".join(f"{100 * value:.0f} %" for value in exam.at.values())
            lines.append(f"| {name} | {exam.crop} | {found} |")
    (output / "accuracies.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    paint = ["--encoders", "random", "procedural", *encoders, "--canvases", "spectral", "--texture"]
    paint += ["--size", "192", "--steps", "100", "--contents", "sample:astronaut"]
    paint += ["--styles", "procedural:strokes", "procedural:mosaic", "--output", str(output / "transfer")]
    subprocess.run([sys.executable, "-m", "benchmarks.encoders", *paint], check=True, cwd=ROOT)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
