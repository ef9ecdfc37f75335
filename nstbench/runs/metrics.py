"""Metrics of a finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from nstbench.config.schema import Node
from nstbench.errors import UserError
from nstbench.metrics.base import Subject
from nstbench.metrics.evaluate import Judgement, judge
from nstbench.pictures.io import read_picture
from nstbench.runs.inputs import content_at, styles_at
from nstbench.runs.preparation import Prepared
from nstbench.runtime.files import storage
from nstbench.tracking.record import RunRecord


def compute_metrics(
    metrics: Mapping[str, Node], folder: Path, prepared: Prepared, formulations: Sequence[str]
) -> Judgement:
    """Evaluate metrics on the picture as it was written, in 8 bits, against the pictures at its size.

    Args:
        metrics: Nodes of the metrics, by name.
        folder: Folder of the run.
        prepared: Parts of the run.
        formulations: Style losses that the run optimised.
    """
    stage, inputs = prepared.stages[-1], prepared.inputs
    subject = Subject(
        picture=_read_canvas(folder),
        content=content_at(inputs, stage.shape),
        styles=styles_at(inputs, stage.style_shapes),
        blend=inputs.blend,
        optimized=prepared.encoder,
        formulations=list(formulations),
    )
    return judge(metrics, subject)


def _read_canvas(folder: Path) -> Tensor:
    path = folder / "canvas.png"
    try:
        return read_picture(path)
    except UserError:
        with storage(folder, path):
            path.stat()  # a folder that was removed meanwhile is not an error in a setting
        raise


def missing_metrics(record: RunRecord, asked: Mapping[str, Node]) -> dict[str, Node]:
    """Return the nodes of the metrics that the record of a finished run does not have."""
    recorded = record.config["metrics"]
    return {
        name: node
        for name, node in asked.items()
        if recorded.get(name) != node or name in record.unavailable_metrics
    }


def store_metrics(record: RunRecord, judgement: Judgement) -> None:
    """Put the metrics of a run, their directions and what was unavailable into its record."""
    record.metrics.update(judgement.values)
    record.directions.update(judgement.directions)
    for name in judgement.values:
        record.unavailable_metrics.pop(name, None)
        record.unavailable_metrics.pop(
            name.split("/")[0], None
        )  # the metric's name, where it has several numbers
    record.unavailable_metrics.update(judgement.unavailable)
