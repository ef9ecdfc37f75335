"""Metrics of a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from nstbench.config.schema import Config, Node
from nstbench.encoders.base import Encoder
from nstbench.errors import UserError
from nstbench.metrics.base import Subject
from nstbench.metrics.evaluate import Judgement, judge
from nstbench.pictures.io import read_picture
from nstbench.runs.inputs import Inputs, canvas_shape, content_at, styles_at
from nstbench.runtime.files import storage
from nstbench.tracking.record import RunRecord


def compute_metrics(
    config: Config, metrics: Mapping[str, Node], folder: Path, inputs: Inputs, encoder: Encoder
) -> Judgement:
    """Judge the picture as it was written, in 8 bits, against the pictures at its size."""
    size = config.schedule.stages[-1].size
    shape = canvas_shape(config, inputs, size)
    subject = Subject(
        picture=_read_canvas(folder),
        content=content_at(inputs, shape),
        styles=styles_at(config, inputs, shape, size),
        blend=inputs.blend,
        optimized=encoder,
        formulations=list(config.loss.style),
    )
    return judge(metrics, subject)


def _read_canvas(folder: Path) -> Tensor:
    path = folder / "canvas.png"
    try:
        return read_picture(path)
    except UserError:
        with storage(folder, path):
            path.stat()  # a folder that was removed meanwhile is no mistake in a setting
        raise


def add_missing_metrics(
    config: Config, record: RunRecord, folder: Path, inputs: Inputs, encoder: Encoder
) -> RunRecord:
    """Add the metrics that a finished run was not asked for when it ran."""
    asked = {name for name in config.metrics if record.config["metrics"].get(name) != config.metrics[name]}
    asked |= config.metrics.keys() & record.unavailable_metrics.keys()
    if asked:
        metrics = {name: node for name, node in config.metrics.items() if name in asked}
        record.config["metrics"].update(metrics)
        store_metrics(record, compute_metrics(config, metrics, folder, inputs, encoder))
        record.write(folder)
    return record


def store_metrics(record: RunRecord, judgement: Judgement) -> None:
    """Put the metrics of a run, their directions and what was unavailable into its record."""
    record.metrics.update(judgement.values)
    record.directions.update(judgement.directions)
    for name in judgement.values:
        record.unavailable_metrics.pop(name, None)
        record.unavailable_metrics.pop(name.split("/")[0], None)  # of several numbers: as a whole
    record.unavailable_metrics.update(judgement.unavailable)
