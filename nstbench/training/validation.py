"""Checking the configuration of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from nstbench.config.instantiate import check_node
from nstbench.config.validation import check_study, typed_configuration
from nstbench.errors import UserError
from nstbench.training.schema import TrainConfig


def validate_training(composed: DictConfig | Mapping[str, Any]) -> TrainConfig:
    """Return the typed configuration of a training, or raise `UserError` for the first mistake."""
    config = typed_configuration(composed, TrainConfig, "nstbench train")
    check_study(config.study, "train")
    bank = config.bank
    if bank.held_out >= bank.pictures:
        reason = f"it leaves none of the {bank.pictures} pictures of a texture for training"
        raise UserError("bank.held_out", bank.held_out, reason, "Type fewer, or more bank.pictures.")
    for i, phase in enumerate(config.phases):
        if phase.crop > bank.size:
            reason = f"the pictures that are cropped have {bank.size} pixels on a side"
            hint = f"Type a smaller one, or bank.size={phase.crop}."
            raise UserError(f"phases.{i}.crop", phase.crop, reason, hint)
    tasks = {"texture": config.tasks.texture, "histogram": config.tasks.histogram}
    tasks["reconstruction"] = config.tasks.reconstruction
    tasks["features"] = config.tasks.features
    if config.tasks.features and config.teacher is None:
        hint = "Type training=distilled, or encoder@teacher=vgg16_hed."
        raise UserError("tasks.features", config.tasks.features, "there is no teacher", hint)
    if config.photographs and config.tasks.texture:
        reason = "the task of naming textures has no answer for photographs"
        raise UserError("photographs", config.photographs, reason, "Type 0, or tasks.texture=0.")
    if not any(tasks.values()):
        raise UserError("tasks", tasks, "all weights are 0", "Type one above 0: tasks.texture=1.")
    for name, node in config.logger.items():
        check_node(f"logger.{name}", node, frozenset({"run"}))
    return config
