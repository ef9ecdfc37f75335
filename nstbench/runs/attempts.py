"""Attempts at runs: generators that ask for each stage of theirs to be optimised.

A run on its own is an attempt whose stages are optimised as it asks for them. In a batch, those of several
attempts are optimised together. All else (reading, targets, recording, judging) is the attempt's own
business, and the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from nstbench.config.schema import Config, StageSettings
    from nstbench.modules.image_optimization import ImageOptimization

T = TypeVar("T")


@dataclass(frozen=True)
class Fit:
    """What an attempt asks for.

    Attributes:
        module: its canvas and objective, on their device; afterwards the canvas is optimised.
        config: of the run.
        stage: of its schedule.
        callbacks: that hear of the run.
        folder: of the run.
        company: Names of the runs in the batch whose checkpoint is continued, this one's included; None
            where the stage is begun anew.
        alone: does it, for this run alone.
    """

    module: ImageOptimization
    config: Config
    stage: StageSettings
    callbacks: list[pl.Callback]
    folder: Path
    company: tuple[str, ...] | None
    alone: Callable[[], None]


Attempt = Generator[Fit, None, T]
"""It raises whatever the run does; what is thrown into it is why a stage was not finished."""


@dataclass
class Waiting(Generic[T]):
    """An attempt that waits for a stage of its to be optimised.

    Attributes:
        attempt: the generator.
        fit: what it asks for.
    """

    attempt: Attempt[T]
    fit: Fit

    def go_on(self, error: BaseException | None = None) -> Waiting[T] | T:
        """Tell it that the stage is finished, or why it is not; return the next one, or the run's result."""
        return _advance(self.attempt, error)


def begin(attempt: Attempt[T]) -> Waiting[T] | T:
    """Start an attempt; return what it waits for, or its result if there is nothing to optimise."""
    return _advance(attempt)


def _advance(attempt: Attempt[T], error: BaseException | None = None) -> Waiting[T] | T:
    token = _at_work.set(id(attempt))
    try:
        return Waiting(attempt, next(attempt) if error is None else attempt.throw(error))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        _at_work.reset(token)


_at_work: ContextVar[int | None] = ContextVar("at_work", default=None)


def at_work() -> int | None:
    """Return which attempt is doing its own business; None while stages are optimised."""
    return _at_work.get()


def alone(attempt: Attempt[T]) -> T:
    """Carry out an attempt; return what it returns."""
    now: Waiting[T] | T = begin(attempt)
    while isinstance(now, Waiting):
        now = finish_stage(now)
    return now


def finish_stage(waiting: Waiting[T]) -> Waiting[T] | T:
    """Optimise the stage that an attempt waits for, alone, and go on."""
    try:
        waiting.fit.alone()
    except BaseException as error:
        return waiting.go_on(error)
    return waiting.go_on()


_together: ContextVar[bool] = ContextVar("together", default=False)


@contextmanager
def waiting_for_others() -> Iterator[None]:
    """Have `carried_out` return as soon as the attempt waits for a stage."""
    token = _together.set(True)
    try:
        yield
    finally:
        _together.reset(token)


def carried_out(attempt: Attempt[T]) -> Waiting[T] | T | Any:
    """Carry out an attempt alone; inside `waiting_for_others`, only begin it."""
    return begin(attempt) if _together.get() else alone(attempt)
