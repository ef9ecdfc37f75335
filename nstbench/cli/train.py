"""``nstbench train``: compose a training with Hydra, check it, and begin or continue it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from omegaconf import DictConfig

from nstbench.cli.composition.compose import with_hydra
from nstbench.cli.composition.errors import where_typed
from nstbench.cli.composition.overrides import overrides_from, split_arguments
from nstbench.cli.composition.program import Program
from nstbench.cli.composition.repeated import refuse_repeated
from nstbench.cli.output import report
from nstbench.config.resolvers import register_resolvers
from nstbench.errors import UserError
from nstbench.training.schema import TrainConfig
from nstbench.training.validation import validate_training

TRAIN = Program(
    "nstbench train", "train", TrainConfig, frozenset({"logger", "trainer", "training"}), sweeps=False
)


def main(arguments: Sequence[str]) -> int:
    """Run ``nstbench train`` with its arguments; see `nstbench.cli.main` for the exit status."""
    if {"--help", "-h"} & set(arguments):
        from nstbench.cli.help import print_training_help

        print_training_help(TRAIN.groups())
        return 0
    flags, typed, meaning = split_arguments(arguments, TRAIN.command)
    if meaning.multirun:
        hint = "Give every setting one value, and a command for each training."
        raise UserError("-m", "", "there are no sweeps of trainings", hint)
    overrides = overrides_from(_without_encoder(typed), TRAIN.shorthands)
    refuse_repeated(overrides, sweeps=False)
    register_resolvers()
    failures: list[Exception] = []

    def train_composed(composed: DictConfig) -> None:
        try:
            _train(composed)
        except Exception as failure:  # it must not reach Hydra, which would print lines of its own
            failures.append(failure)

    with _sigterm_exits():
        with_hydra(train_composed, flags, overrides, TRAIN)
    if failures:
        diverged, smaller = "Try a smaller learning_rate", "smaller batches: phases=…"
        return report(failures[0], "training", diverged=diverged, smaller=smaller)
    return 0


def _without_encoder(typed: Sequence[str]) -> list[str]:
    """Return the arguments without ``encoder=procedural``, the only encoder that can be trained."""
    rest = []
    for argument in typed:
        key, _, value = argument.partition("=")
        if key.lstrip("+") != "encoder":
            rest.append(argument)
        elif value != "procedural":
            hint = "Type encoder=procedural, or leave it out."
            raise UserError("encoder", value, "the only encoder that is trained here is procedural", hint)
    return rest


def _train(composed: DictConfig) -> None:
    try:
        config = validate_training(composed)
        # torch takes seconds to load, Lightning more: only after the settings are checked.
        from nstbench.cli.output import show_training
        from nstbench.training.train import train

        trained = train(config)
    except UserError as error:
        raise where_typed(error, composed) from error
    show_training(trained)


@contextmanager
def _sigterm_exits() -> Iterator[None]:
    """Make SIGTERM raise SystemExit, so that an incomplete bank of textures is removed."""

    def exit_with_status(signum: int, _: object) -> None:
        sys.exit(128 + signum)

    before = signal.signal(signal.SIGTERM, exit_with_status)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
