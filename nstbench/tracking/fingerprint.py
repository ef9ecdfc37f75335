"""What makes two runs the same run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Settings that leave the picture as it is: where results go, what is logged, judged and shown,
# and on which machine. Everything else is part of the fingerprint.
LEAVES_THE_PICTURE = frozenset({"study", "output", "record", "logger", "metrics", "trainer"})


def what_makes_the_picture(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a plain, resolved configuration that decides what the picture will be.

    Pictures are left out, because their bytes matter and not their paths; so is whether weights
    may be downloaded.
    """
    relevant = {k: v for k, v in config.items() if k not in LEAVES_THE_PICTURE}
    left_out = {"pictures": {"content", "style", "max_pixels"}, "encoder": {"download"}}
    for section, keys in left_out.items():
        relevant[section] = {k: v for k, v in config[section].items() if k not in keys}
    return relevant


def fingerprint(config: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """Return 64 hexadecimal digits that identify the picture a run will make.

    Args:
        config: the plain, resolved configuration.
        inputs: hashes of the pictures and weights.
    """
    identity = {"config": what_makes_the_picture(config), "inputs": inputs}
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
