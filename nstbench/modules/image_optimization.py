"""The LightningModule of online style transfer: the canvas is the only parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nstbench.blockwise.objective import BlockwiseObjective
from nstbench.canvas.base import Canvas
from nstbench.encoders.base import Encoder, Features
from nstbench.errors import NonFiniteObjectiveError
from nstbench.modules.not_finite import not_finite_at_start
from nstbench.modules.plateau import Plateau
from nstbench.modules.precision import Encoding, Precision
from nstbench.objective.objective import Objective, Values
from nstbench.objective.units import Measure
from nstbench.runtime.tensor_file import digest

Targets = Mapping[str, Mapping[str, Any]]
OptimizerFactory = Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Evaluation:
    """One computation of the objective and its gradient, as callbacks see it.

    Attributes:
        index: evaluations made before this one, over all stages: the canvas is ``index`` old.
        step: optimiser steps made before this one, over all stages.
        stage: which stretch of the schedule.
        values: of the objective; its tensors are detached.
        picture: the canvas that was evaluated, ``(B, 3, H, W)``, unclamped and detached.
    """

    index: int
    step: int
    stage: int
    values: Values
    picture: Tensor


class EvaluationCallback(pl.Callback):
    """A Lightning callback that also hears of every evaluation.

    Lightning counts optimiser steps; a step of L-BFGS with a line search evaluates several times,
    and evaluations are what costs time. See DESIGN: evaluations are the x axis of every curve.
    """

    def on_evaluation(self, module: ImageOptimization, evaluation: Evaluation) -> None:
        """Called after the gradient is computed, before the canvas is changed."""


class ImageOptimization(pl.LightningModule):
    """Optimise a canvas so that its feature maps minimise an objective, one stage of a schedule.

    Optimisation is manual: with automatic optimisation Lightning calls ``training_step`` once per
    *evaluation* of L-BFGS, and whatever is logged there repeats. The encoder is kept out of
    checkpoints.

    Args:
        canvas: painted with what the stage starts from; on the device of the run.
        encoder: frozen.
        objective: with its targets and units, on the same device.
        optimizer: from parameters to a ``torch.optim`` optimiser.
        precision: of the encoder; the canvas, targets, losses and optimiser stay in float32.
        plateau: when to stop before the stage's steps are made; None: never.
        compile: see `nstbench.modules.precision.Encoding`.
        channels_last: likewise.
        stage: its place in the schedule, for the record.
        evaluations: made by earlier stages.
        steps_before: Steps made by earlier stages.
        stage_steps: Steps of this stage.
        stages_done: what became of them; checkpoints keep it.
        tile: encode blocks of about so many pixels on a side, one after the other; None: all at once.

    Attributes:
        stage_step: Steps of this stage that have been made, by earlier attempts too.
        batch: Number of runs with which the canvas was last optimised as one batch, this one included.
        optimized: Digest of the parameters as the optimiser, or the checkpoint, last left them.

    Raises:
        NonFiniteObjectiveError: from ``fit``, when the objective is NaN or infinite. `last_good` then
            holds the last canvas whose objective was finite.
    """

    def __init__(
        self,
        canvas: Canvas,
        encoder: Encoder,
        objective: Objective,
        optimizer: OptimizerFactory,
        *,
        precision: Precision = "fp32",
        plateau: Plateau | None = None,
        compile: bool = False,
        channels_last: bool = False,
        stage: int = 0,
        evaluations: int = 0,
        steps_before: int = 0,
        stage_steps: int = 0,
        stages_done: Sequence[dict[str, Any]] = (),
        tile: int | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.canvas, self.encoder, self.objective = canvas, encoder, objective
        self.make_optimizer = optimizer
        self.encoding = Encoding(encoder, precision, compile=compile, channels_last=channels_last)
        self.plateau, self.stopped_early = plateau, False
        self.stage_steps, self.stage_step = stage_steps, 0
        self.batch = 1
        self.optimized: str | None = None
        self.optimizer_state: dict[str, Any] | None = None  # of a checkpoint, for the next optimiser
        self._random_state: Tensor | None = None
        self.is_exact = False
        self.stage = stage
        self.evaluations, self.steps_before = evaluations, steps_before
        self.stages_done = list(stages_done)
        self._targets: dict[str, Targets] = {}
        self.last_good: Tensor | None = None
        self.blocks = None if tile is None else BlockwiseObjective(encoder, self.encode, objective, tile)

    def train_dataloader(self) -> DataLoader[int]:
        """Return a loader that never ends: one epoch, stopped by ``max_steps``."""
        return DataLoader(cast("Dataset[int]", range(10**9)), batch_size=None)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser of the canvas, in the state of the checkpoint where one is continued."""
        optimizer = self.make_optimizer(self.canvas.parameters())
        if self.optimizer_state is not None:
            optimizer.load_state_dict(self.optimizer_state)
            self.optimizer_state = None  # of several times the canvas's size
        return optimizer

    def on_train_start(self) -> None:
        """Continue the random numbers of the checkpoint."""
        self.batch = 1
        if self._random_state is not None:
            torch.set_rng_state(self._random_state)

    def on_train_end(self) -> None:
        """Remember what the optimiser left, so that nothing else can be recorded as its result."""
        groups = cast(LightningOptimizer, self.optimizers()).optimizer.param_groups
        self.optimized = digest(p for group in groups for p in group["params"])

    @property
    def step(self) -> int:
        """Steps made, over all stages and attempts."""
        return self.steps_before + self.stage_step

    @property
    def is_at_end(self) -> bool:
        """Whether the stage has no steps left: all are made, or the objective is on a plateau."""
        return self.stopped_early or self.stage_step >= self.stage_steps

    def training_step(self, batch: int, batch_idx: int) -> None:
        """Let the optimiser take one step; it evaluates as often as it wants."""
        self.objective.set_draw(self.step)
        if self.encoding.settles(self.stage_step, self.stage_steps):
            self._take_targets()
        optimizer = cast(LightningOptimizer, self.optimizers())
        with self.encoding.in_force(self.device):
            optimizer.step(closure=self._evaluate)
        self.stage_step += 1
        if self.plateau is not None and self.plateau.reached:
            self.stopped_early = self.trainer.should_stop = True

    def encode(self, pictures: Tensor, layers: Sequence[str] | None = None) -> Features:
        """Return the maps of ``layers``, or of the objective's, in the stage's or in `full_precision`."""
        encode = self.encoding.full_precision if self.is_exact else self.encoding
        return encode(pictures, self.objective.layers if layers is None else layers)

    @contextmanager
    def full_precision(self) -> Iterator[None]:
        """Encode in float32, whatever the stage's precision."""
        before, self.is_exact = self.is_exact, True
        try:
            yield
        finally:
            self.is_exact = before

    def values(self) -> tuple[Values, Tensor]:
        """Evaluate the objective on the canvas; return it and the pictures."""
        picture = self.canvas()
        if self.blocks is not None:
            return self.blocks(picture, gradient=False)[0], picture
        return self.objective(self.encode(picture), picture), picture

    @property
    def measure(self) -> Measure | None:
        """How terms are measured where they are computed in blocks; None: on the whole canvas."""
        return None if self.blocks is None else self.blocks.measured

    def set_targets(self, exact: Targets, rounded: Targets) -> None:
        """Keep the targets for canvases that are encoded in float32 or TF32, and those for bfloat16.

        Rounding moves the statistics of features a little, to one side. A canvas in bfloat16 that is
        compared with a picture in bfloat16 does not see it; compared with one in float32 it makes up
        for what is not there, and ends 6 % higher instead of 2 % (docs/speed.md).
        """
        self._targets = {"exact": exact, "rounded": rounded}
        self._take_targets()

    def _take_targets(self) -> None:
        if self._targets:
            rounded = self.encoding.phase(self.device) == "bf16"
            self.objective.targets = self._targets["rounded" if rounded else "exact"]

    def final_values(self) -> Values:
        """Evaluate the objective on the canvas in float32, whatever the stage's precision."""
        if self._targets:
            self.objective.targets = self._targets["exact"]
        with torch.no_grad(), self.full_precision():
            return self.values()[0]

    def _evaluate(self) -> Tensor:
        self.canvas.zero_grad(set_to_none=True)
        # Each canvas's objective depends on its own pixels only, so the sum has each one's gradient.
        if self.blocks is None:
            values, picture = self.values()
            self.manual_backward(values.total.sum())
        else:
            picture = self.canvas()
            values, gradient = self.blocks(picture)
            self.manual_backward(picture, gradient)
        total = values.total.sum()
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        self.note(_detached(values), picture.detach().clone(), self.step, callbacks)
        return total

    def note(self, values: Values, picture: Tensor, step: int, callbacks: Iterable[pl.Callback]) -> None:
        """Take note of an evaluation, and tell those callbacks that hear of them.

        Raises:
            NonFiniteObjectiveError: the objective is NaN or infinite.
        """
        try:
            total = check_finite(values, self.evaluations)
        except NonFiniteObjectiveError as error:
            if self.evaluations:
                raise
            raise not_finite_at_start(self, values, picture) from error
        self.last_good = picture
        evaluation = Evaluation(self.evaluations, step, self.stage, values, picture)
        for callback in callbacks:
            if isinstance(callback, EvaluationCallback):
                callback.on_evaluation(self, evaluation)
        self.evaluations += 1
        self._update_plateaus(total)

    def _update_plateaus(self, total: float) -> None:
        """Let those hear the objective who wait for it to stall."""
        self.encoding.plateau.update(total)
        # The objective in bfloat16 ends elsewhere than in float32: what is left then counts from anew.
        if self.plateau is not None and not self.encoding.is_provisional(self.device):
            self.plateau.update(total)

    def state(self) -> dict[str, Any]:
        """Return all of a checkpoint but the optimiser's state (`nstbench.callbacks.checkpoint.Saved`)."""
        return {
            "canvas": self.canvas.state_dict(),
            "stage": self.stage,
            "steps_before": self.steps_before,
            "stage_step": self.stage_step,
            "evaluations": self.evaluations,
            "scales": {t.name: t.scales for t in self.objective.terms},
            "random_state": torch.get_rng_state(),
            "encoding": self.encoding.state_dict(),
            "plateau": [] if self.plateau is None else self.plateau.state_dict(),
            "stopped_early": self.stopped_early,
            "stages_done": self.stages_done,
        }

    def restore(self, saved: Any) -> None:
        """Take the state of a checkpoint, at once and without training a step.

        Args:
            saved: Sound checkpoint of the run and stage (`nstbench.callbacks.checkpoint.Saved`).

        Raises:
            RuntimeError: The checkpoint is of another canvas.
        """
        self.canvas.load_state_dict(saved.canvas)
        self.optimized = digest(saved.canvas[name] for name, _ in self.canvas.named_parameters())
        self.optimizer_state, self._random_state = saved.optimizer, saved.random_state
        self.evaluations, self.stage_step = saved.evaluations, saved.stage_step
        self.batch = len(saved.company)
        for term in self.objective.terms:
            term.scales = saved.scales[term.name]
        self.encoding.load_state_dict(saved.encoding)
        self._take_targets()
        if self.plateau is not None:
            self.plateau.load_state_dict(saved.plateau)
        self.stopped_early = saved.stopped_early

    def check_optimized(self) -> None:
        """Check that the canvas is what the optimiser left.

        Raises:
            RuntimeError: It is not: a fault of ours, which must not end as a finished run.
        """
        if self.optimized is None or digest(self.canvas.parameters()) != self.optimized:
            raise RuntimeError("the canvas is not the one that was optimised")


def check_finite(values: Values, evaluations: int) -> float:
    """Return the objective, summed over the batch; raise if it is NaN or infinite.

    Raises:
        NonFiniteObjectiveError: naming the terms.
    """
    total = float(values.total.detach().sum())
    if not isfinite(total):
        bad = [name for name, v in values.unweighted.items() if not torch.isfinite(v).all()]
        raise NonFiniteObjectiveError(
            f"the objective became {total} after {evaluations} evaluations "
            f"(terms: {', '.join(bad) or 'the sum'})"
        )
    return total


def _detached(values: Values) -> Values:
    return Values(
        values.total.detach(),
        {k: v.detach() for k, v in values.unweighted.items()},
        {k: v.detach() for k, v in values.weighted.items()},
    )
