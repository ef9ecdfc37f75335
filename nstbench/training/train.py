"""One training of the procedural encoder, start to end."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from nstbench.encoders.build import build_encoder
from nstbench.encoders.procedural.weights import read_weights, write_weights
from nstbench.errors import NonFiniteObjectiveError, UserError
from nstbench.formatting import duration
from nstbench.runtime.device import choose_device, device_name, fast_bf16
from nstbench.runtime.files import write_text
from nstbench.runtime.tensor_file import DamagedFileError, read_tensors
from nstbench.runtime.trainer import fit, save_checkpoint
from nstbench.tracking.dashboards import Dashboards
from nstbench.tracking.files import append_row, drop_rows, remove_if_empty, run_folder, run_id, write_config
from nstbench.tracking.fingerprint import NOT_IN_FINGERPRINT, canonical
from nstbench.tracking.lock import alone_in
from nstbench.tracking.loggers import RunInfo
from nstbench.tracking.record import remove_checkpoints, versions
from nstbench.training.distillation import LAYERS
from nstbench.training.evaluation import Accuracy, held_out_accuracy
from nstbench.training.export import exported
from nstbench.training.module import TextureTraining, drawing_processes
from nstbench.training.schema import TrainConfig
from nstbench.training.textures.bank import bank_bytes, bank_file, open_bank, render

log = logging.getLogger(__name__)

_CLIP = 5.0  # largest norm of a gradient
_CROPS = (64, 128)  # sides of the collages of the evaluation
_FEW_CLASSES = 512  # of another evaluation, to compare banks of more programs


@dataclass(frozen=True)
class Trained:
    """The result of `train`.

    Attributes:
        folder: Folder of the training, with weights, curves and record.
        weights: File of weights, for ``encoder.weights``.
        sha256: Hash of that file.
        accuracies: Accuracies on held-out pictures.
        seconds: Duration of training over all attempts, in seconds.
        skipped: Whether the training was finished before.
    """

    folder: Path
    weights: Path
    sha256: str
    accuracies: list[Accuracy]
    seconds: float
    skipped: bool = False


def train(config: TrainConfig, console: Console | None = None) -> Trained:
    """Render the textures, train, evaluate and export; continue where an earlier attempt stopped.

    Args:
        config: Configuration, from ``conf/train.yaml``.
        console: Console for progress; standard error by default.

    Raises:
        UserError: If a setting cannot be used; nothing was written.
        NonFiniteObjectiveError: If the training diverged; its weights are not exported.
        StorageError: If a file cannot be written; the same command continues the training.
    """
    console = console or Console(stderr=True)
    device = choose_device(config.trainer.accelerator, config.trainer.threads)
    relevant = settings_of_weights(config)
    identity = hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()
    folder = run_folder(config.output, config.study, run_id(["encoder", f"s{config.seed}"], identity))
    with alone_in(folder):
        done = _finished(folder)
        if done:
            return done
        precision = config.precision
        if precision == "auto":
            precision = "bf16" if fast_bf16(device) else "fp32"
        info = RunInfo(folder.name, config.study, folder, ["train", precision], config.plain)
        textures = folder.parent
        try:
            _check_teacher(config)
            _check_disk_space(config, textures)
            dashboards = Dashboards.open(config.logger, info)
        except UserError:
            remove_if_empty(folder)
            raise
        trained = None
        try:
            write_config(folder, config.plain)
            _render(config, textures, console)
            pl.seed_everything(config.seed, verbose=False)
            module = TextureTraining(config, open_bank(config.bank, textures))
            seconds = _fit(config, module, folder, dashboards, device, precision, console)
            trained = _conclude(config, module.to(device), folder, device, precision, seconds)
        finally:
            metrics = _metrics(trained.accuracies) if trained else {}
            steps = sum(phase.steps for phase in config.phases)
            dashboards.finish(metrics, step=steps, success=trained is not None)
        remove_checkpoints(folder)
    return trained


def settings_of_weights(config: TrainConfig) -> dict[str, Any]:
    """Return the settings on which the weights depend; those of a distillation only if it is one."""
    relevant = {k: v for k, v in config.plain.items() if k not in NOT_IN_FINGERPRINT}
    if not config.tasks.features:
        del relevant["teacher"]
        relevant["tasks"] = {k: v for k, v in relevant["tasks"].items() if k != "features"}
    if not config.photographs:
        del relevant["photographs"]
    return canonical(relevant)  # type: ignore[no-any-return]


def _check_teacher(config: TrainConfig) -> None:
    """Raise UserError if the weights of a teacher are missing, or it has other layers."""
    if config.tasks.features and config.teacher is not None:
        build_encoder(config.teacher).check(LAYERS, "encoder@teacher")


def _check_disk_space(config: TrainConfig, folder: Path) -> None:
    """Raise UserError if the textures do not fit on the disk: a full disk kills the worker processes."""
    needed, free = bank_bytes(config.bank), shutil.disk_usage(folder).free
    if needed > free and not bank_file(config.bank, folder).exists():
        reason = f"the textures take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free there"
        raise UserError("output", config.output, reason, "Type another folder, or fewer bank.programs.")


def _render(config: TrainConfig, folder: Path, console: Console) -> None:
    """Draw the textures, unless their file exists."""
    if bank_file(config.bank, folder).exists():
        return
    megabytes = bank_bytes(config.bank) / 1e6
    console.print(
        f"drawing {config.bank.pictures} pictures of each of {config.bank.programs} textures"
        f" ({megabytes:,.0f} MB in {folder})"
    )
    workers = config.trainer.threads or torch.get_num_threads()
    # Closed explicitly: after Ctrl-C a traceback would keep it, and its workers, alive.
    with (
        closing(render(config.bank, folder, workers)) as drawing,
        _bar(console, config.record.progress) as bar,
    ):
        task = bar.add_task("textures", total=config.bank.programs, values="")
        for done in drawing:
            bar.update(task, completed=done)


def _fit(
    config: TrainConfig,
    module: TextureTraining,
    folder: Path,
    dashboards: Dashboards,
    device: torch.device,
    precision: str,
    console: Console,
) -> float:
    """Train, and return the duration over all attempts, in seconds."""
    checkpoint = folder / "checkpoint.ckpt"
    before = _progress(checkpoint)
    if not before["step"]:
        checkpoint = folder / "checkpoint.previous.ckpt"
        before = _progress(checkpoint)
    done = before["step"]
    predicted = _predict(module, device, precision, done)
    left = f"{done} of {module.steps} steps are done; " if done else ""
    console.print(
        f"training on {device_name(device)} in {precision}: {left}about {duration(predicted)} to go"
    )
    with _bar(console, config.record.progress) as bar:
        task = bar.add_task("training", total=module.steps, completed=done, values="")
        recorder = _Recorder(config, folder, dashboards, bar, task, before)
        fit(
            module,
            checkpoint if done else None,
            accelerator=config.trainer.accelerator,
            max_steps=module.steps,
            precision="bf16-mixed" if precision == "bf16" else "32-true",
            gradient_clip_val=_CLIP,
            deterministic=config.trainer.deterministic,
            callbacks=[recorder],
            default_root_dir=folder,
        )
    return recorder.seconds


def _predict(module: TextureTraining, device: torch.device, precision: str, done: int) -> float:
    """Return the duration of the remaining steps in seconds, from a few timed steps of each phase."""
    # The textures are not copied: they are gigabytes, mapped from the disk.
    trial = deepcopy(module, {id(module.bank): module.bank}).to(device).train()
    optimizer = trial.configure_optimizers()["optimizer"]
    seconds = 0.0
    ends = accumulate(phase.steps for phase in module.config.phases)
    for phase, end in zip(module.config.phases, ends, strict=True):
        first = end - phase.steps
        remaining = max(0, phase.steps - done)
        done = max(0, done - phase.steps)
        if not remaining:
            continue
        times = []
        for step in range(min(3, phase.steps)):
            start = time.perf_counter()
            batch = trial.draw(first + step)
            drawn = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                loss = trial.losses(batch)["loss"]
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize()
            ended, workers = time.perf_counter(), drawing_processes(device)
            times.append(max(ended - drawn, (drawn - start) / workers) if workers else ended - start)
        seconds += remaining * min(times)
    return seconds


class _Recorder(pl.Callback):
    """Writes curves and checkpoints, and updates the progress bar."""

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        dashboards: Dashboards,
        bar: Progress,
        task: Any,
        before: dict[str, Any],
    ) -> None:
        self.record, self.folder, self.dashboards = config.record, folder, dashboards
        self.bar, self.task = bar, task
        self.seconds_before, self.started = before["seconds"], time.monotonic()
        self.curves = folder / "curves.csv"
        drop_rows(self.curves, before["step"] + 1)

    @property
    def seconds(self) -> float:
        """Return the duration of training so far, over all attempts, in seconds."""
        return float(self.seconds_before + time.monotonic() - self.started)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write curves and a checkpoint if they are due after this step."""
        assert isinstance(pl_module, TextureTraining)
        step = trainer.global_step
        last = step == pl_module.steps
        curves = last or step % self.record.curves_every == 0
        checkpoint = self.record.checkpoint_every > 0 and step % self.record.checkpoint_every == 0
        if curves or checkpoint:
            _check_finite(pl_module, step)
        if curves:
            values = {name: float(value) for name, value in pl_module.measured.items()}
            self._write(step, pl_module.phase_at(step - 1).crop, values)
            parts = [f"{v:.2f}" for k, v in values.items() if k.startswith(("accuracy", "unexplained"))]
            what = "unexplained" if "features" in values else "accuracy"
            self.bar.update(self.task, values=f"loss {values['loss']:.2f} {what} {' '.join(parts)}")
        self.bar.update(self.task, completed=step)
        if checkpoint:
            save_checkpoint(trainer, self.folder / "checkpoint.ckpt")

    def state_dict(self) -> dict[str, Any]:
        """Return the duration of training, for the checkpoint."""
        return {"seconds": self.seconds}

    def _write(self, step: int, crop: int, values: dict[str, float]) -> None:
        row = {"step": step, "crop": crop, "seconds": round(self.seconds, 1), **values}
        append_row(self.curves, row)
        self.dashboards.log(step, {f"train/{k}": float(v) for k, v in row.items() if k != "step"})


