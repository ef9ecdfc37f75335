"""Dashboards: wandb, TensorBoard and CSV, several at once, as views of the run record."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from nstbench.errors import UserError
from nstbench.tracking.fingerprint import is_path
from nstbench.tracking.record import RunRecord
from nstbench.tracking.wandb_login import wandb_files_under, wandb_mode
from nstbench.tracking.writer_threads import silence_writer_threads

log = logging.getLogger(__name__)

# Seconds to wait for wandb's server, which a node of a cluster may never reach.
_WANDB_PATIENCE = 30.0


@dataclass(frozen=True)
class RunInfo:
    """What a dashboard shows of a run besides its curves.

    Attributes:
        run_id: Name of the run.
        study: Name of the study, by which wandb groups runs.
        folder: Folder of the run.
        tags: Names of the encoder, its weights, the optimiser and the style losses.
        config: Resolved configuration as a plain dict, with the fingerprint and the hashes of the inputs.
    """

    run_id: str
    study: str
    folder: Path
    tags: Sequence[str]
    config: Mapping[str, Any]

    @classmethod
    def of(cls, record: RunRecord, folder: Path) -> RunInfo:
        """Return what dashboards show of a run, from its record."""
        encoder = record.config["encoder"]
        tags = [
            _class_name(encoder),
            *(str(encoder[key]) for key in ("model", "shape") if key in encoder),
            *(weights for weights in [encoder.get("weights")] if weights and not is_path(weights)),
            _class_name(record.config["optimizer"]),
            *record.config["loss"]["style"],
        ]
        config = {**record.config, "fingerprint": record.fingerprint, "inputs": record.inputs}
        unique = dict.fromkeys(tag[:64] for tag in tags)  # wandb takes no longer ones
        return cls(record.run_id, record.study, folder, list(unique), config)


def wandb_logger(
    run: RunInfo,
    project: str = "nstbench",
    entity: str | None = None,
    mode: Literal["auto", "online", "offline"] = "auto",
) -> Logger:
    """Return a wandb logger; all runs of a study share one ``wandb/`` folder and one group.

    Every attempt at a run is a separate wandb run: offline, wandb cannot continue one.

    Args:
        run: Run that is logged.
        project: Project in wandb.
        entity: User or team in wandb.
        mode: Mode of wandb. ``auto``: online if the user is logged in and the server answers, offline
            otherwise; the environment variable ``WANDB_MODE`` takes precedence. Offline runs are shown by
            ``wandb leet <output>/<study>/wandb`` and uploaded by ``wandb sync``.

    Raises:
        UserError: The settings are refused by wandb, or ``mode`` is ``online`` and wandb cannot go online.
    """
    import wandb

    logging.raiseExceptions = False  # or a full disk gives a traceback for each line of wandb's own logs
    wanted = wandb_mode() if mode == "auto" else mode
    own = f"{str(run.config.get('fingerprint', run.run_id))[:8]}-{secrets.token_hex(3)}"
    # `wandb agent` sets the run's id and project; with others the run would not belong to its sweep.
    agent = by_agent()
    run_id = os.environ.get("WANDB_RUN_ID", own) if agent else own

    def start(mode: str | None) -> Any:
        with wandb_files_under(run.folder.parent / "wandb"):
            return wandb.init(
                project=None if agent else project,
                entity=None if agent else entity,
                id=None if agent else run_id,
                name=run.run_id,
                group=os.environ.get("WANDB_RUN_GROUP", run.study),
                job_type="stylize",
                tags=list(run.tags),
                config=dict(run.config),
                # Absolute, as wandb's service has another working folder: that of the first run.
                dir=str(run.folder.parent.absolute()),
                mode=mode,  # type: ignore[arg-type]
                # Otherwise wandb logs to a run that the caller has open, in a notebook for instance.
                reinit="create_new",
                settings=wandb.Settings(
                    silent=wanted != "online", console="off", init_timeout=_WANDB_PATIENCE
                ),
            )

    try:
        # With mode=None, wandb also reads what `wandb offline` wrote to its settings files.
        experiment = start(None if mode == "auto" and wanted != "offline" else wanted)
    except (wandb.Error, ValueError) as error:
        reason = str(error).splitlines()[0]
        for failed in (run.folder.parent / "wandb").glob(f"run-*-{run_id}"):
            shutil.rmtree(failed, ignore_errors=True)
        if wanted != "online":
            raise UserError("logger.wandb", f"{{project: {project}, entity: {entity}}}", reason) from error
        if mode == "online":
            hint = "Type wandb login, or choose logger.wandb.mode=offline."
            raise UserError("logger.wandb.mode", mode, reason, hint) from error
        log.warning("wandb stays offline, because it cannot go online: %s", reason)
        os.environ["WANDB_MODE"] = "offline"  # the other runs of this process need not wait for it again
        return wandb_logger(run, project, entity, mode)
    # Without `experiment`, Lightning starts the run, and makes wandb draw every curve over a step of
    # Lightning's own that is not logged here.
    return WandbLogger(experiment=experiment, save_dir=str(run.folder.parent), project=project)


def by_agent() -> bool:
    """Return whether ``wandb agent`` started this process, for a run of its sweep."""
    return bool(os.environ.get("WANDB_SWEEP_ID"))


def tensorboard_logger(run: RunInfo) -> Logger:
    """Return a TensorBoard logger: ``tensorboard --logdir <output>`` shows all runs.

    Raises:
        UserError: TensorBoard is not installed.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401 - Lightning also accepts tensorboardX
    except ImportError as error:
        hint = 'Install it with pip install "nstbench[dash]", or choose logger=[wandb] or logger=[csv].'
        raise UserError("logger", "tensorboard", "TensorBoard is not installed", hint) from error
    silence_writer_threads()
    logger = TensorBoardLogger(save_dir=str(run.folder), name="", version=_unused_name(run, "tensorboard"))
    logger.hparams.update(_flatten({k: v for k, v in run.config.items() if k not in _NO_HYPERPARAMETERS}))
    return logger


def csv_logger(run: RunInfo) -> Logger:
    """Return a logger of Lightning's ``metrics.csv``, with pictures as PNGs beside it."""
    version = _unused_name(run, "csv")
    return CSVLogger(save_dir=str(run.folder), name="", version=version, flush_logs_every_n_steps=1)


_NO_HYPERPARAMETERS = frozenset({"fingerprint", "inputs", "logger", "metrics", "output", "record", "trainer"})


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Return a nested configuration as scalars by dotted names, as TensorBoard needs them."""
    flat: dict[str, bool | int | float | str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat


def _class_name(node: Mapping[str, Any]) -> str:
    return str(node["_target_"]).rpartition(".")[2]


def _unused_name(run: RunInfo, name: str) -> str:
    """Return ``name``, or ``name-2``, …: an earlier attempt at the run keeps its curves, as in wandb."""
    names = (name if n == 1 else f"{name}-{n}" for n in count(1))
    return next(n for n in names if not (run.folder / n).exists())
