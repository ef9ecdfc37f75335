"""The fingerprint of a run: a hash of the settings and inputs that change the picture."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

# Settings that do not change the picture: where results are written, what is logged, measured and
# shown, and the device. All others are part of the fingerprint.
NOT_IN_FINGERPRINT = frozenset(
    {
        "study",
        "output",
        "retry_failed",
        "criterion",
        "panel",
        "panels",
        "formulas",  # their values are in the terms
        "record",
        "logger",
        "metrics",
        "judge",  # part of the metrics: where another encoder judges, finished runs are evaluated again
        "trainer",
    }
)


def fingerprinted_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a plain, resolved configuration that determines the picture.

    Paths of pictures and weights are left out: `fingerprint` includes hashes of their bytes instead. So is
    whether weights may be downloaded. Whole numbers become integers: 1 and 1.0 are the same setting.
    """
    relevant = {k: v for k, v in config.items() if k not in NOT_IN_FINGERPRINT}
    left_out = {
        "pictures": {"content", "style", "max_pixels", "cast", "guides"},
        "encoder": {"download"},
        "canvas": set[str](),
    }
    if config["canvas"]["start"] not in {"content", "style", "noise"}:
        left_out["canvas"].add("start")
    if is_path(config["encoder"].get("weights")):
        left_out["encoder"].add("weights")
    for section, keys in left_out.items():
        relevant[section] = {k: v for k, v in config[section].items() if k not in keys}
    schedule = relevant.get("schedule", {})
    if "plateau" in schedule and schedule["plateau"] is None:  # as in runs older than this setting
        relevant["schedule"] = {k: v for k, v in schedule.items() if k != "plateau"}
    _drop_default_controls(relevant, config["pictures"].get("guides") or {})
    return canonical(relevant)  # type: ignore[no-any-return]


def _drop_default_controls(relevant: dict[str, Any], guides: Mapping[str, Mapping[str, Any]]) -> None:
    """Remove default values of guides, colour, resizing and blocks, as in runs older than these settings."""
    if (relevant.get("blockwise") or {}).get("tile") is None:
        relevant.pop("blockwise", None)
    if guides:  # without the paths of masks, whose hashes are inputs
        chosen = [{"picture": g.get("picture", 0), "weight": g.get("weight", 1.0)} for g in guides.values()]
        relevant["pictures"]["guides"] = dict(zip(guides, chosen, strict=True))
    else:
        relevant["pictures"].pop("guide_propagation", None)
    if relevant["pictures"].get("resample") == "bicubic":
        relevant["pictures"].pop("resample")
    if relevant.get("colour", {}).get("control", "none") == "none":
        relevant.pop("colour", None)


def fingerprint(config: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """Return 64 hexadecimal digits that identify the picture of a run.

    Args:
        config: Plain, resolved configuration.
        inputs: Hashes of the pictures and weights.
    """
    identity = {"config": fingerprinted_settings(config), "inputs": inputs}
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def is_path(weights: object) -> bool:
    """Return whether ``weights`` is a path and not a name.

    Only the text is examined, not the disk, so that the answer is the same on every machine.
    """
    return isinstance(weights, str) and bool(PurePath(weights).suffix or PurePath(weights).name != weights)


def canonical(value: Any) -> Any:
    """Return a configuration with whole floats as integers: 1 and 1.0 are the same setting."""
    if isinstance(value, Mapping):
        return {str(k): canonical(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
