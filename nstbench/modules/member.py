"""A member: a canvas with its objective in one stage of its run, and its progress."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from nstbench.blockwise.objective import BlockwiseObjective
from nstbench.canvas.base import Canvas
from nstbench.encoders.base import Features
from nstbench.errors import NonFiniteObjectiveError
from nstbench.losses.base import Target
from nstbench.modules.plateau import Plateau
from nstbench.modules.precision import Encoding
from nstbench.objective.objective import Objective, check_terms, layers_of
from nstbench.objective.term import Term
from nstbench.objective.units import Measure
from nstbench.objective.values import BatchValues, TermValues, Values
from nstbench.runtime.tensor_file import digest

Targets = Mapping[str, Mapping[str, Target]]
"""Targets of every part of every term, by the term's name."""


@dataclass(frozen=True)
class Evaluation:
    """One computation of the objective and its gradient, as callbacks receive it.

    Attributes:
        index: Number of evaluations made before this one, over all stages.
        step: Number of optimiser steps made before this one, over all stages.
        stage: Place of the stage in the schedule, from 0.
        values: Values of the objective.
        picture: Canvas that was evaluated, ``(1, 3, H, W)``, unclamped and detached.
    """

    index: int
    step: int
    stage: int
    values: Values
    picture: Tensor


class EvaluationCallback(pl.Callback):
    """A Lightning callback of one run that is also called for every evaluation of its objective.

    Lightning counts optimiser steps; a step of L-BFGS with a line search evaluates several times,
    and nearly all time is spent in evaluations: they are the x axis of every curve.
    """

    def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
        """Called after the objective is computed."""


@dataclass
class Progress:
    """The progress of a run.

    Attributes:
        stage: Place of the present stage in the schedule, from 0.
        stage_steps: Steps that the stage has.
        stage_step: Steps of the stage that have been made, by earlier attempts too.
        steps_before: Steps of earlier stages.
        evaluations: Evaluations over all stages and attempts.
        plateau: Test that ends the stage before its steps are made; None: there is none.
        stopped_early: Whether that test has ended the stage.
        stages_done: Entries of earlier stages in the record.
    """

    stage: int = 0
    stage_steps: int = 0
    stage_step: int = 0
    steps_before: int = 0
    evaluations: int = 0
    plateau: Plateau | None = None
    stopped_early: bool = False
    stages_done: list[dict[str, Any]] = field(default_factory=list)

    @property
    def step(self) -> int:
        """Steps over all stages and attempts."""
        return self.steps_before + self.stage_step

    @property
    def is_at_end(self) -> bool:
        """Whether the stage has no steps left: all are made, or the objective is on a plateau."""
        return self.stopped_early or self.stage_step >= self.stage_steps


