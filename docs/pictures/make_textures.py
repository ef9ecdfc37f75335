"""The picture of docs/procedural_encoder.md: the first textures that the encoder is trained on.

python docs/pictures/make_textures.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from nstbench.training.textures import texture

COLUMNS, ROWS, SIDE = 12, 4, 96


def main(target: Path) -> None:
    """Draw them at twice the size they are shown in."""
    pictures = [texture(n).picture((0, n, 0), 2 * SIDE) for n in range(COLUMNS * ROWS)]
    rows = [np.concatenate(pictures[r * COLUMNS : (r + 1) * COLUMNS], axis=1) for r in range(ROWS)]
    sheet = Image.fromarray(np.concatenate(rows, axis=0))
    small = sheet.resize((COLUMNS * SIDE, ROWS * SIDE), Image.Resampling.LANCZOS)
    small.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(target, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("textures.png"))
