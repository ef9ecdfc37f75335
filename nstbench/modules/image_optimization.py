"""The LightningModule of image optimisation: canvases are the only parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nstbench.canvas.base import Canvas
from nstbench.errors import NonFiniteObjectiveError
from nstbench.modules.member import Member
from nstbench.modules.not_finite import not_finite_at_start
from nstbench.objective.objective import Objective, TermError
from nstbench.objective.values import BatchValues
from nstbench.optimizers.lbfgs import LBFGS
from nstbench.optimizers.rows import State, join_states, keep_rows, state_of_row
from nstbench.runtime.interruption import stop_requested
from nstbench.runtime.tensor_file import digest

OptimizerFactory = Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]


class ImageOptimization(pl.LightningModule):
    """Optimise one or several canvases, each by its own objective, for one stage of their schedules.

    The canvases are encoded as one batch and moved by one optimiser, in which each has a state of its own. A
    canvas whose objective becomes NaN, or whose callbacks or losses raise, leaves the batch with its error in
    `Member.error`; the others continue as if it had never been in the batch.

    Optimisation is manual: with automatic optimisation Lightning calls ``training_step`` once per
    *evaluation* of L-BFGS, and whatever is logged there repeats. The encoder is no part of the module: it
    is not moved between devices when a fit begins and ends.

    Args:
        members: Canvases with their objectives. Several agree in size, steps, precision, encoder, layers,
            form of the canvas and optimiser, and in the step that they have reached (`nstbench.runs.batch`).
        make_optimizer: Function from parameters to a ``torch.optim`` optimiser.

    Attributes:
        members: Canvases that are still optimised, in the order of the rows of the parameters.
        stopping: Whether the user has asked to stop; read once per step, so that all runs stop at one step.
    """

    def __init__(self, members: Sequence[Member], make_optimizer: OptimizerFactory) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.members, self.make_optimizer = list(members), make_optimizer
        self.canvas = _joined([member.canvas for member in members])
        self.stopping = False
        self.searches = False  # whether the optimiser needs the objective of every canvas
        self._last_evaluation: tuple[BatchValues, Tensor] | None = None  # not yet read from the device

    def train_dataloader(self) -> DataLoader[int]:
        """Return a loader that never ends: one epoch, stopped by ``max_steps``."""
        return DataLoader(cast("Dataset[int]", range(10**9)), batch_size=None)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser of the canvases, in the state of their checkpoints if there are any."""
        optimizer = self.make_optimizer(self.canvas.parameters())
        if isinstance(optimizer, LBFGS):
            optimizer.bounds = self.canvas.bounds
            self.searches = optimizer.param_groups[0]["line_search"] is not None
        states = [member.optimizer_state for member in self.members]
        if all(state is not None for state in states):
            optimizer.load_state_dict(join_states(cast("list[State]", states)))
        for member in self.members:
            member.optimizer_state = None  # it is several times as large as the canvas
        return optimizer

    def on_train_start(self) -> None:
        """Make the members' canvases rows of this one, join their objectives, and restore random numbers."""
        for member in self.members:
            member.batch = len(self.members)
        self._join_members()  # after Lightning has moved the canvas
        if (state := self.members[0].random_state) is not None:
            torch.set_rng_state(state)

    def training_step(self, batch: int, batch_idx: int) -> None:
        """Move every canvas by one step, for which the optimiser may evaluate several times."""
        first = self.members[0]
        self.objective.set_draw(first.progress.step)
        if first.encoding.end_bf16_if_due(first.progress.stage_step, first.progress.stage_steps):
            first.use_targets_of_phase()
        optimizer = cast(LightningOptimizer, self.optimizers())
        while self.members:
            try:
                with first.encoding.tf32_allowed(self.device):
                    optimizer.step(closure=self._evaluate)
                    self._record_evaluation()
                    self.canvas.confine()
            except TermError as failure:  # before the step, or in a line search, which has no other members
                self.leave(self._find_failing(failure))
            except _NoneLeftError:
                return
            else:
                break
        for member in self.members:
            member.progress.stage_step += 1
            if member.progress.plateau is not None and member.progress.plateau.reached:
                member.progress.stopped_early = self.trainer.should_stop = True  # a batch of one
        self.stopping = stop_requested()

    def on_train_end(self) -> None:
        """Record a digest of every canvas after its last step, for `Member.check_optimized`."""
        groups = cast(LightningOptimizer, self.optimizers()).optimizer.param_groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        for row, member in enumerate(self.members):
            member.optimized = digest(self._row(parameter, row) for parameter in parameters)

    def state_of(self, member: Member) -> State:
        """Return the state of the optimiser for one canvas."""
        optimizer = cast(LightningOptimizer, self.optimizers()).optimizer
        return state_of_row(optimizer, self.members.index(member), len(self.members))

    def leave(self, errors: Mapping[int, Exception]) -> None:
        """Remove members from the batch; end the fit if none is left.

        Args:
            errors: Errors of the members to remove, by row.
        """
        for row, error in errors.items():
            self.members[row].error = error
        staying = [row for row in range(len(self.members)) if row not in errors]
        size, self.members = len(self.members), [self.members[row] for row in staying]
        if not staying:
            self.trainer.should_stop = True
            return
        keep_rows(cast(LightningOptimizer, self.optimizers()).optimizer, self.canvas, staying, size)
        self._join_members()

    def _evaluate(self) -> Tensor:
        if self._last_evaluation is not None:  # a line search evaluates again
            self._record_evaluation()
        self.canvas.zero_grad(set_to_none=True)
        pictures = self.canvas()
        first = self.members[0]
        # Each canvas's objective depends on its own pixels only, so the sum has each one's gradient.
        if first.blocks is None:
            totals, values = self.objective(first.encode(pictures, self.objective.layers), pictures)
            self.manual_backward(totals.sum())
        else:
            unweighted, gradient = first.blocks(pictures)
            totals, values = first.values_of(unweighted)
            self.manual_backward(pictures, gradient)
        self._last_evaluation = values, pictures.detach().clone()
        # PyTorch's own optimisers expect one number.
        return totals.detach() if self.searches else totals.sum()

    def _record_evaluation(self) -> None:
        """Record the last evaluation with every member; those that fail leave the batch.

        The values are read after the optimiser has begun to compute the step, so that a GPU does not wait.

        Raises:
            _NoneLeftError: No member is left.
        """
        assert self._last_evaluation is not None
        (values, pictures), self._last_evaluation = self._last_evaluation, None
        leaving: dict[int, Exception] = {}
        for row, (member, of_member) in enumerate(zip(self.members, values.read(), strict=True)):
            picture = pictures[row : row + 1]
            try:
                member.record_evaluation(of_member, picture)
            except NonFiniteObjectiveError as error:
                at_start = member.progress.evaluations == 0
                leaving[row] = not_finite_at_start(member, of_member, picture) if at_start else error
            except Exception as error:
                leaving[row] = error
        if leaving:
            self.leave(leaving)
        if not self.members:
            raise _NoneLeftError

    def _find_failing(self, failure: TermError) -> dict[int, Exception]:
        """Return the rows for which a term cannot be evaluated, and why; all of them if it is not known."""
        if len(failure.rows) == 1:
            return {failure.rows[0]: failure.error}
        found: dict[int, Exception] = {}
        for row in failure.rows:
            try:
                with torch.no_grad():
                    self.members[row].evaluate()
            except TermError as error:
                found[row] = error.error
            except Exception as error:
                found[row] = error
        return found or dict.fromkeys(failure.rows, failure.error)

    def _join_members(self) -> None:
        """Make each member's canvas a view of its row, and join the objectives."""
        for row, member in enumerate(self.members):
            if member.canvas is not self.canvas:
                for own, joined in zip(member.canvas.parameters(), self.canvas.parameters(), strict=True):
                    own.data = self._row(joined.data, row)
        self.objective = Objective([member.terms for member in self.members], self.device)

    def _row(self, parameter: Tensor, row: int) -> Tensor:
        return parameter if len(self.members) == 1 else parameter[row : row + 1]


class _NoneLeftError(Exception):
    """No canvas is left to optimise, which ends the step of the optimiser."""


def _joined(canvases: Sequence[Canvas]) -> Canvas:
    """Return one canvas with the parameters of several, each of which has one picture."""
    if len(canvases) == 1:
        return canvases[0]
    batch = deepcopy(canvases[0])
    rows = zip(*(canvas.parameters() for canvas in canvases), strict=True)
    for parameter, of_each in zip(batch.parameters(), rows, strict=True):
        parameter.data = torch.cat([p.data for p in of_each])
    return batch
