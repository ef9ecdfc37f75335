"""The encoders by which metrics of finished runs were computed, as their records name them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nstbench.analysis.records import Study  # it imports pandas, which the end of a run does not need

_TRAINED, _RANDOM = "EfficientNetLite0", "RandomVGG"


def describe_judge(node: Mapping[str, Any]) -> str:
    """Return the encoder of a metric's node in words, such as ``VGG (weights vgg19)``; "" if it has none."""
    encoder = node.get("encoder")
    if not isinstance(encoder, Mapping):
        return ""
    name = str(encoder.get("_target_", "")).rpartition(".")[2] or "an unknown encoder"
    weights = encoder.get("weights")
    if name == _RANDOM:
        return _describe_random(encoder)
    if name == _TRAINED and weights == "efficientnet_lite0":
        return "EfficientNet-Lite0 (trained on ImageNet)"
    if name == "ProceduralVGG" and weights == "shipped":
        return "the encoder that ships (trained on procedural textures)"
    if name == "ProceduralVGG" and weights == "distilled":
        return "the encoder distilled from a VGG-16, which ships"
    return f"{name} (weights {weights})" if weights is not None else name


def _describe_random(encoder: Mapping[str, Any]) -> str:
    shape = str(encoder.get("shape", "vgg19")).upper().replace("VGG", "VGG-")
    width = encoder.get("width", 0.5)
    size = {1: "", 0.5: " of half width"}.get(width, f" of width {width}") if _is_number(width) else ""
    return f"a {shape}{size} with random weights (seed {encoder.get('seed', 1)})"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def judges(study: Study, metric: str) -> dict[str, int]:
    """Return the encoders by which a metric of the study was computed, and the number of runs of each.

    Different settings of encoders that have one description are counted apart. A metric without an encoder
    has none.
    """
    name, column = metric.split("/")[0], f"metric/{metric}"
    valued = study.runs.get(column)
    runs = Counter[str]()
    described: dict[str, str] = {}
    for row, record in enumerate(study.records):
        node = record.config["metrics"].get(name)
        if valued is None or record.state != "completed" or node is None or valued.isna().iloc[row]:
            continue
        if words := describe_judge(node):
            key = json.dumps(node["encoder"], sort_keys=True)
            described[key] = words
            runs[key] += 1
    times = Counter(described.values())
    return {
        words if times[words] == 1 else f"{words} as {key}": runs[key] for key, words in described.items()
    }


def sentences(study: Study, metrics: Sequence[str]) -> list[str]:
    """Return by which encoders metrics of the study were computed, and what to type if they are several."""
    lines = []
    for metric in metrics:
        found = judges(study, metric)
        if len(found) == 1:
            lines.append(f"{metric} is judged by {next(iter(found))}.")
        elif found:
            lines.append(f"{metric} {differing(found)} Only runs of one judge are compared. {remedy(study)}")
    return lines


def differing(found: Mapping[str, int]) -> str:
    """Return a clause on the numbers of runs that different encoders judged."""
    each = ", ".join(f"by {words} in {number}" for words, number in found.items())
    return f"was judged {each} runs: these numbers are not comparable."


def remedy(study: Study) -> str:
    """Return what to type so that one encoder judges all runs of the study."""
    optimised = {str(r.config.get("encoder", {}).get("_target_")).rpartition(".")[2] for r in study.records}
    chosen = "random" if _TRAINED in optimised else "efficientnet_lite0"
    return (
        f"Type the command of the study again with judge={chosen}: finished runs are judged again, and no "
        f"picture is made again."
    )