def _check_finite(module: TextureTraining, step: int) -> None:
    """Raise NonFiniteObjectiveError if the training has diverged, before anything is written.

    The loss is that of the weights before the step: those after it may have diverged even if it is finite.
    """
    loss = module.measured["loss"]
    if not torch.isfinite(loss):
        raise NonFiniteObjectiveError(f"the loss became {float(loss)} by step {step}")
    for name, tensor in module.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise NonFiniteObjectiveError(f"{name} became infinite by step {step}")


def _conclude(
    config: TrainConfig,
    module: TextureTraining,
    folder: Path,
    device: torch.device,
    precision: str,
    seconds: float,
) -> Trained:
    """Evaluate the network on held-out pictures, write its weights and the record."""
    few = min(_FEW_CLASSES, config.bank.programs)
    asked = (few, config.bank.programs) if config.tasks.texture else ()
    accuracies = [
        held_out_accuracy(module, classes=classes, crop=crop)
        for classes in dict.fromkeys(asked)
        for crop in dict.fromkeys(min(crop, config.bank.size // 16 * 16) for crop in _CROPS)
    ]
    made_by = {"config": settings_of_weights(config), "versions": versions()}
    weights = folder / "encoder.safetensors"
    sha256 = write_weights(weights, exported(module.net.cpu(), module.bank), made_by)
    record = {
        "state": "completed",
        "weights": {"file": weights.name, "sha256": sha256},
        "accuracies": [asdict(a) for a in accuracies],
        "seconds": seconds,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "precision": precision,
        **made_by,
    }
    write_text(folder / "training.json", json.dumps(record, indent=2) + "\n")
    return Trained(folder, weights, sha256, accuracies, seconds)


def _finished(folder: Path) -> Trained | None:
    """Return the result of a finished training from its folder; None unless it is complete and valid."""
    try:
        record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        weights = folder / record["weights"]["file"]
        accuracies = [Accuracy(**a) for a in record["accuracies"]]
        _, sha256 = read_weights(weights)
        return Trained(folder, weights, sha256, accuracies, record["seconds"], skipped=True)
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return None


def _progress(checkpoint: Path) -> dict[str, Any]:
    """Return the steps and seconds of a checkpoint; zeros if none can be used."""
    try:
        saved = read_tensors(checkpoint)
        seconds = [s["seconds"] for s in saved["callbacks"].values() if "seconds" in s]
        return {"step": int(saved["global_step"]), "seconds": float(seconds[0])}
    except FileNotFoundError:
        pass
    except DamagedFileError as error:
        log.warning("%s is not used: %s", checkpoint, error)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        log.warning("%s is not used: another program wrote it", checkpoint)
    return {"step": 0, "seconds": 0.0}


def _metrics(accuracies: Sequence[Accuracy]) -> dict[str, float]:
    return {
        f"metrics/{layer}_{a.classes}classes_{a.crop}px": value
        for a in accuracies
        for layer, value in a.at.items()
    }


def _bar(console: Console, shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[values]}"),
        TimeRemainingColumn(compact=True),
        console=console,
        disable=not (shown and console.is_terminal),
        transient=True,
        expand=True,
    )