class Member:
    """A canvas with its objective; `nstbench.modules.image_optimization` optimises the canvas, alone or with
    others.

    Args:
        name: Name of the run.
        canvas: Canvas, painted with what the stage starts from; on the device of the run.
        terms: Terms of the objective.
        encoding: Encoder in the precision of the stage; canvas, targets, losses and optimiser stay in
            float32.
        progress: Progress of the run.
        tile: Size of the blocks that are encoded one after the other, in pixels; None: all at once.

    Attributes:
        callbacks: Callbacks of the run.
        batch: Number of canvases with which this one was last optimised as one batch, this one included.
        last_good: Last canvas whose objective was finite.
        error: Reason why the canvas is no longer optimised.
        optimized: Digest of the parameters as the optimiser, or the checkpoint, last left them.
        optimizer_state: State of the optimiser in a checkpoint, for the next optimiser.
        random_state: State of PyTorch's random numbers in a checkpoint.

    Raises:
        ValueError: There are no terms, or two have one name, or one cannot be computed in blocks.
    """

    def __init__(
        self,
        name: str,
        canvas: Canvas,
        terms: Sequence[Term],
        encoding: Encoding,
        progress: Progress,
        tile: int | None = None,
    ) -> None:
        check_terms(terms)
        self.name, self.canvas, self.terms = name, canvas, list(terms)
        self.encoding, self.progress = encoding, progress
        self.blocks = None
        if tile is not None:
            self.blocks = BlockwiseObjective(encoding.encoder, self.encode, self.terms, tile)
        self.callbacks: list[pl.Callback] = []
        self.batch = 1
        self.last_good: Tensor | None = None
        self.error: Exception | None = None
        self.optimized: str | None = None
        self.optimizer_state: dict[str, Any] | None = None
        self.random_state: Tensor | None = None
        self._in_full_precision = False
        self._targets: dict[str, Targets] = {}

    @property
    def device(self) -> torch.device:
        """Device of the canvas."""
        return next(self.canvas.parameters()).device

    @property
    def layers(self) -> list[str]:
        """Layers of the encoder that the terms need."""
        return layers_of(self.terms)

    @property
    def draws(self) -> dict[str, int]:
        """Number of the present draw of every term that samples."""
        return {t.name: t.draw for t in self.terms if t.loss.redraw_every}

    @property
    def phase(self) -> str:
        """Present precision of the encoder; ``full`` inside `full_precision`."""
        return "full" if self._in_full_precision else self.encoding.phase(self.device)

    def encode(self, pictures: Tensor, layers: Sequence[str] | None = None) -> Features:
        """Return the maps of ``layers``, by default those that the terms need, in the present precision."""
        encode = self.encoding.full_precision if self._in_full_precision else self.encoding
        return encode(pictures, self.layers if layers is None else layers)

    @contextmanager
    def full_precision(self) -> Iterator[None]:
        """Encode in float32, whatever the stage's precision."""
        before, self._in_full_precision = self._in_full_precision, True
        try:
            yield
        finally:
            self._in_full_precision = before

    def evaluate(self) -> tuple[Tensor, BatchValues]:
        """Evaluate the objective on the canvas; return it, ``(1,)``, and all values."""
        picture = self.canvas()
        if self.blocks is not None:
            return self.values_of(self.blocks(picture, gradient=False)[0])
        return Objective([self.terms], self.device)(self.encode(picture), picture)

    def values_of(self, unweighted: Mapping[str, Tensor]) -> tuple[Tensor, BatchValues]:
        """Return the objective, ``(1,)``, and all values, from the values of the terms."""
        values = [
            TermValues(t.name, [0], unweighted[t.name], t.weight * unweighted[t.name]) for t in self.terms
        ]
        total = torch.stack([value.weighted for value in values]).sum(0)
        return total, BatchValues(total, values, [[t.name for t in self.terms]])

    @property
    def targets(self) -> Targets:
        """Targets of the terms, as `set_targets` takes them."""
        return {term.name: dict(term.targets) for term in self.terms}

    @property
    def measure(self) -> Measure | None:
        """Function that measures terms where they are computed in blocks; None: they are not."""
        return None if self.blocks is None else self.blocks.measured

    def set_targets(self, exact: Targets, rounded: Targets) -> None:
        """Keep the targets for canvases that are encoded in float32 or TF32, and those for bfloat16.

        Rounding to bfloat16 biases the statistics of feature maps. If canvas and picture are both encoded
        in bfloat16, the bias cancels; if the picture is encoded in float32, the canvas compensates for the
        bias, and its final objective is 6 % higher instead of 2 % (docs/speed.md).
        """
        self._targets = {"exact": exact, "rounded": rounded}
        self.use_targets_of_phase()

    def use_targets_of_phase(self) -> None:
        """Use the targets that belong to the present precision."""
        if self._targets:
            rounded = self.encoding.phase(self.device) == "bf16"
            self._use(self._targets["rounded" if rounded else "exact"])

    def _use(self, targets: Targets) -> None:
        for term in self.terms:
            term.targets = dict(targets[term.name])

    def final_values(self) -> Values:
        """Evaluate the objective on the canvas in float32, whatever the stage's precision."""
        if self._targets:
            self._use(self._targets["exact"])
        with torch.no_grad(), self.full_precision():
            (values,) = self.evaluate()[1].read()
        return values

    def record_evaluation(self, values: Values, picture: Tensor) -> None:
        """Count an evaluation, and call the callbacks that receive evaluations.

        Raises:
            NonFiniteObjectiveError: The objective is NaN or infinite.
        """
        progress = self.progress
        check_finite(values, progress.evaluations)
        self.last_good = picture
        evaluation = Evaluation(progress.evaluations, progress.step, progress.stage, values, picture)
        for callback in self.callbacks:
            if isinstance(callback, EvaluationCallback):
                callback.on_evaluation(self, evaluation)
        progress.evaluations += 1
        self.encoding.plateau.update(values.total)
        # In bfloat16 the objective converges to another value: only the last phase counts.
        if progress.plateau is not None and not self.encoding.is_provisional(self.device):
            progress.plateau.update(values.total)

    def state(self) -> dict[str, Any]:
        """Return all of a checkpoint but the optimiser's state (`nstbench.callbacks.checkpoint.Saved`)."""
        progress = self.progress
        return {
            "canvas": self.canvas.state_dict(),
            "stage": progress.stage,
            "steps_before": progress.steps_before,
            "stage_step": progress.stage_step,
            "evaluations": progress.evaluations,
            "scales": {t.name: t.scales for t in self.terms},
            "random_state": torch.get_rng_state(),
            "encoding": self.encoding.state_dict(),
            "plateau": [] if progress.plateau is None else progress.plateau.state_dict(),
            "stopped_early": progress.stopped_early,
            "stages_done": progress.stages_done,
        }

    def restore(self, saved: Any) -> None:
        """Restore the state of a checkpoint.

        Args:
            saved: Undamaged checkpoint of the run and stage (`nstbench.callbacks.checkpoint.Saved`).

        Raises:
            RuntimeError: The checkpoint is of another canvas.
        """
        progress = self.progress
        self.canvas.load_state_dict(saved.canvas)
        self.optimized = digest(saved.canvas[name] for name, _ in self.canvas.named_parameters())
        self.optimizer_state, self.random_state = saved.optimizer, saved.random_state
        progress.evaluations, progress.stage_step = saved.evaluations, saved.stage_step
        self.batch = len(saved.company)
        for term in self.terms:
            term.scales = saved.scales[term.name]
        self.encoding.load_state_dict(saved.encoding)
        self.use_targets_of_phase()
        if progress.plateau is not None:
            progress.plateau.load_state_dict(saved.plateau)
        progress.stopped_early = saved.stopped_early

    def check_optimized(self) -> None:
        """Check that the canvas has not changed since the optimiser's last step.

        Raises:
            RuntimeError: It has, by an error in nstbench; the run must not be recorded as finished.
        """
        if self.optimized is None or digest(self.canvas.parameters()) != self.optimized:
            raise RuntimeError("the canvas is not the one that was optimised")


def check_finite(values: Values, evaluations: int) -> None:
    """Check that the objective is a number.

    Args:
        values: Values of the objective.
        evaluations: Number of evaluations before this one.

    Raises:
        NonFiniteObjectiveError: The objective is NaN or infinite; the message names the terms.
    """
    if not isfinite(values.total):
        bad = [name for name, value in values.unweighted.items() if not isfinite(value)]
        raise NonFiniteObjectiveError(
            f"the objective became {values.total} after {evaluations} evaluations "
            f"(terms: {', '.join(bad) or 'the sum'})"
        )
