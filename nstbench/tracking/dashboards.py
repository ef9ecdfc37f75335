"""The dashboards of one run, open together: what is logged goes to all of them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from torch import Tensor

from nstbench.config.instantiate import build
from nstbench.errors import StorageError
from nstbench.pictures.io import write_png
from nstbench.runtime.files import make_folder
from nstbench.tracking.loggers import RunInfo, by_agent
from nstbench.tracking.record import RunRecord

log = logging.getLogger(__name__)


class Dashboards:
    """The loggers of one run. One that fails is reported once, and nothing more is logged to it.

    Args:
        loggers: Loggers, such as `nstbench.tracking.loggers` makes them.
    """

    def __init__(self, loggers: Sequence[Logger] = ()) -> None:
        self.loggers = list(loggers)
        self._failed: set[int] = set()

    @classmethod
    def open(cls, nodes: Mapping[str, Mapping[str, Any]], run: RunInfo) -> Dashboards:
        """Return the loggers of a configuration's checked ``logger`` nodes, without those that cannot write.

        Raises:
            UserError: A logger cannot be built; those built before it are closed.
        """
        dashboards = cls()
        try:
            for name, node in nodes.items():
                try:
                    dashboards.loggers.append(build(node, run=run))
                except OSError as error:
                    _report_failure(name, error)
        except BaseException:
            dashboards.finish({}, step=0, success=False)
            raise
        return dashboards

    def log(
        self, step: int, scalars: Mapping[str, float], pictures: Mapping[str, Tensor] | None = None
    ) -> None:
        """Log scalars and pictures ``(3, H, W)`` in [0, 1] so that they share ``step``.

        Through Lightning, wandb would give media a step of its own; one call for both gives them the same
        step.
        """
        for logger in self._working():
            with self._failure_reported(logger):
                _log_step(logger, step, scalars, pictures or {})

    def finish(self, summary: Mapping[str, float], *, step: int, success: bool) -> None:
        """Log the final values and close every logger, so that the next run is logged separately.

        The record is written before this: a logger that fails here affects neither the run nor the others.

        Args:
            summary: Final losses, named as in the curves, and ``metrics/<name>``.
            step: Number of evaluations made.
            success: Whether the run was completed.
        """
        for logger in self._working():
            with self._failure_reported(logger, report=success):
                _finish(logger, summary, step, success)

    def _working(self) -> list[Logger]:
        return [logger for logger in self.loggers if id(logger) not in self._failed]

    @contextmanager
    def _failure_reported(self, logger: Logger, *, report: bool = True) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._failed.add(id(logger))
            if report:  # a failed run reports its own error, which is mostly the reason here too
                _report_failure(type(logger).__name__.removesuffix("Logger"), error)


def log_for_agent(nodes: Mapping[str, Mapping[str, Any]], record: RunRecord, folder: Path) -> None:
    """Log the result of a run that was finished before, if ``wandb agent`` waits for it.

    Args:
        nodes: Checked ``logger`` nodes of the configuration.
        record: Record of the run.
        folder: Folder of the run.
    """
    ours = {name: node for name, node in nodes.items() if str(node["_target_"]).endswith(".wandb_logger")}
    if not by_agent() or not ours:
        return
    summary = {**record.final_losses, **{f"metrics/{k}": v for k, v in record.metrics.items()}}
    dashboards = Dashboards.open(ours, RunInfo.of(record, folder))
    dashboards.finish(summary, step=record.evaluations, success=True)


def _report_failure(name: str, error: Exception) -> None:
    cause: BaseException = error
    while not isinstance(cause, OSError) and cause.__cause__ is not None:  # Lightning wraps it in its own
        cause = cause.__cause__
    reason = cause.reason if isinstance(cause, StorageError) else getattr(cause, "strerror", None)
    reason = reason or (str(error).strip().splitlines() or [type(error).__name__])[0]
    text = f"{name} failed and shows no more of this run, which continues without it: {reason}"
    print(f"nstbench: {text}", file=sys.stderr, flush=True)
    if logging.getLogger().handlers:  # without any, logging would print it as well
        log.warning(text)


def _log_step(
    logger: Logger, step: int, scalars: Mapping[str, float], pictures: Mapping[str, Tensor]
) -> None:
    if isinstance(logger, WandbLogger):
        import wandb

        images = {name: wandb.Image(_to_bytes(p)) for name, p in pictures.items()}
        logger.experiment.log({**scalars, **images}, step=step)
        return
    if scalars:
        logger.log_metrics(dict(scalars), step=step)
    for name, picture in pictures.items():
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, _to_bytes(picture), global_step=step, dataformats="HWC")
        elif isinstance(logger, CSVLogger):
            write_png(_picture_path(Path(logger.experiment.log_dir), name, step), picture)


def _finish(logger: Logger, summary: Mapping[str, float], step: int, success: bool) -> None:
    if isinstance(logger, WandbLogger):
        logger.experiment.summary.update(dict(summary))
        logger.experiment.finish(exit_code=0 if success else 1)
        return
    # The final losses are the last points of their curves already.
    metrics = {name: value for name, value in summary.items() if name.startswith("metrics/")}
    if metrics:
        logger.log_metrics(metrics, step=step)
    if isinstance(logger, TensorBoardLogger) and success:
        from torch.utils.tensorboard.summary import hparams

        # Not by Lightning, nor by add_hparams: both log the values again, as points at step 0.
        for part in hparams(dict(logger.hparams), dict(summary)):  # type: ignore[no-untyped-call]
            logger.experiment.file_writer.add_summary(part)
    logger.finalize("success" if success else "failed")


def _picture_path(folder: Path, name: str, step: int) -> Path:
    path = folder / "pictures" / f"{name.replace('/', '_')}_{step:06d}.png"
    make_folder(path.parent)
    return path


def _to_bytes(picture: Tensor) -> Any:
    return (picture.detach().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
