"""Studies that nobody ran: folders of run records with chosen numbers."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PNG = b"\x89PNG\r\n\x1a\n...\0\0\0\0IEND\xaeB`\x82"
"""Both ends of a picture."""

_CONFIG: dict[str, Any] = {
    "pictures": {
        "content": "",
        "style": "",
        "style_weights": None,
        "size_is": "long_edge",
        "max_pixels": 1e8,
    },
    "encoder": {"_target_": "nstbench.encoders.procedural.encoder.ProceduralVGG", "weights": "shipped"},
    "layers": {"content": "default", "style": "default"},
    "loss": {
        "content": {"features": {"_target_": "nstbench.losses.content.FeatureReconstruction", "weight": 1.0}},
        "style": {},
        "regularizer": {"tv": {"_target_": "nstbench.losses.total_variation.TotalVariation", "weight": 1.0}},
    },
    "canvas": {"start": "content", "noise": "uniform", "noise_share": 0.1},
    "optimizer": {"_target_": "torch.optim.LBFGS", "_partial_": True, "lr": 1.0, "history_size": 10},
    "schedule": {"precision": "fp32", "stages": [{"size": 128, "steps": 100, "precision": "fp32"}]},
    "metrics": {
        "ssim": {"_target_": "nstbench.metrics.structure.SSIM"},
        "gram_distance": {"_target_": "nstbench.metrics.style.GramDistance", "layers": "default"},
        "cross": {"_target_": "nstbench.metrics.cross.CrossEvaluation", "seed": 0},
    },
    "logger": {},
    "trainer": {"accelerator": "auto", "threads": None},
    "study": "synthetic",
    "output": "outputs",
    "seed": 0,
    "size": 128,
    "steps": 100,
    "weights": {"unit": "gradient", "content": 1.0, "style": 2.0},
    "record": {"progress": False},
}


def write_run(
    study: Path,
    metrics: Mapping[str, float] | None = None,
    *,
    loss: str = "gram",
    content: str = "sample:a",
    style: str = "sample:z",
    seed: int = 0,
    state: str = "completed",
    inputs: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Write the folder of a run; ``settings`` are dotted names with values, ``{}`` empties the node."""
    config = copy.deepcopy(_CONFIG)
    config["pictures"].update(content=content, style=style)
    config["seed"] = seed
    config["loss"]["style"] = {
        name: {"_target_": f"nstbench.losses.{name}", "weight": 1.0, f"of_{name}": 0.5}
        for name in loss.split("+")
    }
    for name, value in (settings or {}).items():
        *nodes, last = name.split(".")
        node = config
        for each in nodes:
            node = node[each]
        if value == "REMOVED":
            node.pop(last)
        else:
            node[last] = value
    config["schedule"]["stages"][-1].update(size=config["size"], steps=config["steps"])
    words = [loss, content, style, f"s{seed}", *(str(v) for v in (settings or {}).values())]
    run_id = "-".join(words).replace("sample:", "").replace(":", "_").replace("/", "_")
    record = {
        "run_id": run_id,
        "state": state,
        "fingerprint": run_id,
        "study": study.name,
        "overrides": [],
        "config": config,
        "inputs": inputs or {"content": content, "style": [style], "start": None, "weights": "w"},
        "steps": 100,
        "evaluations": 100,
        "timings": {"setup_s": 0.5, "optimize_s": 8.0, "evaluate_s": 1.0},
        "final_losses": {"loss/total": 1.0},
        "metrics": dict(metrics or {}) if state == "completed" else {},
        "directions": {name: _direction(name) for name in metrics or {}},
        "unavailable_metrics": {"lpips_alex": "its weights are not here"},
        "error": "UserError: too big\nin two lines" if state == "failed" else None,
        **changes,
    }
    folder = study / run_id
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(record, indent=2))
    if state == "completed":
        (folder / "canvas.png").write_bytes(PNG)
    return folder


def _direction(metric: str) -> str:
    return "max" if metric in ("ssim", "ms_ssim", "psnr") else "min"
