"""A small study with real pictures, curves, a failure and names that try to be HTML."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from synthetic_study import write_run

EVIL = "<img src=x onerror=alert(1)>.png"
COLOURS = {"gram": (200, 30, 30), "mrf": (30, 160, 30)}
PSNR = {"gram": (9.5, 10.5, 100.0), "mrf": (8.0, 12.0, 20.0)}


def picture(file: Path, colour: tuple[int, int, int], size: tuple[int, int] = (64, 48)) -> str:
    """Write a picture of nearly one colour; return its hash."""
    pixels = np.full((size[1], size[0], 3), colour, dtype=np.uint8)
    pixels[0] = 255
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_study(root: Path) -> Path:
    """Two formulations × three weights, a failed run and an interrupted one."""
    study, content, style = root / "colours", root / "inputs" / EVIL, root / "inputs" / "waves.png"
    inputs = {
        "content": picture(content, (250, 250, 0)),
        "style": [picture(style, (0, 0, 250))],
        "start": None,
        "weights": "w",
    }
    common = {"pictures": {"content": str(content), "style": str(style)}, "inputs": inputs}
    for loss, colour in COLOURS.items():
        for place, weight in enumerate((1.0, 10.0, 100.0)):
            metrics = {"ssim": 0.9 - 0.2 * place - (0.05 if loss == "mrf" else 0), "psnr": PSNR[loss][place]}
            metrics["gram_distance"] = 0.1 + 0.1 * (2 - place) + (0.01 if loss == "mrf" else 0)
            node = {"_target_": "nstbench.metrics.structure.PSNR"}
            folder = _run(study, metrics, loss, weight, common, {"metrics.psnr": node})
            picture(folder / "canvas.png", (colour[0], colour[1], 60 * place))
            lines = [f"{k},{k},0,{k / 4},{(2 + place) / (k + 1)},{1 / (k + 1)}" for k in range(150)]
            head = "evaluation,step,stage,seconds,loss/total,loss/style/x"
            (folder / "curves.csv").write_text("\n".join([head, *lines]) + "\n")
    error = "NonFiniteObjectiveError: the objective became <i>NaN</i>\nat step 7"
    failed = _run(study, {}, "gram", 1000.0, common, state="failed", error=error)
    (failed / "run.log").write_text("the last words of the log\n")
    _run(study, {}, "mrf", 1000.0, common, state="running")
    (study / "notes").mkdir()
    return study


def _run(
    study: Path,
    metrics: Mapping[str, float],
    loss: str,
    weight: float,
    common: Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Write a run under a short name, for the paths of its pictures are long."""
    overrides = [f"loss/style={loss}", f"weights.style={weight:g}"]
    folder = write_run(
        study, metrics, loss=loss, settings={"weights.style": weight, **(settings or {})},
        overrides=overrides, inputs=common["inputs"], **changes,
    )  # fmt: skip
    record = json.loads((folder / "run.json").read_text())
    record["config"]["pictures"].update(common["pictures"])
    record["run_id"] = f"{loss}-{weight:g}"
    (folder / "run.json").write_text(json.dumps(record))
    return folder.rename(study / record["run_id"])


def write_many(root: Path, runs: int) -> Path:
    """Write a study of many runs with long curves and pictures that compress badly."""
    study = root / "many"
    rng = np.random.default_rng(0)
    head = "evaluation,step,stage,seconds,loss/total,loss/content/a,loss/style/b,loss/regularizer/c"
    for number in range(runs):
        folder = write_run(study, {"ssim": number / runs, "gram_distance": 0.1}, seed=number)
        coarse = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).resize((512, 512))
        grain = rng.normal(0, 12, (512, 512, 1))
        pixels = (np.asarray(coarse) + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "canvas.png", compress_level=1)
        lines = [
            f"{k},{k},0,{k / 8},{9 / (k + 1)},{3 / (k + 1)},{5 / (k + 1)},{1 / (k + 1)}" for k in range(1000)
        ]
        (folder / "curves.csv").write_text("\n".join([head, *lines]) + "\n")
    return study
