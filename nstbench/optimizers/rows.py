"""The state of an optimiser whose parameters are rows of a batch: one canvas each.

A checkpoint holds the state of one canvas, so that a run can be continued in a batch or alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop, Rprop

from nstbench.optimizers.lbfgs import LBFGS

# Each parameter changes by its own derivative alone, so a batch is optimised like one canvas.
_ELEMENTWISE = (SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop, Rprop)

State = dict[str, Any]
"""What ``state_dict`` returns."""


def can_be_batched(optimizer: Optimizer) -> bool:
    """Return whether the optimiser moves every canvas of a batch as if it were alone."""
    return type(optimizer) in (LBFGS, *_ELEMENTWISE)


def keep_rows(optimizer: Optimizer, module: nn.Module, rows: Sequence[int], size: int) -> None:
    """Remove all but some canvases of a batch from ``module`` and from its optimiser.

    The parameters are replaced by new ones, as those in an autograd graph cannot change their shape.

    Args:
        optimizer: Optimiser of the module's parameters.
        module: Canvas with the parameters of the batch.
        rows: Places of the canvases that stay.
        size: Number of canvases in the batch.
    """
    for owner in module.modules():
        for name, old in list(owner.named_parameters(recurse=False)):
            new = nn.Parameter(old.data[list(rows)])
            setattr(owner, name, new)
            for group in optimizer.param_groups:
                group["params"][:] = [new if p is old else p for p in group["params"]]
            if old in optimizer.state:
                state = optimizer.state.pop(old)
                optimizer.state[new] = {key: _take(value, rows, size) for key, value in state.items()}


def state_of_row(optimizer: Optimizer, row: int, size: int) -> State:
    """Return the state of one canvas of a batch of ``size``, as if it were alone."""
    state: State = optimizer.state_dict()
    if size == 1:
        return state
    of_row = {
        number: {name: _take(value, [row], size) for name, value in of_parameter.items()}
        for number, of_parameter in state["state"].items()
    }
    return {"state": of_row, "param_groups": state["param_groups"]}


def join_states(states: Sequence[State]) -> State:
    """Return the state of a batch, from those of its canvases."""
    if len(states) == 1:
        return states[0]
    own: list[Mapping[Any, Any]] = [state["state"] for state in states]
    joined = {
        number: {name: _join([s[number][name] for s in own]) for name in of_parameter}
        for number, of_parameter in own[0].items()
    }
    return {"state": joined, "param_groups": states[0]["param_groups"]}


def _take(value: Any, rows: Sequence[int], size: int) -> Any:
    if isinstance(value, Tensor):
        # A number, such as Adam's count of steps, belongs to all; optimisers change it in place.
        return value[list(rows)] if value.dim() and len(value) == size else value.clone()
    if isinstance(value, list) and value and isinstance(value[0], Tensor):  # one for each pair of a history
        return [_take(each, rows, size) for each in value]
    return [value[i] for i in rows] if isinstance(value, list) and value else value


def _join(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(list(values)) if first.dim() else first.clone()
    if not isinstance(first, list):
        return first
    if any(isinstance(each, Tensor) for value in values for each in value):
        return _join_histories(values)
    return [each for value in values for each in value]


def _join_histories(histories: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Return histories as one; shorter ones are filled with zeros, which have no effect, as their ρ = 0."""
    like = next(each for history in histories for each in history)
    longest = max(len(history) for history in histories)
    return [
        torch.cat([h[k] if k < len(h) else torch.zeros_like(like) for h in histories]) for k in range(longest)
    ]
