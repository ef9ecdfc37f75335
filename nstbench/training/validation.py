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
    """Return the typed configuration of a training, or raise `UserError` for the first thing wrong."""
    config = typed_configuration(composed, TrainConfig, "nstbench train")
    check_study(config.study, "train")
    bank = config.bank
    if bank.held_out >= bank.pictures:
        reason = f"it leaves none of the {bank.pictures} pictures of a texture to learn from"
        raise UserError("bank.held_out", bank.held_out, reason, "Give fewer, or more bank.pictures.")
    for i, phase in enumerate(config.phases):
        if phase.crop > bank.size:
            reason = f"the pictures it is cut from have {bank.size} pixels on a side"
            hint = f"Give a smaller one, or bank.size={phase.crop}."
            raise UserError(f"phases.{i}.crop", phase.crop, reason, hint)
    tasks = {"texture": config.tasks.texture, "histogram": config.tasks.histogram}
    tasks["reconstruction"] = config.tasks.reconstruction
    if not any(tasks.values()):
        raise UserError("tasks", tasks, "there is nothing to learn", "Give one a weight: tasks.texture=1.")
    for name, node in config.logger.items():
        check_node(f"logger.{name}", node, frozenset({"run"}))
    return config
