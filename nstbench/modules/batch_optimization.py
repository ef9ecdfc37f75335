"""The LightningModule that optimises the canvases of several runs as one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.utils.data import DataLoader

from nstbench.canvas.base import Canvas
from nstbench.encoders.base import Features
from nstbench.objective.together import TermError, Together, Told
from nstbench.optimizers.rows import join, keep, of_batch
from nstbench.runs.attempts import Fit
from nstbench.runtime.tensor_file import digest


class BatchOptimization(pl.LightningModule):
    """Optimise the canvases of several runs together, one stage of their schedules.

    The canvases are encoded as one batch and moved by one optimiser, in which each has a state of its
    own. Each run's own `ImageOptimization` stays what its callbacks see: its canvas is a row of the
    batch's. A run whose objective becomes NaN, or whose callbacks or losses raise, leaves the batch; the
    others go on as if it had never been there.

    Args:
        fits: what the runs ask for: stages that agree in size, steps, precision, encoder, layers,
            canvas and optimiser, and in the step that they have reached.

    Attributes:
        fits: of the runs that are still in the batch, in the order of its rows.
        errors: why runs left, by their folder.
    """

    def __init__(self, fits: Sequence[Fit]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.fits = list(fits)
        self.errors: dict[str, Exception] = {}
        first = fits[0].module
        self.single = first.make_optimizer(first.canvas.parameters())
        self.canvas = _joined([fit.module.canvas for fit in fits])
        self.encoder = first.encoder

    def train_dataloader(self) -> DataLoader[int]:
        """Return a loader that never ends."""
        return self.fits[0].module.train_dataloader()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser of all canvases, in the state of their checkpoints."""
        optimizer = of_batch(self.single, self.canvas.parameters())
        states = [fit.module.optimizer_state for fit in self.fits]
        if all(state is not None for state in states):
            optimizer.load_state_dict(join(cast("list[dict[str, Any]]", states), optimizer))
        return optimizer

    def on_train_start(self) -> None:
        """Make the runs' own canvases rows of this one, and put their objectives together."""
        self._bind()  # Lightning may have moved the canvases
        for fit in self.fits:
            fit.module.batch = len(self.fits)
        self.together = self._put_together()

    def training_step(self, batch: int, batch_idx: int) -> None:
        """Move every canvas by one step."""
        step = self.fits[0].module.step
        self.together.set_draw(step)
        optimizer = cast(LightningOptimizer, self.optimizers())
        while self.fits:
            try:
                with self.fits[0].module.encoding.in_force(self.device):
                    optimizer.step(closure=self._evaluate)
            except TermError as failure:  # nothing has moved
                self.leave(self._blamed(failure))
            else:
                self._note(step)
                for fit in self.fits:
                    fit.module.stage_step += 1
                return

    def on_train_end(self) -> None:
        """Tell every run what the optimiser left of its canvas."""
        groups = cast(LightningOptimizer, self.optimizers()).optimizer.param_groups
        for row, fit in enumerate(self.fits):
            fit.module.optimized = digest(p[row : row + 1] for group in groups for p in group["params"])
            fit.module.optimizer_state = None

    def encode(self, pictures: Tensor) -> Features:
        """Return the feature maps that the objectives ask for, in the stage's precision."""
        return self.fits[0].module.encode(pictures)

    def _evaluate(self) -> Tensor:
        self.canvas.zero_grad(set_to_none=True)
        pictures = self.canvas()
        totals, told = self.together(self.encode(pictures), pictures)
        # Each canvas's objective depends on its own pixels only, so the sum has each one's gradient.
        total = totals.sum()
        self.manual_backward(total)
        self._evaluated: tuple[Told, Tensor] = told, pictures.detach().clone()
        return total

    def _note(self, step: int) -> None:
        """Tell every run of its evaluation; those that fail leave the batch."""
        told, pictures = self._evaluated
        leaving: dict[int, Exception] = {}
        for row, (fit, values) in enumerate(zip(self.fits, told.read(), strict=True)):
            try:
                fit.module.note(values, pictures[row : row + 1], step, fit.callbacks)
            except Exception as error:
                leaving[row] = error
        if leaving:
            self.leave(leaving)

    def _blamed(self, failure: TermError) -> dict[int, Exception]:
        """Return the rows that a term cannot be evaluated for, and why; all of them if it is not known."""
        if len(failure.rows) == 1:
            return {failure.rows[0]: failure.error}
        found: dict[int, Exception] = {}
        for row in failure.rows:
            module = self.fits[row].module
            try:
                with torch.no_grad():
                    module.values()
            except Exception as error:
                found[row] = error
        return found or dict.fromkeys(failure.rows, failure.error)

    def leave(self, errors: Mapping[int, Exception]) -> None:
        """Go on without some rows.

        Args:
            errors: Reasons, by row.
        """
        for row, error in errors.items():
            self.errors[str(self.fits[row].folder)] = error
        staying = [row for row in range(len(self.fits)) if row not in errors]
        size, self.fits = len(self.fits), [self.fits[row] for row in staying]
        if not staying:
            self.trainer.should_stop = True
            return
        optimizer = cast(LightningOptimizer, self.optimizers()).optimizer
        keep(optimizer, self.canvas, staying, size)
        self._bind()
        self.together = self._put_together()

    def _put_together(self) -> Together:
        return Together([fit.module.objective for fit in self.fits], self.device)

    def _bind(self) -> None:
        """Make each run's own canvas a view of its row."""
        for row, fit in enumerate(self.fits):
            own = fit.module.canvas.parameters()
            for parameter, of_batch_ in zip(own, self.canvas.parameters(), strict=True):
                parameter.data = of_batch_.data[row : row + 1]


def _joined(canvases: Sequence[Canvas]) -> Canvas:
    """Return one canvas with the parameters of several, each of which has one picture."""
    batch = deepcopy(canvases[0])
    rows = zip(*(canvas.parameters() for canvas in canvases), strict=True)
    for parameter, of_each in zip(batch.parameters(), rows, strict=True):
        parameter.data = torch.cat([p.data for p in of_each])
    return batch
