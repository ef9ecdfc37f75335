"""What makes two runs the same run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

# Settings that leave the picture as it is: where results go, what is logged, judged and shown,
# and on which machine. Everything else is part of the fingerprint.
NOT_IN_FINGERPRINT = frozenset(
    {
        "study",
        "output",
        "retry_failed",
        "criterion",
        "panel",
        "panels",
        "formulas",  # what they say stands in the terms
        "record",
        "logger",
        "metrics",
        "trainer",
    }
)


def fingerprinted_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a plain, resolved configuration that decides what the picture will be.

    Paths of pictures and weights are left out, because their bytes matter, which `fingerprint` takes
    as hashes; so is whether weights may be downloaded. Whole numbers are integers, however they were
    typed: 1 and 1.0 are one setting.
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
    if "plateau" in schedule and schedule["plateau"] is None:  # as runs before there was such a setting
        relevant["schedule"] = {k: v for k, v in schedule.items() if k != "plateau"}
    _drop_default_controls(relevant, config["pictures"].get("guides") or {})
    return canonical(relevant)  # type: ignore[no-any-return]


def _drop_default_controls(relevant: dict[str, Any], guides: Mapping[str, Mapping[str, Any]]) -> None:
    """Say of controls, resizing and blocks what is chosen; of defaults nothing, as runs before them."""
    if (relevant.get("blockwise") or {}).get("tile") is None:
        relevant.pop("blockwise", None)
    if guides:  # masks are hashed; a name is a name
        chosen = [{"picture": g.get("picture", 0), "weight": g.get("weight", 1.0)} for g in guides.values()]
        relevant["pictures"]["guides"] = dict(zip(guides, chosen, strict=True))
    else:
        relevant["pictures"].pop("guide_propagation", None)
    if relevant["pictures"].get("resample") == "bicubic":
        relevant["pictures"].pop("resample")
    if relevant.get("colour", {}).get("control", "none") == "none":
        relevant.pop("colour", None)


def fingerprint(config: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """Return 64 hexadecimal digits that identify the picture a run will make.

    Args:
        config: The plain, resolved configuration.
        inputs: Hashes of the pictures and weights.
    """
    identity = {"config": fingerprinted_settings(config), "inputs": inputs}
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def is_path(weights: object) -> bool:
    """Tell a file from a name: by its looks, so that the answer is the same on every machine."""
    return isinstance(weights, str) and bool(PurePath(weights).suffix or PurePath(weights).name != weights)


def canonical(value: Any) -> Any:
    """Return a configuration with whole floats as integers: 1 and 1.0 are one setting."""
    if isinstance(value, Mapping):
        return {str(k): canonical(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
