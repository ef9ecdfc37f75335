"""Dashboards: wandb, TensorBoard and CSV, several at once, as views of the run record."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from torch import Tensor

from nstbench.building import build
from nstbench.errors import UserError
from nstbench.pictures.io import write_png
from nstbench.tracking.login import logged_in
from nstbench.tracking.record import RunRecord


@dataclass(frozen=True)
class RunInfo:
    """What a dashboard shows of a run besides its curves.

    Attributes:
        run_id: its name.
        study: its group.
        folder: of the run.
        tags: encoder, losses, optimiser.
        config: resolved, as a plain dict, with the fingerprint.
    """

    run_id: str
    study: str
    folder: Path
    tags: Sequence[str]
    config: Mapping[str, Any]

    @classmethod
    def of(cls, record: RunRecord, folder: Path) -> RunInfo:
        """Return what dashboards show of a run, from its record."""
        optimizer = str(record.config["optimizer"]["_target_"]).rpartition(".")[2]
        encoder = str(record.config["encoder"]["_target_"]).rpartition(".")[2]
        tags = [encoder, optimizer, *record.config["loss"]["style"]]
        config = {**record.config, "fingerprint": record.fingerprint, "inputs": record.inputs}
        return cls(record.run_id, record.study, folder, tags, config)


def build_loggers(nodes: Mapping[str, Mapping[str, Any]], run: RunInfo) -> list[Logger]:
    """Return the dashboards of a configuration's checked ``logger`` nodes."""
    return [build(node, run=run) for node in nodes.values()]


def wandb_logger(
    run: RunInfo,
    project: str = "nstbench",
    entity: str | None = None,
    mode: Literal["auto", "online", "offline"] = "auto",
) -> Logger:
    """Return a wandb logger; all runs of a study share one ``wandb/`` folder and one group.

    Args:
        run: what is logged.
        project: in wandb.
        entity: user or team in wandb.
        mode: ``auto`` is online for those who are logged in, offline otherwise. Offline runs are
            seen with ``wandb leet <output>/<study>/wandb`` and uploaded with ``wandb sync``.
    """
    import wandb

    if mode == "auto":
        mode = "online" if logged_in() else "offline"
    return WandbLogger(
        name=run.run_id,
        save_dir=str(run.folder.parent),
        project=project,
        entity=entity,
        group=run.study,
        job_type="stylize",
        tags=list(run.tags),
        config=dict(run.config),
        # An attempt that was interrupted cannot be resumed offline: each attempt is a wandb run.
        id=f"{run.run_id}-{secrets.token_hex(3)}"[-120:],
        offline=mode == "offline",
        log_model=False,
        settings=wandb.Settings(silent=True, console="off"),
    )


def tensorboard_logger(run: RunInfo) -> Logger:
    """Return a TensorBoard logger: ``tensorboard --logdir <output>`` shows all runs."""
    try:
        return TensorBoardLogger(save_dir=str(run.folder), name="", version="tensorboard")
    except ModuleNotFoundError as error:
        hint = 'Install it with pip install "nstbench[dash]", or choose logger=[wandb] or logger=[csv].'
        raise UserError("logger", "tensorboard", "TensorBoard is not installed", hint) from error


def csv_logger(run: RunInfo) -> Logger:
    """Return a logger of Lightning's ``metrics.csv``, with pictures as PNGs beside it."""
    return CSVLogger(save_dir=str(run.folder), name="", version="csv", flush_logs_every_n_steps=1)


def log_step(
    loggers: Sequence[Logger],
    step: int,
    scalars: Mapping[str, float],
    pictures: Mapping[str, Tensor] | None = None,
) -> None:
    """Log scalars and pictures ``(3, H, W)`` in [0, 1] so that they share ``step``.

    wandb counts a step of its own for media logged through Lightning; one call for both keeps them together.
    """
    pictures = pictures or {}
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            images = {name: wandb.Image(_bytes(p)) for name, p in pictures.items()}
            logger.experiment.log({**scalars, **images}, step=step)
            continue
        if scalars:
            logger.log_metrics(dict(scalars), step=step)
        for name, picture in pictures.items():
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(name, picture.cpu(), global_step=step)
            elif isinstance(logger, CSVLogger):
                write_png(_media(Path(logger.log_dir), name, step), picture)


def finish(loggers: Sequence[Logger], summary: Mapping[str, float], *, success: bool) -> None:
    """Log the final values and close every dashboard's run, so that the next one is its own."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update(dict(summary))
            logger.experiment.finish(exit_code=0 if success else 1)
        else:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams({}, dict(summary))
            logger.finalize("success" if success else "failed")


def _media(folder: Path, name: str, step: int) -> Path:
    path = folder / "pictures" / f"{name.replace('/', '_')}_{step:06d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _bytes(picture: Tensor) -> Any:
    return (picture.detach().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
